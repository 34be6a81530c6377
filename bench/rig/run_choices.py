"""Xiaozao's verdicts on the same files: `python -m bench.rig.run_choices MODEL FOLDER NAME...`.

Writes FOLDER/xiaozao.json.
"""

import json
import sys
import time
from pathlib import Path

import torch

from xiaozao.data.tokens import ChatTokenizer
from xiaozao.evaluate.record import Records
from xiaozao.evaluate.standard import Sitting
from xiaozao.evaluate.suite import read_choices
from xiaozao.models.load import load


def main() -> None:
    model, folder, *names = sys.argv[1:]
    decoder = load(Path(model), torch.float32, torch.device("cpu"))
    tokenizer = ChatTokenizer.from_folder(Path(model))
    told = {}
    with Records(Path(folder) / "answers.jsonl") as records:
        sitting = Sitting(
            who="base", decoder=decoder, tokenizer=tokenizer, records=records, on_event=lambda event: None,
            should_stop=lambda: False, tokens=1,
        )  # fmt: skip
        for name in names:
            suite = read_choices(name, Path(folder, f"{name}.jsonl"))
            begun = time.process_time()
            sitting.sit([suite])
            seconds = time.process_time() - begun
            right = [int(records.known["base", name, item.id].value) for item in suite.items]
            told[name] = {"seconds": seconds, "right": right}
    Path(folder, "xiaozao.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
