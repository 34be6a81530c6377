"""How far people agree: Krippendorff's alpha for several voters with gaps, Cohen's kappa for two."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from xiaozao.evaluate.statistics.distributions import two_sided
from xiaozao.evaluate.statistics.intervals import CONFIDENCE, Interval

SHARED = 4.0  # units shared out over the cells of the table, for its interval alone


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa of two voters: 1 is full agreement, 0 that of chance. value is None where chance alone agrees
    fully, because both only ever gave the same answer."""

    value: float | None
    interval: Interval
    n: int


def krippendorff(units: Sequence[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha for nominal data. units: the values that the voters gave to each unit, gaps left out.

    Units with fewer than two values say nothing. None where no unit has two, or where all values are the same: then
    agreement by chance is full, and alpha is not defined.
    """
    paired = [Counter(values) for values in units if len(values) > 1]
    totals: Counter[Hashable] = Counter()
    observed = 0.0
    for counts in paired:
        m = counts.total()
        totals.update(counts)
        observed += (m * m - sum(count * count for count in counts.values())) / (m - 1)
    n = totals.total()
    expected = n * n - sum(count * count for count in totals.values())
    return None if expected == 0 else 1 - (n - 1) * observed / expected


def cohen(first: Sequence[Hashable], second: Sequence[Hashable], confidence: float = CONFIDENCE) -> Kappa:
    """Cohen's kappa of two voters on the same units, with an interval.

    The interval is that of Fleiss, Cohen and Everitt (1969) on the table with four units shared out over its cells:
    on few units, and for rare answers, the plain one is too narrow, and where both always agree it is a point.
    """
    kinds = sorted({*first, *second}, key=repr)
    place = {kind: number for number, kind in enumerate(kinds)}
    table = [[0.0] * len(kinds) for _ in kinds]
    for left, right in zip(first, second, strict=True):
        table[place[left]][place[right]] += 1
    n = len(first)
    value = kappa_of(table)[0] if n else None
    if n == 0 or value is None:
        return Kappa(None, Interval(-1.0, 1.0), n)
    centre, error = kappa_of([[cell + SHARED / len(kinds) ** 2 for cell in row] for row in table])
    assert centre is not None
    half = two_sided(confidence) * error
    low, high = min(value, centre - half), max(value, centre + half)  # few units may pull the centre far away
    return Kappa(value, Interval(max(-1.0, low), min(1.0, high)), n)


def kappa_of(table: Sequence[Sequence[float]]) -> tuple[float | None, float]:
    """Kappa and its standard error, from a table of counts; (None, 0) where agreement by chance is full."""
    n = math.fsum(map(math.fsum, table))
    shares = [[cell / n for cell in row] for row in table]
    rows = [math.fsum(row) for row in shares]
    columns = [math.fsum(column) for column in zip(*shares, strict=True)]
    agreed = math.fsum(shares[k][k] for k in range(len(table)))
    chance = math.fsum(row * column for row, column in zip(rows, columns, strict=True))
    if chance > 1 - 1e-12:
        return None, 0.0
    kappa = (agreed - chance) / (1 - chance)
    on = math.fsum(shares[k][k] * (1 - (rows[k] + columns[k]) * (1 - kappa)) ** 2 for k in range(len(table)))
    off = (1 - kappa) ** 2 * math.fsum(
        shares[i][j] * (columns[i] + rows[j]) ** 2 for i in range(len(table)) for j in range(len(table)) if i != j
    )
    variance = (on + off - (kappa - chance * (1 - kappa)) ** 2) / (n * (1 - chance) ** 2)
    return kappa, math.sqrt(max(0.0, variance))
