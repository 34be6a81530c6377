"""The machine's pace: kept in the cache, measured when it is not there, and never in the way."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from xiaozao.measure import rates as module
from xiaozao.measure.calibrate import SMALL_CALLS, calibrate, small_block
from xiaozao.measure.rates import key, rates
from xiaozao.measure.work import Tally
from xiaozao.plan.duration import TYPICAL
from xiaozao.spec.pace import RATES, Asked, Rates
from xiaozao.spec.profile import COSTS

ASKED = Asked(1, "fp32")
Told = list[tuple[str, int, int]]


def counting(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Rates]) -> list[Asked]:
    """Instead of the process that measures; what it was asked."""
    asked: list[Asked] = []

    def measure(one: Asked) -> Rates:
        asked.append(one)
        return answer()

    monkeypatch.setattr(module, "measure", measure)
    monkeypatch.setattr(module, "busy", lambda: False)
    return asked


def test_what_was_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: Told = []
    asked = counting(monkeypatch, lambda: TYPICAL)
    for _ in range(2):
        assert rates(ASKED, lambda *one: told.append(one), tmp_path) == TYPICAL
    assert asked == [ASKED]
    assert told == [("calibrate", 0, 1), ("calibrate", 1, 1)]


def test_on_a_busy_machine_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counting(monkeypatch, lambda: TYPICAL)
    monkeypatch.setattr(module, "busy", lambda: True)
    assert rates(ASKED, lambda *_: None, tmp_path) is None and not asked
    monkeypatch.setattr(module, "busy", lambda: False)
    rates(ASKED, lambda *_: None, tmp_path)
    monkeypatch.setattr(module, "busy", lambda: True)
    assert rates(ASKED, lambda *_: None, tmp_path) == TYPICAL and len(asked) == 1


def test_a_damaged_file_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{key(ASKED)}.json").write_text('{"flops": 1}', encoding="utf-8")
    asked = counting(monkeypatch, lambda: TYPICAL)
    assert rates(ASKED, lambda *_: None, tmp_path) == TYPICAL
    assert len(asked) == 1
    assert RATES.validate_json((tmp_path / f"{key(ASKED)}.json").read_bytes()) == TYPICAL


def test_where_it_cannot_be_measured_there_is_none_and_none_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> Rates:
        raise subprocess.CalledProcessError(1, "calibrate")

    counting(monkeypatch, fails)
    assert rates(ASKED, lambda *_: None, tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_threads_dtype_and_processor_have_rates_of_their_own(tmp_path: Path) -> None:
    other = tmp_path / "cpuinfo"
    other.write_text("model name : another\n", encoding="utf-8")
    keys = {key(ASKED), key(replace(ASKED, threads=2)), key(replace(ASKED, precision="bf16")), key(ASKED, other)}
    assert len(keys) == 4


def test_every_rate_is_measured_as_a_positive_number() -> None:
    found = calibrate(replace(ASKED, bits=True))
    assert all(value > 0 for value in vars(found).values())
    plain = calibrate(ASKED)
    assert (plain.unpacked, plain.eight_bit) == (TYPICAL.unpacked, TYPICAL.eight_bit)


class Counting(TorchDispatchMode):
    """Counts operations as the trace of a step does."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        self.tally = Tally()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.tally.count(func, args, kwargs or {}, out)
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_call_is_what_the_work_of_a_step_counts_as_one(dtype: torch.dtype) -> None:
    block = small_block(dtype)
    with Counting() as counting:
        block()
    assert counting.tally.costs[COSTS.index("calls")] == SMALL_CALLS[dtype.itemsize]
