"""`zao eval bench RUN`: the standard tests of a run's result, before and after training."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.eval_run import evaluate, memory_of
from xiaozao.errors import UsageError
from xiaozao.hub.jsonfile import read_object
from xiaozao.runs.results import trained
from xiaozao.spec.evaluation import BenchSpec
from xiaozao.store.files import RunFolder
from xiaozao.texts.catalogue import Language, say

COLOURS = {"regressed": "red", "improved": "green", "no_regression": "green", "inconclusive": "yellow"}


def work(run: str, again: bool, detach: bool, **settings: Any) -> int:
    output = current_output()
    source, options = trained(run)
    spec = _asked(source, **settings)
    return evaluate(source, options, spec, again, detach, output, partial(_show, output=output))


def _asked(
    source: RunFolder, task: Sequence[str], limit: int | None, margin: float, once: bool, threads: int | None,
    budget: str | None,
) -> BenchSpec:  # fmt: skip
    tasks = {}
    for one in task:
        name, equals, path = one.partition("=")
        if not equals or not name.strip() or not path.strip() or "." in name:
            raise UsageError("eval_task", task=one)
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
    for one in groups:
        table.add_row(*_row(one, language))
    conditions = result["conditions"]
    told = [
        Text(f"{_name(one['name'], language)}  {one['before']:.0%} → {one['after']:.0%} ({one['n']})") for one in topics
    ]
    last = say(
        "bench.conditions", language, precision=conditions["precision"], threads=conditions["threads"],
        minutes=f"{conditions['seconds'] / 60:.1f}", peak=f"{conditions['peak_rss_bytes'] / 1e9:.2f}",
    )  # fmt: skip
    parts: list[RenderableType] = [
        Text(sentence(result, language), style=f"bold {COLOURS[result['outcome']]}"), "", table, "",
        Text(say("bench.topics", language), style="bold"), *told, "", *_notes(groups, language), last,
    ]  # fmt: skip
    return Group(*parts)


def sentence(result: dict[str, Any], language: Language) -> str:
    """The verdict in one sentence."""
    worse = [
        one for one in result["groups"] if one["certifies"] and one["informative"] and one["outcome"] == "regressed"
    ]
    names = say("list.semicolon", language).join(_name(one["name"], language) for one in worse)
    return say(f"bench.sentence.{result['outcome']}", language, names=names)


def _row(one: dict[str, Any], language: Language) -> list[RenderableType]:
    if one["kind"] == "text":
        before, after = f"{one['before']:.3f}", f"{one['after']:.3f}"
        bounds = (("difference", ""), ("low", "-∞"), ("high", "+∞"))
        change, low, high = (_percent(one[key], one["before"], without) for key, without in bounds)
        difference = f"{change} % [{low}, {high}]"
    else:
        before, after = f"{one['before']:.1%}", f"{one['after']:.1%}"
        difference = f"{100 * one['difference']:+.1f} [{100 * one['low']:+.1f}, {100 * one['high']:+.1f}]"
    if not one["informative"]:
        verdict = Text(say("bench.uninformative", language), style="dim")
    else:
        verdict = Text(say(f"bench.outcome.{one['outcome']}", language), style=COLOURS[one["outcome"]])
    if not one["certifies"]:
        verdict.append(say("bench.beside", language), style="dim")
    return [_name(one["name"], language), str(one["n"]), before, after, difference, verdict]


def _percent(value: float | None, of: float, without: str) -> str:
    """A change in percent; `without` for a bound that does not exist, as that of a single item."""
    return without if value is None else f"{100 * value / of:+.1f}"


def _name(name: str, language: Language) -> str:
    return say(f"bench.suite.{name}", language) if "." in name else name


def _notes(groups: Sequence[dict[str, Any]], language: Language) -> list[RenderableType]:
    """What would decide, and how much the machine alone changes."""
    notes = []
    for one in groups:
        if one["informative"] and one["outcome"] == "inconclusive" and one["n_needed"]:
            notes.append(say("bench.needed", language, name=_name(one["name"], language), n=one["n_needed"]))
    noisy = [one for one in groups if one["kind"] != "text" and one["noise"] is not None]
    if noisy:
        flipped, asked = sum(int(one["noise"]) for one in noisy), sum(one["n"] for one in noisy)
        notes.append(say("bench.noise", language, flipped=flipped, n=asked))
    return [*notes, ""] if notes else []
