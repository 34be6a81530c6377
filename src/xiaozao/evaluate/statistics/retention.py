"""One headline over several suites: how much of what the model could do is left.

    retention = mean over suites of (after - chance) / (before - chance)

A suite near chance, or one that is nearly perfect, cannot show a change and is left out; "75 % retained" of nothing
would be a number without a meaning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xiaozao.evaluate.statistics.intervals import CONFIDENCE, Interval, wilson
from xiaozao.evaluate.statistics.resampling import RESAMPLES, Array, resampled, widened

ABOVE_CHANCE = 0.05
CEILING = 0.95


@dataclass(frozen=True)
class Items:
    """The items of a suite, right or wrong before and after; chance: the share that guessing gets right."""

    before: Sequence[bool]
    after: Sequence[bool]
    chance: float = 0.0


@dataclass(frozen=True)
class Retention:
    """The share that is left, with its interval, and the suite that lost most."""

    share: float
    interval: Interval
    worst: str
    worst_share: float
    suites: tuple[str, ...]


def is_informative(right: int, n: int, chance: float = 0.0) -> bool:
    """Whether a suite can show a change: surely above chance by 5 points, and not above 95 %."""
    return n > 0 and wilson(right, n).low > chance + ABOVE_CHANCE and right / n <= CEILING


def retention(suites: Mapping[str, Items], seed: int = 0, resamples: int = RESAMPLES) -> Retention | None:
    """The retention over the informative suites, with a stratified bootstrap interval; None if no suite is."""
    kept = {name: one for name, one in suites.items() if _informs(one)}
    if not kept:
        return None
    shares = {name: _left(one) for name, one in kept.items()}
    drawn = np.mean([_drawn(one, seed + at, resamples) for at, one in enumerate(kept.values())], axis=0)
    level = widened(CONFIDENCE, min(len(one.before) for one in kept.values()))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    worst = min(shares, key=shares.__getitem__)
    return Retention(
        float(np.mean(list(shares.values()))), Interval(float(low), float(high)), worst, shares[worst], tuple(kept)
    )


def _informs(items: Items) -> bool:
    return is_informative(sum(map(bool, items.before)), len(items.before), items.chance)


def _left(items: Items) -> float:
    """The suite's retention."""
    before, after = (np.array([sum(map(bool, side)) / len(side)]) for side in (items.before, items.after))
    return float(_share(after, before, items.chance)[0])


def _drawn(items: Items, seed: int, resamples: int) -> Array:
    """The suite's retention in each resample of its items."""
    pairs = sorted(zip(map(bool, items.before), map(bool, items.after), strict=True))  # whatever order they came in
    shares = resampled(np.array(pairs, dtype=np.float64), seed, resamples) / len(pairs)
    before = np.maximum(shares[:, 0], items.chance + ABOVE_CHANCE / 2)  # no draw divides by nothing
    return _share(shares[:, 1], before, items.chance)


def _share(after: Array, before: Array, chance: float) -> Array:
    """What is left of what was above chance."""
    return (after - chance) / (before - chance)
