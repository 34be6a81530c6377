import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from tests.evaluate.statistics.simulate import (
    RATES,
    SIZES,
    paired_coverage,
)
from xiaozao.evaluate.statistics.paired import (
    deviation,
    holm,
    mcnemar,
    mean_difference,
    paired_difference,
    sign_test,
)


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


@pytest.mark.parametrize("changed", [0, 1, 2, 7, 40, 301])
def test_mcnemar_equals_scipy_and_statsmodels(changed: int) -> None:
    for gained in range(changed + 1):
        lost = changed - gained
        theirs = statsmodels_mcnemar([[9, lost], [gained, 4]], exact=True).pvalue if changed else 1.0
        assert mcnemar(gained, lost) == pytest.approx(theirs, rel=1e-9)
        assert sign_test(gained, lost) == pytest.approx(binomtest(gained, changed).pvalue if changed else 1, rel=1e-9)


def test_the_sign_test_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="-2 losses"):
        sign_test(3, -2)


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_equals_statsmodels(p_values: list[float]) -> None:
    theirs = multipletests(p_values, method="holm")[1] if p_values else []
    assert holm(p_values) == pytest.approx(tuple(theirs), abs=1e-12)


def test_the_paired_difference_is_walds_on_the_table_with_half_a_question_in_each_cell() -> None:
    """By hand: 17 of 40 before, 2 of 40 after, nothing gained: p12 = 1/42, p21 = 16/42."""
    interval = paired_difference(0, 15, 40)
    up, down = 1 / 42, 16 / 42
    half = 1.959964 * math.sqrt((up + down - (up - down) ** 2) / 42)
    assert (interval.low, interval.high) == pytest.approx((up - down - half, up - down + half), abs=1e-6)
    assert interval.high < -0.17
    mirrored = paired_difference(15, 0, 40)
    assert (mirrored.low, mirrored.high) == (-interval.high, -interval.low)


def test_the_paired_difference_stays_open_where_nothing_is_known() -> None:
    assert (paired_difference(0, 0, 0).low, paired_difference(0, 0, 0).high) == (-1, 1)
    nothing = paired_difference(0, 0, 50)
    assert nothing.low < 0 < nothing.high
    assert paired_difference(1, 0, 1).high <= 1
    with pytest.raises(ValueError, match="3 gained and 3 lost of 5"):
        paired_difference(3, 3, 5)


@pytest.mark.parametrize("n", SIZES)
def test_the_paired_difference_covers_the_truth(n: int) -> None:
    """Exactly: for every share of changes from 0.1 to 0.9, and from evenly spread to all in one direction."""
    covered = {(psi, way): share for psi, way, share in paired_coverage(n)}
    assert len(covered) == 4 * len(RATES)
    assert 0.93 <= min(covered.values()) and max(covered.values()) <= 1


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_the_mean_difference_equals_scipy_and_statsmodels(differences: list[float]) -> None:
    mine = mean_difference(differences)
    assert mine.value == pytest.approx(float(np.mean(differences)), rel=1e-9, abs=1e-9)
    if deviation(differences) > 1e-6 * max(map(abs, differences)):
        theirs = DescrStatsW(differences).tconfint_mean()
        assert (mine.interval.low, mine.interval.high) == pytest.approx(theirs, rel=1e-6, abs=1e-9)
        assert mine.p == pytest.approx(ttest_1samp(differences, 0).pvalue, rel=1e-6, abs=1e-12)


def test_the_mean_of_one_difference_or_of_equal_ones() -> None:
    single, equal, zero = mean_difference([0.5]), mean_difference([0.1, 0.1, 0.1]), mean_difference([0.0, 0.0])
    assert (single.value, single.interval.low, single.interval.high, single.p) == (0.5, -math.inf, math.inf, 1.0)
    assert (equal.interval.low, equal.interval.high, equal.p) == (equal.value, equal.value, 0.0)
    assert zero.p == 1.0


@pytest.mark.parametrize("differences", [[], [math.nan, 1.0], [math.inf, 0.0]])
def test_a_mean_of_nothing_or_of_no_numbers_is_refused(differences: list[float]) -> None:
    with pytest.raises(ValueError, match="all finite"):
        mean_difference(differences)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_the_order_of_the_items_changes_no_mean(differences: list[float], draw: "np.random.Generator") -> None:
    shuffled = list(differences)
    draw.shuffle(shuffled)
    mine, other = mean_difference(differences), mean_difference(shuffled)
    assert (mine.interval.low, mine.interval.high, mine.p) == pytest.approx(
        (other.interval.low, other.interval.high, other.p), rel=1e-9, abs=1e-9
    )
