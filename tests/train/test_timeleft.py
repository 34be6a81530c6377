"""The time left follows the pace that there is now, and counts what comes beside the steps."""

import pytest

from xiaozao.train.timeleft import REMEMBERED, time_left


def test_at_an_even_pace_it_is_the_steps_times_their_seconds() -> None:
    assert time_left([2.0] * REMEMBERED, 0.0, 30) == pytest.approx(60)
    assert time_left([2.0], 0.5, 30) == pytest.approx(75)
    assert time_left([2.0, 3.0], 0.0, 0) == 0


def test_after_a_few_steps_at_another_pace_it_is_that_of_the_new_one() -> None:
    """A program that starts beside a run is seen within a quarter of what is remembered."""
    slowed = [1.0] * (REMEMBERED - 6) + [4.0] * 6
    assert time_left(slowed, 0.0, 10) == pytest.approx(40, rel=0.25)


def test_one_slow_step_does_not_decide() -> None:
    assert time_left([1.0] * (REMEMBERED - 1) + [4.0], 0.0, 10) < 17
