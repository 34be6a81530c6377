"""Runs in 16 bits learn what the run in fp32 learns, as far as 16 bits tell apart."""

from pathlib import Path

import pytest

from tests.worker.test_reference import heard, make
from xiaozao.events import Noticed, Step
from xiaozao.measure import fastest as precision
from xiaozao.spec.run import read_file

pytestmark = pytest.mark.usefixtures("own_cache")

ALIKE = "alike"  # what is told of toy chats, which ask nearly the same


@pytest.mark.parametrize("options", [{}, {"base": "nf4"}, {"method": "full"}], ids=str)
def test_sixteen_bits_learn_as_thirty_two_do_and_slow_ones_are_told(
    tmp_path: Path, model: Path, options: dict[str, object]
) -> None:
    precision.keep({"fp32": 100.0, "fp16": 20.0, "bf16": 60.0})
    losses, told = {}, {}
    for name in ("fp32", "fp16", "bf16"):
        asked = {**options, "precision": name, "epochs": 3, "learning_rate": 1e-2}
        events = heard(make(tmp_path / name, model, "sft", **asked))
        losses[name] = [one.loss for one in events if isinstance(one, Step)]
        told[name] = [(one.key, one.params) for one in events if isinstance(one, Noticed) and one.key != ALIKE]
    assert losses["fp32"][-1] < losses["fp32"][0] - 0.2
    assert losses["fp16"] == pytest.approx(losses["fp32"], abs=0.004)
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.02)
    assert told == {"fp32": [], "fp16": [("slow_half", {"precision": "fp16", "times": "5"})], "bf16": []}


def test_a_run_takes_the_dtype_that_was_measured_to_be_fast(tmp_path: Path, model: Path) -> None:
    for name, rate in (("bf16", 300.0), ("fp32", 3.0)):
        precision.keep({"fp32": 100.0, "fp16": 20.0, "bf16": rate})
        folder = make(tmp_path / name, model, "sft", precision="auto")
        heard(folder)
        assert read_file(folder.resolved)["precision"] == name
