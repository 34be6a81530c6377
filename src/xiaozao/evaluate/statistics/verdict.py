"""One test before and after, judged: regressed, no regression beyond the margin, improved, or inconclusive.

    regressed        the whole interval is below zero, and p, adjusted for all suites, is under 5 %
    improved         the same above zero
    no_regression    the one-sided 95 % bound is above -margin: whatever was lost is less than the margin
    inconclusive     none of these; `n_needed` items would decide, or the noise of the machine is in the way

Of fewer than FEWEST items nothing good is said: if training spoiled every seventh thing that is asked, 19 items would
miss all of it once in twenty times. What is worse is said of any number. A share that is better has an exact test, and
a mean has not, so that "improved" needs as many items there.

The margin is stated before. The noise floor is what two evaluations of one and the same model differ by on the user's
machine; a difference within it is no verdict. With 50 items a true loss of 3 points is not seen, and "inconclusive"
says so rather than "no change".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from xiaozao.evaluate.statistics.intervals import SIGNIFICANT, Interval
from xiaozao.evaluate.statistics.paired import deviation, holm, mcnemar, mean_difference, paired_difference
from xiaozao.evaluate.statistics.power import (
    detectable_difference,
    detectable_mean,
    items_for_difference,
    items_for_margin,
)
from xiaozao.evaluate.statistics.resampling import bootstrap_mean

Outcome = Literal["regressed", "no_regression", "improved", "inconclusive"]
MARGIN = 0.03
FEWEST = 20  # items from which on "no loss" is said: (1 - 1/7)^20 < 0.05
ONE_SIDED = 1 - 2 * SIGNIFICANT  # an interval of this confidence has the one-sided 95 % bound as its end


@dataclass(frozen=True)
class Verdict:
    """What one suite says. Shares are fractions of 1; a mean is in its own unit.

    difference: after - before. interval: its two-sided 95 % interval. bound: the interval whose ends are the one-sided
    95 % bounds. psi: the share of items whose verdict changed, None for a mean. mde: the smallest difference that this
    many items show with 80 % power. variance: that of one item's difference. noise: how large a difference two
    evaluations of the same model can make, in the unit of the difference.
    """

    n: int
    before: float
    after: float
    difference: float
    interval: Interval
    bound: Interval
    p: float
    p_adjusted: float
    psi: float | None
    mde: float
    margin: float
    noise: float
    variance: float
    higher_is_better: bool = True

    @property
    def gain(self) -> float:
        """The difference, positive where the model got better."""
        return self.difference if self.higher_is_better else -self.difference

    @property
    def worst(self) -> float:
        """The one-sided 95 % bound of the gain: it is hardly worse than this."""
        return self.bound.low if self.higher_is_better else -self.bound.high

    @property
    def in_noise(self) -> bool:
        """Whether a difference was found that the machine alone can make."""
        return self.noise > 0 and self.difference != 0 and abs(self.difference) <= self.noise

    @property
    def few(self) -> bool:
        """Whether there are too few items to say that nothing was lost."""
        return self.n < FEWEST

    @property
    def outcome(self) -> Outcome:
        """The verdict."""
        if not self.n:
            return "inconclusive"
        apart = self.interval.low > 0 or self.interval.high < 0
        if apart and self.p_adjusted < SIGNIFICANT and abs(self.difference) > self.noise:
            if self.gain < 0 or self.psi is not None or not self.few:
                return "improved" if self.gain > 0 else "regressed"
        if self.worst > -self.margin and self.noise < self.margin and not self.few:
            return "no_regression"
        return "inconclusive"

    @property
    def n_needed(self) -> int | None:
        """The number of items that would decide with 80 % power; None where it is decided, or where noise is in the way
        and more items do not help.

        That is the number which shows "no worse than the margin" if nothing changed. Where there are as many already,
        it is the smaller of those that show the difference found, or that it is within the margin.
        """
        if self.outcome != "inconclusive" or self.noise >= self.margin:
            return None
        if self.least > self.n:
            return self.least
        ways = [items_for_difference(self.variance, self.gain)] if self.gain else []
        if -self.margin < self.gain < 0:
            ways.append(items_for_margin(self.variance, self.margin + self.gain))
        return max(self.n + 1, min(ways, default=0))

    @property
    def least(self) -> int:
        """The number of items that would show "no worse than the margin" if nothing changed on average, each item
        varied as it did here, and the machine had no noise."""
        return max(FEWEST, items_for_margin(self.variance, self.margin))


def verdict(before: Sequence[bool], after: Sequence[bool], margin: float = MARGIN, noise: int = 0) -> Verdict:
    """Judge the same items before and after, right or wrong each.

    margin: the loss that would not matter, as a fraction of 1. noise: how many items flip between two evaluations of
    the same model. Without items nothing is said.
    """
    if margin <= 0 or noise < 0:
        raise ValueError(f"a margin of {margin}, a noise of {noise} items")
    pairs = list(zip(before, after, strict=True))
    n = len(pairs)
    gained = sum(1 for was, now in pairs if now and not was)
    lost = sum(1 for was, now in pairs if was and not now)
    psi = (gained + lost) / n if n else 0.0
    counted = (gained + lost + 2) / (n + 2)  # as the interval counts; where nothing changed it is not zero
    return Verdict(
        n=n,
        before=sum(map(bool, before)) / n if n else 0.0,
        after=sum(map(bool, after)) / n if n else 0.0,
        difference=(gained - lost) / n if n else 0.0,
        interval=paired_difference(gained, lost, n),
        bound=paired_difference(gained, lost, n, ONE_SIDED),
        p=mcnemar(gained, lost),
        p_adjusted=mcnemar(gained, lost),
        psi=psi,
        mde=detectable_difference(n, counted),
        margin=margin,
        noise=noise / n if n else 0.0,
        variance=counted,
    )


def verdict_of_means(
    before: Sequence[float],
    after: Sequence[float],
    margin: float,
    noise: float = 0.0,
    clusters: Sequence[object] | None = None,
    higher_is_better: bool = False,
) -> Verdict:
    """Judge a continuous measure of the same items before and after, such as bits per byte.

    margin and noise are in the unit of the measure. clusters: which items belong together; then the interval is a
    bootstrap of clusters, and p that of a t-test on their means.
    """
    if margin <= 0 or noise < 0:
        raise ValueError(f"a margin of {margin}, a noise of {noise}")
    differences = [now - was for was, now in zip(before, after, strict=True)]
    n = len(differences)
    if not n:
        return _nothing(margin, noise, higher_is_better)
    units = differences if clusters is None else _cluster_means(differences, clusters)
    plain, tested = mean_difference(differences, ONE_SIDED), mean_difference(units)
    spread = deviation(differences)
    sizes = (SIGNIFICANT, 2 * SIGNIFICANT)
    interval, bound = (
        (tested.interval, plain.interval)
        if clusters is None
        else (bootstrap_mean(differences, clusters, 1 - size) for size in sizes)
    )
    return Verdict(
        n=n,
        before=math.fsum(before) / n,
        after=math.fsum(after) / n,
        difference=plain.value,
        interval=interval,
        bound=bound,
        p=tested.p,
        p_adjusted=tested.p,
        psi=None,
        mde=detectable_mean(n, spread),
        margin=margin,
        noise=noise,
        variance=spread**2,
        higher_is_better=higher_is_better,
    )


def jointly(verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """The verdicts of all suites of one report, their p-values adjusted for having asked all of them (Holm 1979)."""
    adjusted = holm([one.p for one in verdicts.values()])
    return {name: replace(one, p_adjusted=p) for (name, one), p in zip(verdicts.items(), adjusted, strict=True)}


def flips(first: Sequence[bool], second: Sequence[bool]) -> int:
    """The noise floor: how many items two evaluations of the same model judge differently."""
    return sum(bool(one) != bool(other) for one, other in zip(first, second, strict=True))


def _cluster_means(values: Sequence[float], clusters: Sequence[object]) -> list[float]:
    """The mean of each cluster."""
    members: dict[object, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        members.setdefault(cluster, []).append(value)
    return [math.fsum(one) / len(one) for one in members.values()]


def _nothing(margin: float, noise: float, higher_is_better: bool) -> Verdict:
    """The verdict on no items."""
    everything = Interval(-math.inf, math.inf)
    return Verdict(
        n=0, before=0.0, after=0.0, difference=0.0, interval=everything, bound=everything, p=1.0, p_adjusted=1.0,
        psi=None, mde=math.inf, margin=margin, noise=noise, variance=0.0, higher_is_better=higher_is_better,
    )  # fmt: skip
