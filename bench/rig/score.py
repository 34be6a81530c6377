"""One scorer for all: the mean loss over the target tokens of held-out rows, with plain transformers and PEFT in fp32.

    python -m bench.rig.score BASE_MODEL TUNED_FOLDER HELDOUT.jsonl none|nf4

TUNED_FOLDER is an adapter, a model, or `none`. The last word is how the base stands under an adapter: an adapter that
was trained on an nf4 base is judged on one.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from torch.nn import functional
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

NF4 = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32
)


def score(base: str, tuned: str, heldout: Path, stored: str) -> float:
    """The mean loss. Reads an adapter in PEFT's format or a whole model."""
    adapter = (Path(tuned) / "adapter_config.json").is_file()
    start = base if adapter or tuned == "none" else tuned
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
        start, dtype=torch.float32, quantization_config=NF4 if stored == "nf4" else None
    )
    if adapter:
        model = PeftModel.from_pretrained(model, tuned)
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for line in heldout.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"][1:])
            logits = model(input_ids=ids).logits[0, :-1].float()
            total += float(functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
            count += int((labels != -100).sum())
    return total / count


def main() -> None:
    base, tuned, heldout, stored = sys.argv[1:5]
    sys.stdout.write(json.dumps({"loss": score(base, tuned, Path(heldout), stored)}) + "\n")


if __name__ == "__main__":
    main()
