import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from xiaozao.evaluate.statistics.agreement import cohen, kappa_of, krippendorff

# Krippendorff's own example (2011): four coders, twelve units, gaps; alpha of nominal data is 0.743.
EXAMPLE = [
    "1.11", "2223", "3333", "3333", "2222", "1234", "4444", "1112", "2222", "555.", "..11", "..3.",
]  # fmt: skip


def test_alpha_is_that_of_krippendorffs_example() -> None:
    units = [[mark for mark in unit if mark != "."] for unit in EXAMPLE]
    assert krippendorff(units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_by_hand() -> None:
    """Two voters, four units: D_o = 2/8 and D_e = (4 * 4 * 2) / (8 * 7)."""
    assert krippendorff(["aa", "aa", "bb", "ab"]) == pytest.approx(1 - 0.25 / (30 / 56))


def test_alpha_where_it_says_nothing() -> None:
    assert krippendorff([]) is None
    assert krippendorff([["a"], ["b"]]) is None
    assert krippendorff(["aa", "aa"]) is None
    assert krippendorff(["aa", "bb"]) == 1
    assert krippendorff(["ab", "ba"]) == pytest.approx(-0.5)


def table(first: str, second: str) -> list[list[int]]:
    kinds = sorted({*first, *second})
    return [[sum(pair == (a, b) for pair in zip(first, second, strict=True)) for b in kinds] for a in kinds]


@given(st.lists(st.tuples(st.sampled_from("abt"), st.sampled_from("abt")), min_size=2, max_size=60))
def test_kappa_equals_statsmodels(pairs: list[tuple[str, str]]) -> None:
    first, second = "".join(one for one, _ in pairs), "".join(other for _, other in pairs)
    mine = cohen(first, second)
    if mine.value is None:
        assert len({*first, *second}) == 1
        return
    with np.errstate(invalid="ignore", divide="ignore"):  # a variance of zero is -1e-20 there, and its root nan
        theirs = cohens_kappa(table(first, second))
    assert mine.value == pytest.approx(theirs.kappa, abs=1e-12)
    assert kappa_of(table(first, second))[1] == pytest.approx(np.nan_to_num(theirs.std_kappa), abs=1e-7)
    assert mine.interval.low <= mine.value <= mine.interval.high


def test_kappa_of_nobody_and_of_those_who_only_know_one_answer() -> None:
    assert (cohen("", "").value, cohen("aaa", "aaa").value) == (None, None)
    assert cohen("ab" * 20, "ab" * 20).interval.low < 1
