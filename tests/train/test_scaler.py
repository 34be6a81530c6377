"""fp16: gradients that would vanish are scaled, an overflow costs no data, and too many of them end the run."""

import dataclasses

import pytest
import torch

from xiaozao.errors import TrainingError
from xiaozao.train.scaler import GROW, LARGEST, LIMIT, START, Scaler
from xiaozao.train.state import Position


def test_the_scale_is_halved_by_an_overflow_and_doubled_after_many_good_steps() -> None:
    scaler, progress = Scaler(torch.float16), Position()
    assert scaler.scale(progress) == START
    scaler.overflowed(progress)
    scaler.overflowed(progress)
    assert scaler.scale(progress) == START / 4 and progress.overflows == 2
    for _ in range(GROW):
        assert scaler.scale(progress) == START / 4
        scaler.succeeded(progress)
    assert scaler.scale(progress) == START / 2 and progress.overflows == 0
    for _ in range(20 * GROW):
        scaler.succeeded(progress)
    assert scaler.scale(progress) == LARGEST


def test_an_overflow_begins_the_count_of_good_steps_anew() -> None:
    scaler, progress = Scaler(torch.float16), Position()
    for _ in range(GROW - 1):
        scaler.succeeded(progress)
    scaler.overflowed(progress)
    scaler.succeeded(progress)
    assert scaler.scale(progress) == START / 2 and progress.good_steps == 1


def test_too_many_overflows_in_a_row_end_the_run_with_the_cause() -> None:
    scaler, progress = Scaler(torch.float16), Position(step=7)
    for _ in range(LIMIT):
        scaler.overflowed(progress)
    with pytest.raises(TrainingError, match=rf"step 8 overflowed in fp16 {LIMIT + 1} times in a row(.|\n)*precision="):
        scaler.overflowed(progress)


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_other_precisions_are_not_scaled_and_remember_nothing(compute: torch.dtype) -> None:
    scaler, progress = Scaler(compute), Position()
    scaler.succeeded(progress)
    assert not scaler.active and scaler.scale(progress) == 1.0
    assert dataclasses.asdict(progress) == dataclasses.asdict(Position())
