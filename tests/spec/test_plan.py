"""A memory plan: its peak is the moment that needs most."""

import pytest

from xiaozao.spec.plan import MemoryPlan, Moment

LOAD = Moment("load", {"weights": 5, "runtime": 1})
BACKWARD = Moment("backward", {"weights": 4, "gradients": 1, "activations": 3, "runtime": 1})


def _plan(budget: int) -> MemoryPlan:
    return MemoryPlan((LOAD, BACKWARD), budget, samples=1, tokens=8, parameters=10, trainable=2)


def test_the_peak_is_the_moment_with_the_largest_sum() -> None:
    assert _plan(100).peak is BACKWARD
    assert _plan(100).peak_bytes == 9


@pytest.mark.parametrize(("budget", "fits"), [(8, False), (9, True), (10, True)])
def test_it_fits_up_to_the_budget(budget: int, fits: bool) -> None:
    assert _plan(budget).fits is fits
