"""What a number of questions can show: the smallest difference, the number that decides, the votes that are needed."""

import math
from dataclasses import dataclass

from xiaozao.evaluate.statistics.distributions import binomial_tail, normal_quantile
from xiaozao.evaluate.statistics.intervals import SIGNIFICANT, Interval, wilson
from xiaozao.evaluate.statistics.paired import sign_test

POWER = 0.8
MOST = 10**12


@dataclass(frozen=True)
class Decision:
    """A line of the table of the sign test: with `decisive` votes at least `wins` are needed. wins is None if none do.

    p, interval and posterior are those of just as many wins.
    """

    decisive: int
    wins: int | None
    p: float
    interval: Interval
    posterior: float


def detectable_difference(n: int, changed: float, power: float = POWER) -> float:
    """The smallest true difference of two shares that `n` paired questions show with this power, two-sided 5 %.

    changed: the share of questions whose verdict changed (psi). Solves sqrt(n) d / sqrt(psi - d²) = 2.80. Where even
    that many changes, all in one direction, would not be enough, it is the difference that would: psi = d.
    """
    reach = (normal_quantile(1 - SIGNIFICANT / 2) + normal_quantile(power)) ** 2
    difference = math.sqrt(reach * changed / (n + reach))
    return difference if difference < changed else reach / (n + reach)


def detectable_mean(n: int, spread: float, power: float = POWER) -> float:
    """The same for a mean of `n` paired differences whose standard deviation is `spread`."""
    return (normal_quantile(1 - SIGNIFICANT / 2) + normal_quantile(power)) * spread / math.sqrt(n)


def items_for_margin(changed: float, margin: float, power: float = POWER) -> int:
    """The number of questions that show "no worse than the margin" with this power, one-sided 5 %, if nothing changed
    on average: 6.18 psi / margin². For a mean, `changed` is the variance of the differences."""
    reach = (normal_quantile(1 - SIGNIFICANT) + normal_quantile(power)) ** 2
    return _whole(reach * changed / margin / margin)


def items_for_difference(changed: float, difference: float, power: float = POWER) -> int:
    """The number of questions that show this difference with this power, two-sided 5 %: 7.85 (psi - d²) / d²."""
    reach = (normal_quantile(1 - SIGNIFICANT / 2) + normal_quantile(power)) ** 2
    return _whole(reach * max(0.0, changed - difference**2) / difference / difference)


def wins_needed(decisive: int) -> int | None:
    """The wins among `decisive` votes from which on the sign test says "preferred"; None below six votes."""
    return next((k for k in range(decisive // 2 + 1, decisive + 1) if sign_test(k, decisive - k) < SIGNIFICANT), None)


def decision(decisive: int) -> Decision:
    """The line of the table for a number of decisive votes."""
    wins = wins_needed(decisive)
    shown = decisive if wins is None else wins
    return Decision(
        decisive, wins, sign_test(shown, decisive - shown), wilson(shown, decisive), posterior(shown, decisive - shown)
    )


def posterior(wins: int, losses: int) -> float:
    """The probability that the true share of wins is above one half, if all shares were equally likely before.

    P(theta > 1/2) under Beta(1 + wins, 1 + losses) equals a binomial tail of wins + losses + 1 tosses.
    """
    n = wins + losses + 1
    if wins < losses:
        return 1 - posterior(losses, wins)
    term = above = 1
    for k in range(1, losses + 1):  # the tail beyond, which is the shorter one
        term = term * (n - k + 1) // k
        above += term
    return 1 - above / (1 << n)


def sign_power(decisive: int, share: float) -> float:
    """How likely the sign test is to say "preferred" after `decisive` votes, if the true share of wins is `share`."""
    wins = wins_needed(decisive)
    return 0.0 if wins is None else binomial_tail(decisive, wins, share)


def vote_power(questions: int, share: float, ties: float) -> float:
    """The same for a number of questions of which a share of `ties` is not decided."""
    return math.fsum(
        (binomial_tail(questions, n, 1 - ties) - binomial_tail(questions, n + 1, 1 - ties)) * sign_power(n, share)
        for n in range(questions + 1)
    )


def detectable_preference(decisive: int, power: float = POWER) -> float | None:
    """The true share of wins that `decisive` votes show with this power; None if they can show none."""
    if wins_needed(decisive) is None:
        return None
    low, high = 0.5, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if sign_power(decisive, middle) < power else (low, middle)
    return high


def _whole(items: float) -> int:
    """A number of items, rounded up; MOST where it is more than anybody has."""
    return math.ceil(min(items, MOST))
