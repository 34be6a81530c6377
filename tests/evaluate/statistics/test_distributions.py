"""Every distribution equals scipy's, at ordinary places and at the ends."""

import pytest
from scipy import special, stats

from xiaozao.evaluate.statistics.distributions import (
    beta_cdf,
    beta_quantile,
    binomial_tail,
    log_beta,
    normal_quantile,
    t_quantile,
    t_tail,
    two_sided,
)

SHAPES = [(1, 1), (0.5, 0.5), (2, 30), (17, 3), (500, 500), (12000, 2042), (0.5, 4000)]


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_the_beta_distribution_equals_scipys(a: float, b: float) -> None:
    for x in (-1, 0, 1e-9, 0.02, 0.3, 0.5, 0.85, 0.9999, 1, 2):
        assert beta_cdf(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), rel=1e-8, abs=1e-13)
    for share in (0.001, 0.025, 0.5, 0.975, 0.999):
        assert beta_quantile(share, a, b) == pytest.approx(stats.beta.ppf(share, a, b), rel=1e-7, abs=1e-12)
    assert log_beta(a, b) == pytest.approx(special.betaln(a, b), rel=1e-9)


@pytest.mark.parametrize("freedom", [1, 2, 3.7, 49, 299, 100_000])
def test_students_t_equals_scipys(freedom: float) -> None:
    for t in (0, 0.1, 1, 2.5, 12):
        assert t_tail(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-8, abs=1e-14)
    for confidence in (0.5, 0.9, 0.95, 0.999):
        assert t_quantile(confidence, freedom) == pytest.approx(stats.t.ppf(0.5 + confidence / 2, freedom), rel=1e-8)


@pytest.mark.parametrize("n", [1, 6, 50, 400])
def test_the_binomial_tail_equals_scipys(n: int) -> None:
    for share in (0.1, 0.5, 0.7):
        for least in (-1, 0, 1, n // 2, n, n + 1):
            theirs = stats.binom.sf(least - 1, n, share)
            assert binomial_tail(n, least, share) == pytest.approx(theirs, rel=1e-9, abs=1e-14)


def test_the_normal_quantiles_are_the_known_ones() -> None:
    assert two_sided(0.95) == pytest.approx(1.959963984540054, rel=1e-12)
    assert normal_quantile(0.8) == pytest.approx(0.8416212335729143, rel=1e-12)
