"""Two models on the same questions: what changed, whether it is more than chance, and how large the difference is.

Pairing is worth two to four times as many questions: what both models got right, or both wrong, cancels out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xiaozao.evaluate.statistics.distributions import t_quantile, t_tail, two_sided
from xiaozao.evaluate.statistics.intervals import CONFIDENCE, Interval


@dataclass(frozen=True)
class Mean:
    """A mean with its interval and the two-sided p-value of "it is zero"."""

    value: float
    interval: Interval
    p: float


def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided p-value of the sign test: each decisive vote is a coin toss if nothing is preferred.

    p is a binomial tail, doubled, in whole numbers, so that it neither overflows nor vanishes.
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"{wins} wins, {losses} losses")
    n = wins + losses
    term = total = 1  # the binomial coefficients n over 0, n over 1, ...
    for k in range(1, min(wins, losses) + 1):
        term = term * (n - k + 1) // k
        total += term
    return min(1.0, 2 * total / (1 << n))


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value of McNemar's test: `gained` questions went from wrong to right, `lost` the other way.

    Questions that both models got right, or both wrong, say nothing about the change and are left out. Under "no
    change" each of the others is a coin toss.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"{gained} gained, {lost} lost")
    return sign_test(gained, lost)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p-values, adjusted for having asked several questions at once (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = worst
    return tuple(adjusted)


def paired_difference(gained: int, lost: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """The interval of a difference of two shares on the same `n` questions (Bonett and Price 2012).

    Wald's interval after half a question is added to each of the four cells; where nothing changed it is not a point.
    Without questions every difference is possible.
    """
    if min(gained, lost) < 0 or gained + lost > n or not 0 < confidence < 1:
        raise ValueError(f"{gained} gained and {lost} lost of {n} at confidence {confidence}")
    if n == 0:
        return Interval(-1.0, 1.0)
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = two_sided(confidence) * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return Interval(max(-1.0, up - down - half), min(1.0, up - down + half))


def mean_difference(differences: Sequence[float], confidence: float = CONFIDENCE) -> Mean:
    """The mean of paired differences with Student's t interval and test.

    One difference, or differences that are all the same, tell nothing of their spread: the interval of one is
    unbounded, and that of equal ones is a point.
    """
    n = len(differences)
    if n == 0 or not 0 < confidence < 1 or not all(map(math.isfinite, differences)):
        raise ValueError(f"{n} differences, all finite, at confidence {confidence}")
    mean = math.fsum(differences) / n
    if n == 1:
        return Mean(mean, Interval(-math.inf, math.inf), 1.0)
    error = deviation(differences) / math.sqrt(n)
    if error == 0:
        return Mean(mean, Interval(mean, mean), 1.0 if mean == 0 else 0.0)
    half = t_quantile(confidence, n - 1) * error
    return Mean(mean, Interval(mean - half, mean + half), t_tail(mean / error, n - 1))


def deviation(values: Sequence[float]) -> float:
    """The standard deviation of a sample; 0 for fewer than two values, or values that differ by rounding alone."""
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return spread if spread > 1e-12 * abs(mean) else 0.0
