"""What may have decided a vote besides the answers: the side an answer stood on, and its length.

A preference at equal length and equal sides is the intercept of a ridge logit. With 50 votes that is a look at how
much the result hangs on them, never the headline.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xiaozao.evaluate.statistics.distributions import two_sided
from xiaozao.evaluate.statistics.intervals import CONFIDENCE, Interval
from xiaozao.evaluate.statistics.paired import deviation, sign_test

RIDGE = 0.25  # the precision of the prior of each coefficient: a standard deviation of 2 on the logit's scale
STEPS = 50

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sides:
    """How often the answer on side A, and on side B, was chosen; p of "both sides are alike"."""

    a: int
    b: int
    p: float


@dataclass(frozen=True)
class Adjusted:
    """The share of wins if the covariates were equal, with its interval, and what each covariate is worth."""

    share: float
    interval: Interval
    coefficients: tuple[float, ...]


def side_bias(a: int, b: int) -> Sides:
    """Whether one side was chosen more often than a coin would."""
    return Sides(a, b, sign_test(a, b))


def length_covariate(differences: Sequence[float]) -> tuple[float, ...]:
    """tanh(difference / standard deviation) for each difference of lengths (AlpacaEval 2); 0 where all are equal."""
    spread = deviation(differences) or max((abs(one) for one in differences), default=0.0) or 1.0
    return tuple(math.tanh(one / spread) for one in differences)


def adjusted_share(
    wins: Sequence[bool], covariates: Sequence[Sequence[float]], confidence: float = CONFIDENCE
) -> Adjusted:
    """The share of wins at covariates of zero, by a ridge logit.

    wins: one for each decisive vote. covariates: one sequence of the same length for each covariate. Without votes the
    share is one half, as far from certain as can be.
    """
    design = np.column_stack([np.ones(len(wins)), *(np.asarray(one, dtype=np.float64) for one in covariates)])
    if not np.isfinite(design).all():
        raise ValueError("covariates must be finite")
    weights, curvature = ridge_logit(design, np.asarray(wins, dtype=np.float64))
    error = math.sqrt(float(np.linalg.inv(curvature)[0, 0]))
    half = two_sided(confidence) * error
    intercept = float(weights[0])
    return Adjusted(
        _logistic(intercept),
        Interval(_logistic(intercept - half), _logistic(intercept + half)),
        tuple(map(float, weights[1:])),
    )


def ridge_logit(design: Array, outcome: Array) -> tuple[Array, Array]:
    """The coefficients of a penalised logit and the curvature there, by Newton's method.

    Minimises the negative log-likelihood plus RIDGE / 2 * |weights|²; the ridge keeps it finite where all votes agree.
    """
    weights = np.zeros(design.shape[1])
    penalty = RIDGE * np.eye(design.shape[1])
    curvature = penalty
    for _ in range(STEPS):
        share = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        slope = design.T @ (share - outcome) + RIDGE * weights
        curvature = (design * (share * (1 - share))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature, slope)
        weights = weights - step
        if float(np.abs(step).max()) < 1e-10:
            break
    return weights, curvature


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))
