import math

import numpy as np
import pytest
from scipy.special import betaln

from xiaozao.evaluate.statistics.paired import sign_test
from xiaozao.evaluate.statistics.sequential import evidence, may_stop, wins_to_stop

STOP = {8: 8, 10: 10, 15: 14, 20: 17, 25: 20, 30: 24, 35: 27, 40: 30, 45: 33, 50: 36, 75: 52, 100: 66}


def alarms(share: float, looks: int, counted: bool = False) -> tuple[float, float]:
    """The exact probability that a vote is stopped within `looks` decisive votes, and the mean number of votes then.

    counted: whether a vote that was not stopped is decided by the sign test at its end.
    """
    alive, stopped, length = {0: 1.0}, 0.0, 0.0  # wins -> probability
    for n in range(1, looks + 1):
        after: dict[int, float] = {}
        for wins, chance in alive.items():
            after[wins] = after.get(wins, 0.0) + chance * (1 - share)
            after[wins + 1] = after.get(wins + 1, 0.0) + chance * share
        end = counted and n == looks
        now = {
            wins: chance
            for wins, chance in after.items()
            if may_stop(wins, n - wins) or (end and sign_test(wins, n - wins) < 0.05)
        }
        stopped, length = stopped + sum(now.values()), length + n * sum(now.values())
        alive = {wins: chance for wins, chance in after.items() if wins not in now}
    return stopped, length / stopped if stopped else math.nan


def test_the_evidence_is_the_mixture_of_all_shares() -> None:
    for wins, losses in ((0, 0), (8, 0), (14, 1), (30, 20), (400, 300)):
        assert math.log(evidence(wins, losses)) == pytest.approx(
            betaln(1 + wins, 1 + losses) + (wins + losses) * math.log(2), rel=1e-9, abs=1e-9
        )
    assert evidence(0, 0) == 1
    assert evidence(5000, 0) == math.inf


def test_the_table_of_the_early_stop() -> None:
    assert {decisive: wins_to_stop(decisive) for decisive in STOP} == STOP
    assert wins_to_stop(7) is None
    assert all(may_stop(wins, n - wins) and not may_stop(wins - 1, n - wins + 1) for n, wins in STOP.items())


def test_looking_after_every_vote_raises_false_alarms_in_less_than_one_vote_of_twenty() -> None:
    assert alarms(0.5, 50)[0] == pytest.approx(0.0233, abs=0.0001)
    assert alarms(0.5, 500)[0] < 0.05
    for share, power, votes in ((0.7, 0.55, 38), (0.75, 0.82, 30), (0.8, 0.96, 23)):
        stopped, length = alarms(share, 50)
        assert stopped == pytest.approx(power, abs=0.01) and length < votes


def test_stopping_when_told_and_counting_at_the_end_otherwise() -> None:
    """Both chances together are a little more than either: what docs/blind.md says of it."""
    together = {decisive: alarms(0.5, decisive, counted=True)[0] for decisive in range(6, 51)}
    assert together[50] == pytest.approx(0.0474, abs=1e-4)
    assert max(together, key=together.__getitem__) == 44 and together[44] == pytest.approx(0.061, abs=1e-4)


def test_false_alarms_in_simulation() -> None:
    """100,000 votes of 50 coin tosses, looked at after every one."""
    tosses = np.random.default_rng(7).random((100_000, 50)) < 0.5
    wins = tosses.cumsum(axis=1)
    needed = np.array([wins_to_stop(n) or 99 for n in range(1, 51)])
    losses = np.arange(1, 51) - wins
    false = ((wins >= needed) | (losses >= needed)).any(axis=1).mean()
    assert 0.015 < false < 0.05
