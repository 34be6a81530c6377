import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from statsmodels.discrete.discrete_model import Logit

from xiaozao.evaluate.statistics.bias import RIDGE, Array, adjusted_share, length_covariate, ridge_logit, side_bias


def test_the_ridge_logit_minimises_what_it_says() -> None:
    draw = np.random.default_rng(1)
    design = np.column_stack([np.ones(50), draw.normal(size=(50, 2))])
    outcome = (draw.random(50) < 0.7).astype(float)

    def loss(weights: Array) -> float:
        scores = design @ weights
        return float(np.logaddexp(0, scores).sum() - outcome @ scores + RIDGE / 2 * weights @ weights)

    weights, _ = ridge_logit(design, outcome)
    assert weights == pytest.approx(minimize(loss, np.zeros(3), tol=1e-12).x, abs=1e-5)


def test_with_many_votes_it_is_the_plain_logit_of_statsmodels() -> None:
    draw = np.random.default_rng(2)
    design = np.column_stack([np.ones(20_000), draw.normal(size=20_000)])
    outcome = (draw.random(20_000) < 1 / (1 + np.exp(-(0.3 + 0.8 * design[:, 1])))).astype(float)
    theirs = Logit(outcome, design).fit(disp=0)
    weights, curvature = ridge_logit(design, outcome)
    assert weights == pytest.approx(theirs.params, abs=1e-3)
    assert np.linalg.inv(curvature) == pytest.approx(theirs.cov_params(), rel=1e-3)


def test_a_preference_that_length_alone_explains_is_none() -> None:
    """The longer answer always wins, and the tuned one is mostly longer: at equal length it is no better."""
    lengths = [200.0] * 30 + [-200.0] * 10
    wins = [one > 0 for one in lengths]
    adjusted = adjusted_share(wins, [length_covariate(lengths)])
    assert sum(wins) / len(wins) == 0.75
    assert adjusted.interval.low < 0.5 < adjusted.interval.high and adjusted.share < 0.65
    assert adjusted.coefficients[0] > 1


def test_a_preference_that_length_has_no_part_in_stays() -> None:
    draw = np.random.default_rng(3)
    lengths = draw.normal(0, 100, 200).tolist()
    wins = (draw.random(200) < 0.75).tolist()
    adjusted = adjusted_share(wins, [length_covariate(lengths)])
    assert adjusted.share == pytest.approx(sum(wins) / 200, abs=0.02) and adjusted.interval.low > 0.6


def test_lengths_are_squashed_by_their_spread() -> None:
    assert length_covariate([]) == ()
    assert length_covariate([0.0, 0.0]) == (0.0, 0.0)
    assert length_covariate([7.0, 7.0]) == pytest.approx((np.tanh(1), np.tanh(1)))
    assert length_covariate([-1.0, 1.0]) == pytest.approx((-np.tanh(1 / np.sqrt(2)), np.tanh(1 / np.sqrt(2))))


@pytest.mark.parametrize("wins", [[], [True], [False] * 50, [True] * 50])
def test_votes_that_all_agree_have_a_finite_share(wins: list[bool]) -> None:
    adjusted = adjusted_share(wins, [[0.0] * len(wins)])
    assert 0 <= adjusted.interval.low < adjusted.share < adjusted.interval.high <= 1
    if not wins:
        assert adjusted.share == 0.5


def test_the_side_that_was_chosen() -> None:
    assert side_bias(25, 25).p == 1
    assert (side_bias(40, 10).a, side_bias(40, 10).p < 0.001) == (40, True)


@given(st.lists(st.tuples(st.booleans(), st.floats(-1e6, 1e6)), max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_the_votes_changes_nothing(votes: list[tuple[bool, float]], draw: "np.random.Generator") -> None:
    shuffled = list(votes)
    draw.shuffle(shuffled)
    shares = [
        adjusted_share([win for win, _ in order], [length_covariate([length for _, length in order])]).share
        for order in (votes, shuffled)
    ]
    assert shares[0] == pytest.approx(shares[1], abs=1e-9)
