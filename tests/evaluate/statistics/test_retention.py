import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xiaozao.evaluate.statistics.retention import Items, is_informative, retention


def items(before: int, after: int, n: int, chance: float = 0.0) -> Items:
    """A suite with these numbers of right answers, the same items first."""
    return Items([at < before for at in range(n)], [at < after for at in range(n)], chance)


def test_retention_is_the_mean_of_what_is_left_above_chance() -> None:
    left = retention({"facts": items(80, 60, 100), "choice": items(60, 45, 100, 0.25)})
    assert left is not None
    assert left.share == pytest.approx((60 / 80 + 20 / 35) / 2)
    assert left.worst == "choice" and left.worst_share == pytest.approx(20 / 35)
    assert left.interval.low < left.share < left.interval.high < 1


def test_suites_at_chance_or_nearly_perfect_are_left_out() -> None:
    suites = {"floor": items(26, 20, 100, 0.25), "ceiling": items(99, 99, 100), "good": items(50, 50, 100)}
    left = retention(suites)
    assert left is not None and left.suites == ("good",) and left.share == 1
    assert retention({"floor": suites["floor"]}) is None
    assert retention({}) is None and retention({"empty": Items([], [])}) is None
    assert is_informative(50, 100) and not is_informative(0, 0)


def test_nothing_changed_is_all_of_it_without_doubt() -> None:
    left = retention({"good": items(50, 50, 100)})
    assert left is not None and (left.interval.low, left.interval.high) == (1, 1)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60), st.randoms(use_true_random=False))
def test_the_order_of_the_items_changes_nothing(pairs: list[tuple[bool, bool]], draw: "np.random.Generator") -> None:
    shuffled = list(pairs)
    draw.shuffle(shuffled)
    left = [
        retention({"suite": Items([was for was, _ in order], [now for _, now in order])}, resamples=100)
        for order in (pairs, shuffled)
    ]
    assert left[0] == left[1]
