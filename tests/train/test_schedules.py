"""Schedules are closed forms of the step."""

import math

import pytest

from xiaozao.train.schedules import learning_rate, warmup_steps


@pytest.mark.parametrize("steps", [1, 2, 10, 37, 100])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 5, 1000])
def test_warmup_rises_to_the_peak_and_never_takes_the_whole_run(steps: int, share: float) -> None:
    warmup = warmup_steps(share, steps)
    assert 0 <= warmup < steps
    rates = [learning_rate(step, steps, warmup, 2e-4, "constant") for step in range(steps)]
    assert rates[warmup:] == [2e-4] * (steps - warmup)
    assert rates[:warmup] == sorted(rates[:warmup]) and all(rate > 0 for rate in rates)


def test_cosine_and_linear_fall_from_the_peak_towards_zero_by_their_closed_forms() -> None:
    for step in range(5, 25):
        progress = (step - 5) / 20
        assert learning_rate(step, 25, 5, 1.0, "cosine") == pytest.approx((1 + math.cos(math.pi * progress)) / 2)
        assert learning_rate(step, 25, 5, 1.0, "linear") == pytest.approx(1 - progress)
    assert [learning_rate(step, 25, 5, 1.0, "linear") for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
