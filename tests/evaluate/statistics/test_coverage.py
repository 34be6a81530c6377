"""Every interval covers the truth in 93 to 100 % of seeded samples. Exact coverage is in the tests of each interval."""

import pytest

from tests.evaluate.statistics.simulate import (
    RATES,
    SIZES,
    adjusted_coverage,
    bootstrap_interval,
    clustered_interval,
    draw_binary,
    draw_skewed,
    kappa_coverage,
    mean_coverage,
    retention_coverage,
    t_interval,
)

TIMES = {50: 3000, 300: 1500}  # samples: 93 % lies five, and four, standard errors below 95 %

grid = pytest.mark.parametrize("n", SIZES)
rates = pytest.mark.parametrize("rate", RATES)


@grid
@rates
def test_students_t(n: int, rate: float) -> None:
    assert 0.93 <= mean_coverage(t_interval, draw_skewed(rate), rate, n, TIMES[n]) <= 1


@grid
@rates
def test_the_bootstrap_of_right_and_wrong(n: int, rate: float) -> None:
    assert 0.93 <= mean_coverage(bootstrap_interval, draw_binary(rate), rate, n, TIMES[n]) <= 1


@grid
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_bootstrap_of_a_measure(n: int, rate: float) -> None:
    assert 0.93 <= mean_coverage(bootstrap_interval, draw_skewed(rate), rate, n, TIMES[n]) <= 1


@grid
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_bootstrap_of_clusters(n: int, rate: float) -> None:
    """Ten clusters of five, and sixty."""
    assert 0.93 <= mean_coverage(clustered_interval, draw_skewed(rate), rate, n, TIMES[n]) <= 1


@grid
@rates
def test_retention(n: int, rate: float) -> None:
    assert 0.93 <= retention_coverage(n, rate, TIMES[n]) <= 1


@grid
@rates
@pytest.mark.parametrize("kappa", [0.0, 0.4, 0.8])
def test_kappa(n: int, rate: float, kappa: float) -> None:
    assert 0.93 <= kappa_coverage(n, rate, kappa, TIMES[n]) <= 1


@grid
@rates
def test_the_share_of_wins_at_equal_length(n: int, rate: float) -> None:
    assert 0.93 <= adjusted_coverage(n, rate, TIMES[n]) <= 1
