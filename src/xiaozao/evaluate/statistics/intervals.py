"""Intervals of one share: Wilson's score interval, and the exact one of Clopper and Pearson.

With 50 questions the textbook interval (share ± 1.96 standard errors) is wrong near 0 and 1; these are not.
"""

import math
from dataclasses import dataclass

from xiaozao.evaluate.statistics.distributions import beta_quantile, two_sided

SIGNIFICANT = 0.05
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A confidence interval; that of a share lies within 0..1."""

    low: float
    high: float


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval (1927) of `successes` out of `n`; nothing asked (n = 0) leaves everything open.

    Unlike the textbook interval it never leaves 0..1 and does not shrink to a point at 0 of n or n of n.
    """
    _check(successes, n, confidence)
    if n == 0:
        return Interval(0.0, 1.0)
    z2 = two_sided(confidence) ** 2
    share = successes / n
    middle = share + z2 / (2 * n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))
    scale = 1 + z2 / n
    # At the ends the formula gives 0 and 1 up to rounding; a table that says -0.0 % would look like a fault.
    low = 0.0 if successes == 0 else (middle - half) / scale
    high = 1.0 if successes == n else (middle + half) / scale
    return Interval(low, high)


def clopper_pearson(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """The exact interval (1934): it covers the true share at least `confidence` of the time, whatever the share is.

    It is wider than Wilson's, and for a promise that must hold in the worst case.
    """
    _check(successes, n, confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else beta_quantile(tail, successes, n - successes + 1)
    high = 1.0 if successes == n else beta_quantile(1 - tail, successes + 1, n - successes)
    return Interval(low, high)


def _check(successes: int, n: int, confidence: float) -> None:
    if not 0 <= successes <= n or not 0 < confidence < 1:
        raise ValueError(f"{successes} of {n} at confidence {confidence}")
