"""Runs in 16 bits learn what the run in fp32 learns, as far as 16 bits tell apart."""

from pathlib import Path

import pytest

from tests.worker.test_reference import heard, make
from xiaozao.events import Noticed, Step
from xiaozao.worker import ready

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("options", [{}, {"base": "nf4"}, {"method": "full"}], ids=str)
def test_sixteen_bits_learn_as_thirty_two_do_and_slow_ones_are_told(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    monkeypatch.setattr(ready, "slow_fp16", lambda: True)
    losses, told = {}, {}
    for precision in ("fp32", "fp16", "bf16"):
        asked = {**options, "precision": precision, "epochs": 3, "learning_rate": 1e-2}
        events = heard(make(tmp_path / precision, model, "sft", **asked))
        losses[precision] = [one.loss for one in events if isinstance(one, Step)]
        told[precision] = [one.key for one in events if isinstance(one, Noticed)]
    assert losses["fp32"][-1] < losses["fp32"][0] - 0.2
    assert losses["fp16"] == pytest.approx(losses["fp32"], abs=0.004)
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.02)
    assert told == {"fp32": [], "fp16": ["slow_fp16"], "bf16": []}
