"""What is left of a run's learning in shorter weights: rounded to the nearest beside rounded at random.

    python -m bench.rounding MODEL TUNED HELDOUT.jsonl

TUNED is a folder with fp32 weights, or an adapter on MODEL. HELDOUT is a file of token ids as bench-peers lays them
into its cache (samples/.../heldout.jsonl). Prints the held-out loss of the model, of what was trained, and of its
weights in bf16 and fp16, both ways, by one scorer in fp32.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from bench.rig.score import score
from xiaozao.models.layers.rounding import rounded

SHORT = {"bf16": torch.bfloat16, "fp16": torch.float16}
Way = Callable[[Tensor, torch.dtype, str], Tensor]
WAYS: dict[str, Way] = {"to the nearest": lambda value, dtype, _: value.to(dtype), "at random": rounded}


def trained(model: str, tuned: Path) -> PreTrainedModel:
    """What was trained, as one model with fp32 weights."""
    adapter = (tuned / "adapter_config.json").is_file()
    whole: Any = AutoModelForCausalLM.from_pretrained(model if adapter else tuned, dtype=torch.float32)
    found: PreTrainedModel = PeftModel.from_pretrained(whole, str(tuned)).merge_and_unload() if adapter else whole
    return found


def shortened(model: str, tuned: Path, dtype: torch.dtype, way: Way, heldout: Path) -> float:
    """The held-out loss of the weights rounded that way."""
    whole = trained(model, tuned)
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        for key, parameter in whole.named_parameters():
            parameter.copy_(way(parameter.data, dtype, key))  # numbers of the shorter kind, scored in fp32
        whole.save_pretrained(name)
        for file in Path(model).glob("tokenizer*"):
            shutil.copy(file, name)
        return score(model, name, heldout, "none")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("tuned", type=Path)
    parser.add_argument("heldout", type=Path)
    given = parser.parse_args()
    for name, tuned in (("before training", "none"), ("as trained", str(given.tuned))):
        sys.stdout.write(f"{name}: {score(given.model, tuned, given.heldout, 'none'):.4f}\n")
    for kind, dtype in SHORT.items():
        for name, way in WAYS.items():
            loss = shortened(given.model, given.tuned, dtype, way, given.heldout)
            sys.stdout.write(f"{kind}, {name}: {loss:.4f}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
