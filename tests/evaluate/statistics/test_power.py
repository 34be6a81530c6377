"""The tables that are printed beside a result, row by row, and what they are made of."""

import math

import pytest
from scipy.stats import beta, binom

from xiaozao.evaluate.statistics.paired import sign_test
from xiaozao.evaluate.statistics.power import (
    decision,
    detectable_difference,
    detectable_mean,
    detectable_preference,
    items_for_difference,
    items_for_margin,
    posterior,
    sign_power,
    vote_power,
    wins_needed,
)

# (decisive votes, wins needed, p, Wilson's interval, posterior), as printed.
SIGN_TABLE = [
    (20, 15, ".041", ".531-.888", ".987"),
    (25, 18, ".043", ".524-.857", ".986"),
    (30, 21, ".043", ".521-.833", ".985"),
    (35, 24, ".041", ".520-.814", ".986"),
    (40, 27, ".038", ".520-.799", ".986"),
    (45, 30, ".036", ".521-.786", ".987"),
    (50, 33, ".033", ".522-.776", ".988"),
    (100, 61, ".035", ".512-.700", ".986"),
    (200, 115, ".040", ".506-.641", ".983"),
]

# The smallest difference in points, for shares of changed items of 5, 10, 15, 20 and 30 %.
DIFFERENCE_TABLE = {
    100: (None, 8.6, 10.5, 12.1, 14.8),
    200: (4.4, 6.2, 7.5, 8.7, 10.7),
    300: (3.6, 5.1, 6.2, 7.2, 8.8),
    500: (2.8, 4.0, 4.9, 5.6, 6.9),
    1000: (2.0, 2.8, 3.5, 4.0, 4.9),
    1319: (1.8, 2.5, 3.0, 3.5, 4.2),
    14042: (0.5, 0.8, 1.0, 1.1, 1.3),
}


def short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


@pytest.mark.parametrize(("decisive", "wins", "p", "interval", "after"), SIGN_TABLE)
def test_the_table_of_the_sign_test(decisive: int, wins: int, p: str, interval: str, after: str) -> None:
    line = decision(decisive)
    shown = f"{short(line.interval.low)}-{short(line.interval.high)}"
    assert (line.wins, short(line.p), shown, short(line.posterior)) == (wins, p, interval, after)
    assert sign_test(wins - 1, decisive - wins + 1) >= 0.05


@pytest.mark.parametrize("n", DIFFERENCE_TABLE)
def test_the_table_of_the_smallest_difference(n: int) -> None:
    """The table was made in steps of 0.05 points, upwards, and is printed to 0.1."""
    for psi, printed in zip((0.05, 0.1, 0.15, 0.2, 0.3), DIFFERENCE_TABLE[n], strict=True):
        points = 100 * detectable_difference(n, psi)
        if printed is None:
            assert points > 100 * psi  # no difference that is possible with so few changes would be seen
        else:
            assert math.ceil(points / 0.05) * 0.05 == pytest.approx(printed, abs=0.0501)


def test_the_smallest_difference_solves_its_equation() -> None:
    for n, psi in ((120, 0.2), (500, 0.1), (14042, 0.3)):
        d = detectable_difference(n, psi)
        assert math.sqrt(n) * d / math.sqrt(psi - d * d) == pytest.approx(1.959964 + 0.841621, abs=1e-5)
    d = detectable_difference(100, 0.05)  # where all changes go one way, psi is d itself
    assert math.sqrt(100) * d / math.sqrt(d - d * d) == pytest.approx(1.959964 + 0.841621, abs=1e-5)
    assert detectable_difference(0, 0.0) == 1.0
    assert detectable_mean(100, 2.0) == pytest.approx(0.2 * (1.959964 + 0.841621), abs=1e-5)


def test_the_number_of_items_that_decides() -> None:
    assert [items_for_margin(psi, delta) for psi, delta in ((0.1, 0.03), (0.15, 0.03), (0.1, 0.05))] == [687, 1031, 248]
    wanted = items_for_difference(0.1, 0.04)
    assert detectable_difference(wanted, 0.1) <= 0.04 < detectable_difference(wanted - 1, 0.1)
    assert items_for_margin(0.1, 1e-200) == items_for_difference(0.1, 1e-200) == 10**12


def test_the_power_of_fifty_decisive_votes() -> None:
    printed = {0.6: 0.24, 0.65: 0.51, 0.7: 0.78, 0.75: 0.95}
    for share, power in printed.items():
        assert sign_power(50, share) == pytest.approx(power, abs=0.0055)
        assert sign_power(50, share) == pytest.approx(binom.sf(32, 50, share), rel=1e-9)
    for ties, power in ((0, 0.78), (0.2, 0.68), (0.4, 0.53)):
        assert vote_power(50, 0.7, ties) == pytest.approx(power, abs=0.0055)
    for decisive, percent in ((30, 75), (50, 70.4), (100, 64.6), (200, 60.2), (400, 57.3)):
        least = detectable_preference(decisive)
        assert least is not None and 100 * least == pytest.approx(percent, abs=0.1)
        assert sign_power(decisive, least) == pytest.approx(0.8, abs=1e-3)


def test_fewer_than_six_votes_show_nothing() -> None:
    assert [wins_needed(n) for n in range(7)] == [None] * 6 + [6]
    assert (sign_power(5, 1.0), detectable_preference(5), decision(5).wins, decision(0).p) == (0.0, None, None, 1.0)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (0, 5), (33, 17), (17, 33), (115, 85), (900, 600)])
def test_the_posterior_is_that_of_the_beta_distribution(wins: int, losses: int) -> None:
    assert posterior(wins, losses) == pytest.approx(beta.sf(0.5, 1 + wins, 1 + losses), rel=1e-9, abs=1e-15)
