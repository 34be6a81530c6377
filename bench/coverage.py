"""How often every interval of a report covers the truth: `make bench-coverage`; half an hour on one core.

    python -m bench.coverage                 all intervals, 5,000 samples each
    python -m bench.coverage --times 20000   more
    python -m bench.coverage --page          docs/coverage.md alone

Shares and paired differences are computed exactly, over all outcomes there can be; the others by seeded simulation.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.rig.results import read_rows, write_rows
from bench.rig.task import RESULTS
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
    paired_coverage,
    retention_coverage,
    share_coverage,
    t_interval,
)
from xiaozao.evaluate.statistics.intervals import clopper_pearson, wilson

FILE, PAGE = RESULTS / "coverage.jsonl", Path(__file__).parents[1] / "docs" / "coverage.md"
KAPPAS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
HEAD = """# How often the intervals cover the truth

A 95 % interval should hold the true value in 95 of 100 samples. Shown is the lowest and the highest coverage over true
rates of 0.1 to 0.9, with 50 and with 300 items: `make bench-coverage`. Shares and paired differences are exact, over
all outcomes there can be; the others are {times:,} seeded samples for each rate, which leaves ±{error:.1f} points.

| interval | of | 50 items | 300 items |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Covered:
    """The coverage of one interval at one size and one true rate. times: samples, 0 where it is exact."""

    interval: str
    n: int
    rate: float
    coverage: float
    times: int


Measured = Callable[[int, float, int], list[float]]

# The name of each interval, what it is of, whether it is exact, and its coverage for (n, rate, times).
INTERVALS: dict[str, tuple[str, bool, Measured]] = {
    "Wilson": ("a share", True, lambda n, rate, _: [share_coverage(wilson, n, rate)]),
    "Clopper-Pearson": ("a share", True, lambda n, rate, _: [share_coverage(clopper_pearson, n, rate)]),
    "Bonett-Price": (
        "a difference of shares on the same items", True,
        lambda n, rate, _: [share for psi, _, share in paired_coverage(n) if psi == rate],
    ),
    "Student's t": (
        "a mean difference", False,
        lambda n, rate, times: [mean_coverage(t_interval, draw_skewed(rate), rate, n, times)],
    ),
    "BCa bootstrap, shares": (
        "a share", False, lambda n, rate, times: [mean_coverage(bootstrap_interval, draw_binary(rate), rate, n, times)]
    ),
    "BCa bootstrap": (
        "a mean difference", False,
        lambda n, rate, times: [mean_coverage(bootstrap_interval, draw_skewed(rate), rate, n, times)],
    ),
    "BCa bootstrap of clusters of five": (
        "a mean difference", False,
        lambda n, rate, times: [mean_coverage(clustered_interval, draw_skewed(rate), rate, n, times)],
    ),
    "stratified bootstrap": ("retention over two suites", False,
                             lambda n, rate, times: [retention_coverage(n, rate, times)]),
    "Fleiss-Cohen-Everitt, smoothed": (
        "Cohen's kappa from 0 to 0.9", False,
        lambda n, rate, times: [kappa_coverage(n, rate, kappa, times) for kappa in KAPPAS],
    ),
    "ridge logit": ("a preference at equal length", False,
                    lambda n, rate, times: [adjusted_coverage(n, rate, times)]),
}  # fmt: skip


def measure(times: int) -> list[Covered]:
    """The coverage of every interval."""
    rows = []
    for name, (_, exact, measured) in INTERVALS.items():
        for n in SIZES:
            for rate in RATES:
                shares = measured(n, rate, times)
                rows += [Covered(name, n, rate, round(share, 5), 0 if exact else times) for share in shares]
            sys.stdout.write(f"{name}, {n} items: {span(rows, name, n)}\n")
            sys.stdout.flush()
    return rows


def span(rows: list[Covered], name: str, n: int) -> str:
    """The lowest and the highest coverage, in percent."""
    shares = [row.coverage for row in rows if (row.interval, row.n) == (name, n)]
    return f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %"


def page(rows: list[Covered]) -> str:
    """docs/coverage.md."""
    times = max(row.times for row in rows)
    lines = [
        f"| {name} | {of} | " + " | ".join(span(rows, name, n) for n in SIZES) + " |"
        for name, (of, _, _) in INTERVALS.items()
    ]
    return HEAD.format(times=times, error=100 * 1.96 * (0.95 * 0.05 / times) ** 0.5) + "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5000)
    parser.add_argument("--page", action="store_true", help="only write the page")
    given = parser.parse_args()
    if not given.page:
        write_rows(FILE, measure(given.times))
    PAGE.write_text(page(read_rows(FILE, Covered)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
