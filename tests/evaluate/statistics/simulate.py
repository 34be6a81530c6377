"""How often an interval covers the truth: exactly, by summing over all outcomes, or by seeded simulation."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy
from scipy.stats import binom

from xiaozao.evaluate.statistics.agreement import cohen
from xiaozao.evaluate.statistics.bias import adjusted_share
from xiaozao.evaluate.statistics.intervals import Interval
from xiaozao.evaluate.statistics.paired import mean_difference, paired_difference
from xiaozao.evaluate.statistics.resampling import bootstrap_mean
from xiaozao.evaluate.statistics.retention import Items, retention

Array = NDArray[np.float64]
RATES = tuple(round(0.1 * number, 1) for number in range(1, 10))
SIZES = (50, 300)
ONE_WAY = (0.5, 0.7, 0.9, 1.0)  # the share of changes that go one way


def share_coverage(interval: Callable[[int, int], Interval], n: int, rate: float) -> float:
    """The exact coverage of an interval of a share: the probability of all counts whose interval holds the rate."""
    ends = [interval(count, n) for count in range(n + 1)]
    return float(sum(binom.pmf(count, n, rate) for count, end in enumerate(ends) if end.low <= rate <= end.high))


def changes(n: int) -> tuple[Array, Array, Array]:
    """Every pair (gained, lost) of n questions, and the logarithm of how many ways lead to it."""
    gained, lost = (axis.ravel() for axis in np.meshgrid(np.arange(n + 1.0), np.arange(n + 1.0)))
    gained, lost = gained[gained + lost <= n], lost[gained + lost <= n]
    return gained, lost, gammaln(n + 1) - gammaln(gained + 1) - gammaln(lost + 1) - gammaln(n - gained - lost + 1)


def paired_coverage(n: int) -> Iterator[tuple[float, float, float]]:
    """The exact coverage of the paired difference: for each share of changes, and share of them that go one way."""
    gained, lost, ways = changes(n)
    ends = [paired_difference(int(up), int(down), n) for up, down in zip(gained, lost, strict=True)]
    low, high = np.array([one.low for one in ends]), np.array([one.high for one in ends])
    for psi in RATES:
        for way in ONE_WAY:
            up, down = psi * way, psi * (1 - way)
            chance = np.exp(ways + xlogy(gained, up) + xlogy(lost, down) + xlogy(n - gained - lost, 1 - psi))
            yield psi, way, float(chance[(low <= up - down) & (up - down <= high)].sum())


def draw_binary(rate: float) -> Callable[[np.random.Generator, int], Array]:
    """Right or wrong, with this rate of right."""
    return lambda draw, n: (draw.random(n) < rate).astype(np.float64)


def draw_skewed(rate: float) -> Callable[[np.random.Generator, int], Array]:
    """Differences of two measures, whose mean is `rate`; the larger it is, the longer is their tail on one side."""

    def drawn(draw: np.random.Generator, n: int) -> Array:
        return rate * draw.gamma(2.0, 0.5, n) + draw.normal(0, 1, n)

    return drawn


def mean_coverage(
    interval: Callable[[Array], Interval],
    drawn: Callable[[np.random.Generator, int], Array],
    truth: float,
    n: int,
    times: int,
) -> float:
    """How often the interval of a mean covers the truth, in `times` seeded samples."""
    draw = np.random.default_rng(20)
    covered = 0
    for _ in range(times):
        end = interval(drawn(draw, n))
        covered += end.low <= truth <= end.high
    return covered / times


def t_interval(values: Array) -> Interval:
    return mean_difference(values.tolist()).interval


def bootstrap_interval(values: Array) -> Interval:
    return bootstrap_mean(values, resamples=1000)


def clustered_interval(values: Array) -> Interval:
    """Values in clusters of five that share half of their spread."""
    clusters = np.arange(len(values)) // 5
    draw = np.random.default_rng(values.view(np.uint64))
    shared = draw.normal(0, 1, clusters.max() + 1)[clusters]
    return bootstrap_mean(values + shared, clusters.tolist(), resamples=1000)


def retention_coverage(n: int, rate: float, times: int) -> float:
    """Two suites, 70 % right before; this share of what was right is left, and 5 % of the rest is gained."""
    draw = np.random.default_rng(21)
    truth, covered = rate + 0.05 * 0.3 / 0.7, 0
    for _ in range(times):
        suites = {}
        for name in ("one", "two"):
            before = draw.random(n) < 0.7
            after = np.where(before, draw.random(n) < rate, draw.random(n) < 0.05)
            suites[name] = Items(before.tolist(), after.tolist())
        left = retention(suites, resamples=1000)
        assert left is not None
        covered += left.interval.low <= truth <= left.interval.high
    return covered / times


def kappa_coverage(n: int, rate: float, kappa: float, times: int) -> float:
    """Two voters who choose "a" at this rate, and agree beyond chance by kappa."""
    draw = np.random.default_rng(22)
    both, split = rate * rate + kappa * rate * (1 - rate), (1 - kappa) * rate * (1 - rate)
    counts = draw.multinomial(n, [both, split, split, 1 - both - 2 * split], size=times)
    kinds, often = np.unique(counts, axis=0, return_counts=True)
    covered = 0
    for (aa, ab, ba, bb), count in zip(kinds.tolist(), often.tolist(), strict=True):
        interval = cohen("a" * (aa + ab) + "b" * (ba + bb), "a" * aa + "b" * ab + "a" * ba + "b" * bb).interval
        covered += count * (interval.low <= kappa <= interval.high)
    return covered / times


def adjusted_coverage(n: int, rate: float, times: int) -> float:
    """The share of wins at equal length, where length plays a part."""
    draw = np.random.default_rng(23)
    truth, covered = np.log(rate / (1 - rate)), 0
    for _ in range(times):
        length = np.tanh(draw.normal(size=n))
        wins = draw.random(n) < 1 / (1 + np.exp(-(truth + 0.8 * length)))
        interval = adjusted_share(wins.tolist(), [length.tolist()]).interval
        covered += interval.low <= rate <= interval.high
    return covered / times
