"""What a handful of questions can prove: an interval for a share, a test for a paired change, and Holm's correction.

Everything is exact or closed-form, so plain `math` is enough; with 50 questions the normal approximation is not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a share, both ends within 0..1."""

    low: float
    high: float


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval (1927) of `successes` out of `n`; nothing asked (n = 0) leaves everything open.

    Unlike the textbook interval it never leaves 0..1 and does not shrink to a point at 0 of n or n of n.
    """
    if not 0 <= successes <= n or not 0 < confidence < 1:
        raise ValueError(f"{successes} of {n} at confidence {confidence}")
    if n == 0:
        return Interval(0.0, 1.0)
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    share = successes / n
    middle = share + z2 / (2 * n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))
    scale = 1 + z2 / n
    # At the ends the formula gives 0 and 1 up to rounding; a table that says -0.0 % would look like a fault.
    low = 0.0 if successes == 0 else (middle - half) / scale
    high = 1.0 if successes == n else (middle + half) / scale
    return Interval(low, high)


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value of McNemar's test: `gained` questions went from wrong to right, `lost` the other way.

    Questions that both models got right, or both wrong, say nothing about the change and are left out. Under "no
    change" each of the others is a coin toss, so p is a binomial tail, doubled.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"{gained} gained, {lost} lost")
    changed = gained + lost
    tail = sum(math.comb(changed, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << changed))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p-values, adjusted for having asked several questions at once (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = worst
    return tuple(adjusted)
