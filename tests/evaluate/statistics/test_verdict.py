import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial

from tests.evaluate.statistics.simulate import changes
from xiaozao.evaluate.statistics.verdict import (
    Verdict,
    flips,
    jointly,
    verdict,
    verdict_of_means,
)


def judged(kept: int, gained: int, lost: int, n: int, margin: float = 0.03, noise: int = 0) -> Verdict:
    """The verdict on n items of which some changed and `kept` were right both times."""
    wrong = n - kept - gained - lost
    before = [True] * kept + [False] * gained + [True] * lost + [False] * wrong
    after = [True] * kept + [True] * gained + [False] * lost + [False] * wrong
    return verdict(before, after, margin, noise)


@pytest.mark.parametrize(
    ("kept", "gained", "lost", "n", "outcome"),
    [
        (0, 0, 17, 40, "regressed"),  # 17/40 -> 0/40
        (2, 0, 15, 40, "regressed"),  # 17/40 -> 2/40
        (57, 4, 5, 120, "inconclusive"),  # too few items to say that nothing was lost
        (500, 10, 10, 1000, "no_regression"),
        (40, 30, 5, 100, "improved"),
        (0, 0, 0, 400, "no_regression"),
        (20, 0, 0, 40, "inconclusive"),
        (500, 10, 40, 1000, "regressed"),
        (0, 0, 0, 0, "inconclusive"),
    ],
)
def test_the_four_verdicts(kept: int, gained: int, lost: int, n: int, outcome: str) -> None:
    assert judged(kept, gained, lost, n).outcome == outcome


def test_what_a_verdict_tells() -> None:
    judgement = judged(2, 0, 15, 40)
    assert (judgement.n, judgement.before, judgement.after, judgement.difference) == (40, 17 / 40, 2 / 40, -15 / 40)
    assert judgement.p == pytest.approx(2 * 0.5**15)
    assert judgement.psi == 15 / 40
    assert judgement.interval.low < -0.5 < judgement.interval.high < -0.17
    assert judgement.n_needed is None


