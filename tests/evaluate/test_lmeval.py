"""Multiple choice gets lm-eval's verdicts, item by item, on the real model. All items: `make bench-eval`."""

import json
from pathlib import Path

import pytest
import torch

from bench.evaluating import VERDICTS, arc, piqa
from tests.data.folders import shared_data
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.evaluate.record import Records
from xiaozao.evaluate.standard import Sitting
from xiaozao.evaluate.suite import read_choices
from xiaozao.models.load import load

ITEMS = 20


@pytest.mark.real
@pytest.mark.parametrize("task", ["arc_easy", "piqa"])
def test_every_item_is_judged_as_lm_eval_judges_it(
    task: str, real_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_DATA", str(shared_data("arc_easy/test.jsonl").parents[1]))
    rows = {"arc_easy": arc, "piqa": piqa}[task](ITEMS)
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    suite = read_choices(task, path)
    theirs = json.loads(VERDICTS.read_text(encoding="utf-8"))[task][:ITEMS]
    assert 0 < sum(theirs) < ITEMS
    with Records(tmp_path / "answers.jsonl") as records:
        sitting = Sitting(
            who="base", decoder=load(real_model, torch.float32, torch.device("cpu")), records=records, tokens=1,
            tokenizer=ChatTokenizer.from_folder(real_model), on_event=lambda event: None, should_stop=lambda: False,
        )  # fmt: skip
        sitting.sit([suite])
        ours = [int(records.known["base", task, item.id].value) for item in suite.items]
    assert ours == theirs
