"""`zao eval bench RUN`: the standard tests of a run's result, before and after training."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.eval_run import Asked, check_together, evaluate, memory_of, stop_evaluation
from xiaozao.errors import UsageError
from xiaozao.evaluate.telling import figures, left_notes, standing_notes, standing_sentence, suite_name
from xiaozao.hub.jsonfile import read_object
from xiaozao.runs.results import trained
from xiaozao.spec.evaluation import BenchSpec
from xiaozao.store.files import RunFolder
from xiaozao.texts.catalogue import Language, say

COLOURS = {"regressed": "red", "improved": "green", "no_regression": "green", "inconclusive": "yellow"}


def work(run: str, again: bool, detach: bool, stop: bool, **settings: Any) -> int:
    output = current_output()
    check_together("--stop", stop, again=again, detach=detach)
    source, options = trained(run)
    if stop:
        return stop_evaluation(source, "bench", output)
    spec = _asked(source, **settings)
    return evaluate(source, options, Asked(spec, again, detach), output, partial(_show, output=output))


def _asked(
    source: RunFolder, task: Sequence[str], limit: int | None, margin: float, once: bool, threads: int | None,
    budget: str | None,
) -> BenchSpec:  # fmt: skip
    tasks = {}
    for given in task:
        name, equals, path = given.partition("=")
        if not equals or not name.strip() or not path.strip() or "." in name:
            raise UsageError("eval_task", task=given)
        tasks[name.strip()] = str(Path(path.strip()).expanduser().absolute())
    return BenchSpec(
        run=str(source.path), tasks=tasks, limit=limit, margin=margin / 100, noise=not once, threads=threads,
        budget=memory_of(budget),
    )  # fmt: skip


def _show(folder: RunFolder, output: Output) -> int:
    result = read_object(folder.standing)
    output.result(standing_view(result, output.language), result, str(folder.standing))
    return 0


def standing_view(result: dict[str, Any], language: Language) -> RenderableType:
    """One sentence, the table of what was judged, the topics, and what the result was made under."""
    groups, topics = result["groups"], result["topics"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("test", "n", "before", "after", "difference", "verdict"):
        table.add_column(
            say(f"bench.column.{column}", language), justify="left" if column in ("test", "verdict") else "right"
        )
    for group in groups:
        table.add_row(*_row(group, language))
    conditions = result["conditions"]
    told = [
        Text(f"{suite_name(one['name'], language)}  {one['before']:.0%} → {one['after']:.0%} ({one['n']})")
        for one in topics
    ]
    last = say(
        "bench.conditions", language, precision=conditions["precision"], threads=conditions["threads"],
        minutes=f"{conditions['seconds'] / 60:.1f}", peak=f"{conditions['peak_rss_bytes'] / 1e9:.2f}",
    )  # fmt: skip
    notes = [*standing_notes(groups, language), *left_notes(result, language)]
    parts: list[RenderableType] = [
        Text(standing_sentence(result, language), style=f"bold {COLOURS[result['outcome']]}"), "", table, "",
        Text(say("bench.topics", language), style="bold"), *told, "", *notes, *([""] if notes else []), last,
    ]  # fmt: skip
    return Group(*parts)


def _row(one: dict[str, Any], language: Language) -> list[RenderableType]:
    if not one["informative"]:
        verdict = Text(say("bench.uninformative", language), style="dim")
    else:
        verdict = Text(say(f"bench.outcome.{one['outcome']}", language), style=COLOURS[one["outcome"]])
    if not one["certifies"]:
        verdict.append(say("bench.beside", language), style="dim")
    return [suite_name(one["name"], language), str(one["n"]), *figures(one), verdict]
