import pytest

from xiaozao.evaluate.statistics import holm, mcnemar, wilson


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


# scipy 1.17: binomtest(min(b, c), b + c, 0.5).pvalue.
@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (8, 2, 0.109375), (3, 3, 1.0), (33, 17, 0.032839)],
)
def test_mcnemar_gives_the_known_p_values(gained: int, lost: int, p: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(p, abs=1e-6)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


def test_mcnemar_of_many_questions_neither_overflows_nor_vanishes_to_nan() -> None:
    assert mcnemar(60, 0) == 2 * 0.5**60
    assert 0 < mcnemar(1500, 1000) < 1e-20


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="-1"):
        mcnemar(-1, 3)


def test_holm_multiplies_the_smallest_most_and_keeps_the_order() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx((0.06, 0.03, 0.06))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()
