import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from tests.evaluate.statistics.simulate import RATES, SIZES, share_coverage
from xiaozao.evaluate.statistics.intervals import clopper_pearson, wilson


# Pinned from scipy 1.17: binomtest(k, n).proportion_ci(method="wilson").
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0, 60, 0.0, 0.060172),
        (60, 60, 0.939828, 1.0),
        (41, 60, 0.557662, 0.786941),
        (33, 50, 0.521538, 0.775631),
        (1, 1, 0.206549, 1.0),
        (95, 100, 0.888250, 0.978456),
    ],
)
def test_wilson_gives_the_known_intervals(successes: int, n: int, low: float, high: float) -> None:
    interval = wilson(successes, n)
    assert interval.low == pytest.approx(low, abs=1e-6)
    assert interval.high == pytest.approx(high, abs=1e-6)


def test_wilson_ends_have_their_closed_form() -> None:
    """At 0 of n the upper end is z^2 / (n + z^2), and n of n is its mirror image."""
    z2 = 1.959963984540054**2
    for n in (1, 7, 1000):
        assert wilson(0, n).low == 0.0
        assert wilson(0, n).high == pytest.approx(z2 / (n + z2), rel=1e-12)
        assert wilson(n, n).low == pytest.approx(n / (n + z2), rel=1e-12)
        assert wilson(n, n).high == 1.0


def test_wilson_without_questions_leaves_everything_open() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


def test_wilson_is_wider_for_more_confidence() -> None:
    assert wilson(5, 10, 0.99).low < wilson(5, 10, 0.95).low < wilson(5, 10, 0.5).low


@pytest.mark.parametrize(("successes", "n", "confidence"), [(-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0), (1, 5, 0.0)])
def test_wilson_refuses_what_is_no_share(successes: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="of 5"):
        wilson(successes, n, confidence)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("n", [1, 7, 50, 300])
def test_both_intervals_equal_scipy_and_statsmodels(n: int, confidence: float) -> None:
    for successes in range(0, n + 1, max(1, n // 12)):
        for ours, scipys, statsmodels in ((wilson, "wilson", "wilson"), (clopper_pearson, "exact", "beta")):
            mine = ours(successes, n, confidence)
            theirs = binomtest(successes, n).proportion_ci(confidence, method=scipys)
            others = proportion_confint(successes, n, 1 - confidence, method=statsmodels)
            assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
            assert (mine.low, mine.high) == pytest.approx(others, abs=1e-12)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("rate", RATES)
def test_both_intervals_cover_the_true_share(n: int, rate: float) -> None:
    """Exactly: over all counts there can be."""
    assert 0.93 <= share_coverage(wilson, n, rate) <= 1
    assert 0.95 <= share_coverage(clopper_pearson, n, rate) <= 1


def test_the_exact_interval_refuses_what_is_no_share() -> None:
    with pytest.raises(ValueError, match="6 of 5"):
        clopper_pearson(6, 5)
