"""The bootstrap of a mean, where t would rely on a symmetry that is not there; also by clusters.

Items that share a passage, a subject or a near duplicate are not independent, so whole clusters are drawn. Draws are
seeded: the same numbers give the same interval.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from xiaozao.evaluate.statistics.distributions import t_quantile
from xiaozao.evaluate.statistics.intervals import CONFIDENCE, Interval

RESAMPLES = 2000
FEW = 10
BLOCK = 1 << 20  # numbers drawn at a time

Array = NDArray[np.float64]


def bootstrap_mean(
    values: Sequence[float] | Array,
    clusters: Sequence[object] | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """The interval of a mean by the bias-corrected and accelerated bootstrap (Efron 1987).

    clusters: which cluster each value belongs to; None if each stands for itself. The levels are widened for small
    samples (Hesterberg 2015), because a bootstrap sample is narrower than the data by sqrt((n - 1) / n) and knows no t.
    Below FEW values or clusters no resample is as far off as the truth may be, and it is t on the jackknife's error.
    """
    if not len(values) or not np.isfinite(values).all() or not 0 < confidence < 1:
        raise ValueError(f"{len(values)} values, all finite, at confidence {confidence}")
    sums, counts = _by_cluster(values, clusters)
    if len(sums) < 2:
        return Interval(-math.inf, math.inf)
    mean = float(sums.sum() / counts.sum())
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    if len(sums) < FEW:
        return _by_jackknife(mean, left_out, confidence)
    drawn = resampled(sums, seed, resamples) / resampled(counts, seed, resamples)
    return bca(drawn, mean, left_out, widened(confidence, len(sums)))


def widened(confidence: float, n: int) -> float:
    """The confidence to ask of a bootstrap of `n` units, so that the interval is as wide as that of Student's t."""
    reach = math.sqrt(n / (n - 1)) * t_quantile(confidence, n - 1)
    return 2 * NormalDist().cdf(reach) - 1


def bca(drawn: Array, estimate: float, left_out: Array, confidence: float) -> Interval:
    """The BCa interval from resampled estimates and the estimates with one unit left out (the jackknife)."""
    normal = NormalDist()
    below = float(np.count_nonzero(drawn < estimate) + np.count_nonzero(drawn <= estimate)) / (2 * len(drawn))
    if not 0 < below < 1:  # all draws on one side: they tell nothing of a bias
        below = 0.5
    bias = normal.inv_cdf(below)
    away = left_out.mean() - left_out
    spread: float = float((away**2).sum()) ** 1.5
    acceleration = float((away**3).sum()) / (6 * spread) if spread > 0 else 0.0
    levels = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + normal.inv_cdf(tail)
        levels.append(normal.cdf(bias + shifted / (1 - acceleration * shifted)))
    low, high = np.quantile(drawn, levels)
    return Interval(float(low), float(high))


def _by_jackknife(mean: float, left_out: Array, confidence: float) -> Interval:
    """Student's t interval with the error that leaving one unit out at a time shows (Tukey 1958)."""
    n = len(left_out)
    half = t_quantile(confidence, n - 1) * math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
    return Interval(mean - half, mean + half)


def _by_cluster(values: Sequence[float] | Array, clusters: Sequence[object] | None) -> tuple[Array, Array]:
    """The sum and the count of each cluster. They are in an order that does not depend on that of the items."""
    if clusters is None:
        return np.sort(np.asarray(values, dtype=np.float64)), np.ones(len(values))
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values, {len(clusters)} clusters")
    members: dict[object, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        members.setdefault(cluster, []).append(value)
    ordered = sorted((math.fsum(one), len(one)) for one in members.values())
    return np.array([one[0] for one in ordered]), np.array([float(one[1]) for one in ordered])


def resampled(values: Array, seed: int, resamples: int) -> Array:
    """The sums of `resamples` samples drawn with replacement from (n,) or (n, k) values; equal seeds draw the same."""
    rows = max(1, min(resamples, BLOCK // len(values)))
    starts = range(0, resamples, rows)
    blocks = [drawn_counts(len(values), min(rows, resamples - at), seed, at) @ values for at in starts]
    return np.concatenate(blocks)


@lru_cache(maxsize=2)
def drawn_counts(n: int, rows: int, seed: int, at: int) -> Array:
    """How often each of `n` units is drawn in each of `rows` samples (rows, n); `at`: the number of the first."""
    draw = np.random.default_rng((seed, n, at))
    return draw.multinomial(n, np.full(n, 1 / n), size=rows).astype(np.float64)
