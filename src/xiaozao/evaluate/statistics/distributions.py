"""The distributions that the tests need, with nothing but `math`: the normal, the binomial, beta and Student's t.

Importing scipy takes longer than all of this together; the tests hold every function to it.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

STANDARD = NormalDist()
TINY = 1e-300  # in place of zero, where a continued fraction would divide by it
BISECTIONS = 200  # halvings: an interval of 1 shrinks below the smallest number long before


def normal_quantile(share: float) -> float:
    """The z below which `share` of the standard normal distribution lies."""
    return STANDARD.inv_cdf(share)


def two_sided(confidence: float) -> float:
    """The z of a two-sided interval: 1.96 for 0.95."""
    return STANDARD.inv_cdf(0.5 + confidence / 2)


def binomial_tail(n: int, least: int, share: float) -> float:
    """The probability of at least `least` successes in `n` trials with probability `share` each."""
    if least <= 0:
        return 1.0
    if least > n:
        return 0.0
    return beta_cdf(share, least, n - least + 1)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz 1976)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta(a, b))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def beta_quantile(share: float, a: float, b: float) -> float:
    """The x below which `share` of Beta(a, b) lies."""
    return _solve(lambda x: beta_cdf(x, a, b) - share, 0.0, 1.0)


def log_beta(a: float, b: float) -> float:
    """The logarithm of the beta function."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def t_tail(t: float, freedom: float) -> float:
    """The two-sided p-value of Student's t: the probability of a value at least as far from zero."""
    return beta_cdf(freedom / (freedom + t * t), freedom / 2, 0.5)


@lru_cache(maxsize=256)
def t_quantile(confidence: float, freedom: float) -> float:
    """The t of a two-sided interval: 2.009 for 0.95 and 49 degrees of freedom."""
    high = 2.0
    while t_tail(high, freedom) > 1 - confidence:
        high *= 2
    return _solve(lambda t: (1 - confidence) - t_tail(t, freedom), 0.0, high)


def _solve(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses zero, by bisection."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function; it converges for x below (a + 1) / (a + b + 2)."""
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for part in (even, odd):
            d = 1 / _away(1 + part * d)
            c = _away(1 + part / c)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _away(value: float) -> float:
    """The value, or something tiny in place of zero."""
    return value if abs(value) > TINY else TINY
