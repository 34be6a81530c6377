"""The plan of the Hugging Face stack against runs that were measured on GPUs: `make bench-plan-gpu`.

    ZAO_TRUTH=FILE.csv python -m bench.plan_gpu

Needs no GPU. Writes docs/plan-gpu.md and results/plan_gpu.jsonl, a line per run.
"""

import json
import os
import sys
from pathlib import Path

from bench.rig.plan_gpu_page import groups, plan_gpu_page
from bench.rig.task import RESULTS
from bench.rig.truth import Scored, read_truth, score, summary

FILE, PAGE = RESULTS / "plan_gpu.jsonl", Path(__file__).parents[1] / "docs" / "plan-gpu.md"


def line(one: Scored) -> str:
    """A run as JSON; bytes and relative errors."""
    row = one.row
    errors = {name: round(error, 6) for name, error in one.errors.items()}
    return json.dumps(
        {"row": row.name, "model": row.model, "gpu": row.gpu, "run": row.setting, "measured": row.measured,
         "planned": {name: one.planned[name] for name in row.measured}, "errors": errors}
    )  # fmt: skip


def main() -> int:
    path = os.environ.get("ZAO_TRUTH")
    if not path:
        sys.stderr.write("Set ZAO_TRUTH to the CSV of measured runs.\n")
        return 2
    scored = score(read_truth(Path(path)))
    FILE.write_text("".join(line(one) + "\n" for one in scored), encoding="utf-8")
    PAGE.write_text(plan_gpu_page(scored), encoding="utf-8")
    for group, members in groups(scored).items():
        for name in ("allocated", "reserved"):
            count, mean, worst = summary(members, name)
            sys.stdout.write(f"{group:<16}{name:<12}{count:>4} runs  mean {mean:.2%}  worst {worst:.2%}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
