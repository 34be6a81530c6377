import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xiaozao.evaluate.statistics.resampling import bca, bootstrap_mean, resampled, widened


def test_the_accelerated_interval_equals_scipys() -> None:
    """Both have 20,000 resamples of their own, so they agree to what those leave open."""
    values = np.random.default_rng(3).gamma(1.0, 1.0, 60)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    drawn = resampled(np.sort(values), 0, 20_000) / 60
    left_out = (values.sum() - values) / 59
    mine = bca(drawn, float(values.mean()), left_out, 0.95)
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert mine.high - values.mean() > 1.1 * (values.mean() - mine.low)  # the long tail is on the right


def test_on_symmetric_values_it_is_the_interval_of_students_t() -> None:
    values = np.random.default_rng(4).normal(5, 2, 40)
    interval = bootstrap_mean(values, resamples=20_000)
    half = stats.t.ppf(0.975, 39) * values.std(ddof=1) / math.sqrt(40)
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)
    assert widened(0.95, 40) > 0.95


def test_clusters_are_drawn_as_wholes() -> None:
    """Ten copies of each of twenty values are worth twenty values."""
    values = np.random.default_rng(5).normal(0, 1, 20)
    copies = np.repeat(values, 10)
    few = bootstrap_mean(values)
    many = bootstrap_mean(copies, clusters=np.repeat(np.arange(20), 10).tolist())
    assert (many.low, many.high) == pytest.approx((few.low, few.high), abs=1e-9)
    assert bootstrap_mean(copies).high - bootstrap_mean(copies).low < 0.5 * (few.high - few.low)


def test_a_large_sample_is_drawn_in_blocks() -> None:
    values = np.random.default_rng(6).normal(0, 1, 14_042)
    interval = bootstrap_mean(values, resamples=400)
    error = 1 / math.sqrt(14_042)
    assert (interval.low, interval.high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.3 * error
    )


def test_values_that_say_nothing() -> None:
    assert (bootstrap_mean([1.0]).low, bootstrap_mean([1.0]).high) == (-math.inf, math.inf)
    assert bootstrap_mean([1.0, 2.0], clusters=["a", "a"]).high == math.inf
    equal = bootstrap_mean([0.5] * 30)
    assert (equal.low, equal.high) == pytest.approx((0.5, 0.5))
    for values in ([], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="all finite"):
            bootstrap_mean(values)
    with pytest.raises(ValueError, match="2 values, 1 clusters"):
        bootstrap_mean([1.0, 2.0], clusters=["a"])


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.sampled_from("abcd")), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_items_changes_nothing(items: list[tuple[float, str]], draw: "np.random.Generator") -> None:
    shuffled = list(items)
    draw.shuffle(shuffled)
    for clustered in (False, True):
        ends = []
        for order in (items, shuffled):
            clusters = [cluster for _, cluster in order] if clustered else None
            interval = bootstrap_mean([value for value, _ in order], clusters, resamples=200)
            ends.append((interval.low, interval.high))
        assert ends[0] == pytest.approx(ends[1], rel=1e-9, abs=1e-6)