def test_a_verdict_that_is_open_says_how_many_items_would_decide() -> None:
    judgement = judged(50, 6, 6, 120)
    assert judgement.outcome == "inconclusive"
    assert judgement.n_needed == math.ceil(6.1826 * (14 / 122) / 0.03**2)
    many = judgement.n_needed
    share = round(many * 0.05)
    assert judged(many // 2, share, share, many).outcome == "no_regression"


def test_where_there_are_enough_items_already_it_is_the_number_that_shows_the_difference() -> None:
    """1,000 items, 18 lost net of 102 changes: neither within the margin nor shown."""
    close = judged(400, 42, 60, 1000)
    assert close.outcome == "inconclusive" and close.n_needed is not None and close.n_needed > 1000


def test_a_small_loss_that_is_certain_is_a_regression_even_within_the_margin() -> None:
    judgement = judged(9000, 0, 40, 14_000)
    assert judgement.outcome == "regressed" and judgement.worst > -judgement.margin


def test_inside_the_noise_of_the_machine_there_is_no_verdict() -> None:
    quiet, loud = judged(500, 4, 22, 1000), judged(500, 4, 22, 1000, noise=18)
    assert (quiet.outcome, loud.outcome, loud.in_noise) == ("regressed", "no_regression", True)
    assert judged(500, 4, 22, 1000, noise=17).outcome == "regressed"
    drowned = judged(500, 4, 22, 1000, noise=30)
    assert (drowned.outcome, drowned.n_needed) == ("inconclusive", None)
    assert judged(100, 40, 4, 400, noise=36).outcome == "inconclusive"
    assert flips([True, False, True], [True, True, False]) == 2


@pytest.mark.parametrize("share", [0.05, 0.15, 0.28])
def test_a_model_against_itself_is_called_better_or_worse_at_most_six_times_in_a_hundred(share: float) -> None:
    """2,000 random swaps of two evaluations that differ in this share of 400 items."""
    draw = np.random.default_rng(12)
    first = draw.random(400) < 0.5
    second = first ^ (draw.random(400) < share)
    called = 0
    for _ in range(2000):
        swap = draw.random(400) < 0.5
        before, after = np.where(swap, second, first), np.where(swap, first, second)
        called += verdict(before.tolist(), after.tolist()).outcome in ("improved", "regressed")
    assert 0 < called <= 0.06 * 2000


@pytest.mark.parametrize("n", [50, 300])
@pytest.mark.parametrize("psi", [0.1, 0.3, 0.9])
def test_the_same_exactly(n: int, psi: float) -> None:
    gained, lost, _ = changes(n)
    chance = multinomial.pmf(np.stack([gained, lost, n - gained - lost], axis=1), n, [psi / 2, psi / 2, 1 - psi])
    likely = [(int(up), int(down), p) for up, down, p in zip(gained, lost, chance, strict=True) if p > 1e-7]
    called = sum(p for up, down, p in likely if judged(0, up, down, n).outcome in ("improved", "regressed"))
    assert called <= 0.05


def test_a_real_loss_beyond_the_margin_is_hardly_ever_called_no_regression() -> None:
    """True loss of 3 points, the margin itself: at most 5 %, but for what rounding to whole questions adds."""
    n, psi = 300, 0.1
    gained, lost, _ = changes(n)
    weights = [psi / 2 - 0.015, psi / 2 + 0.015, 1 - psi]
    chance = multinomial.pmf(np.stack([gained, lost, n - gained - lost], axis=1), n, weights)
    likely = [(int(up), int(down), p) for up, down, p in zip(gained, lost, chance, strict=True) if p > 1e-6]
    assert sum(p for up, down, p in likely if judged(0, up, down, n).outcome == "no_regression") <= 0.06


def test_several_suites_are_judged_jointly() -> None:
    """p = 0.04 alone is a regression; as one of three suites it is not."""
    alone = judged(100, 3, 13, 200)
    assert 0.02 < alone.p < 0.05 and alone.outcome == "regressed"
    all_three = jointly({"facts": alone, "sums": judged(50, 5, 5, 200), "logic": judged(50, 5, 6, 200)})
    assert all_three["facts"].p_adjusted == pytest.approx(3 * alone.p)
    assert all_three["facts"].outcome == "inconclusive"
    assert list(all_three) == ["facts", "sums", "logic"]
    assert jointly({}) == {}


def test_bits_per_byte_are_worse_when_they_rise() -> None:
    draw = np.random.default_rng(13)
    before = draw.normal(1.3, 0.2, 120)
    for shift, outcome in ((0.07, "regressed"), (-0.05, "improved"), (0.0, "no_regression")):
        after = before + shift + draw.normal(0, 0.03, 120) * (1 if shift else 0.1)
        judgement = verdict_of_means(before.tolist(), after.tolist(), margin=0.04)
        assert (judgement.outcome, judgement.psi) == (outcome, None)
    assert verdict_of_means([1.0, 2.0] * 10, [1.5, 2.5] * 10, 0.1, higher_is_better=True).outcome == "improved"
    assert verdict_of_means([1.0, 2.0, 1.4], [1.6, 2.5, 1.9], 0.1, noise=1.0).outcome == "inconclusive"


def test_means_by_clusters_have_wider_intervals() -> None:
    draw = np.random.default_rng(14)
    shift = np.repeat(draw.normal(0, 1, 12), 10)
    before = draw.normal(0, 1, 120)
    plain = verdict_of_means(before.tolist(), (before + shift).tolist(), 0.1)
    clusters = np.repeat(range(12), 10).tolist()
    whole = verdict_of_means(before.tolist(), (before + shift).tolist(), 0.1, clusters=clusters)
    assert whole.interval.high - whole.interval.low > 1.5 * (plain.interval.high - plain.interval.low)
    assert whole.p > plain.p
    assert whole.difference == plain.difference


def test_a_mean_of_nothing_and_of_one_item_is_inconclusive() -> None:
    assert verdict_of_means([], [], 0.1).outcome == "inconclusive"
    assert verdict_of_means([1.0], [9.0], 0.1).outcome == "inconclusive"


@pytest.mark.parametrize(("margin", "noise"), [(0, 0), (-0.1, 0), (0.03, -1)])
def test_a_margin_of_nothing_is_refused(margin: float, noise: int) -> None:
    with pytest.raises(ValueError, match="margin"):
        verdict([True], [True], margin, noise)
    with pytest.raises(ValueError, match="margin"):
        verdict_of_means([1.0], [1.0], margin, noise)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), max_size=80),
    st.floats(1e-6, 1),
    st.integers(0, 80),
    st.randoms(use_true_random=False),
)
def test_any_items_have_a_verdict_whatever_their_order(
    items: list[tuple[bool, bool]], margin: float, noise: int, draw: "np.random.Generator"
) -> None:
    shuffled = list(items)
    draw.shuffle(shuffled)
    mine, other = (
        verdict([was for was, _ in order], [now for _, now in order], margin, noise) for order in (items, shuffled)
    )
    assert mine == other
    assert (mine.n_needed is None) or mine.n_needed > mine.n
    assert mine.n_needed is None or mine.outcome == "inconclusive"


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from("abc")), max_size=30),
    st.floats(1e-6, 1e6), st.booleans(), st.randoms(use_true_random=False),
)  # fmt: skip
def test_any_measures_have_a_verdict_whatever_their_order(
    items: list[tuple[float, float, str]], margin: float, clustered: bool, draw: "np.random.Generator"
) -> None:
    shuffled = list(items)
    draw.shuffle(shuffled)
    mine, other = (
        verdict_of_means(
            [was for was, _, _ in order], [now for _, now, _ in order], margin,
            clusters=[cluster for _, _, cluster in order] if clustered else None,
        )
        for order in (items, shuffled)
    )  # fmt: skip
    assert mine.difference == pytest.approx(other.difference, rel=1e-9, abs=1e-6)
    assert mine.n_needed is None or mine.n_needed > mine.n
