"""Follows the journal of a run until its end and shows it as a live display, as plain lines, or as NDJSON."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import STAGE_SECONDS, Output, Pace
from xiaozao.cli.run_text import Story
from xiaozao.events import Ended, from_record, to_line
from xiaozao.runs.follow import follow
from xiaozao.store.journal import read_records


def watch(path: Path, alive: Callable[[], bool], output: Output, after: int = 0, events: bool = True) -> Ended | None:
    """Follow a journal from the record after `after` to its Ended event; None if the worker dies without one.

    events: whether a program gets the events themselves; else it gets nothing before the result.
    """
    records = follow(path, alive, after)
    if output.format == "json" and events:
        return _machine(records, output)
    story = story_of(path, after, output)
    if output.format in ("quiet", "json"):
        return _silent(records, story)
    if output.stderr.is_terminal and not output.stderr.is_dumb_terminal:
        return _live(records, story, output)
    return _plain(records, story, output)


def story_of(path: Path, after: int, output: Output) -> Story:
    """A Story that has read the journal up to the record `after`, so that its loss curve begins at the first step."""
    story = Story(output.language, output.unicode)
    for record in read_records(path)[0] if after else ():
        event = from_record(record) if int(record.get("seq", 0)) <= after else None
        if event is not None:
            story.remember(event)
    return story


def _machine(records: Iterator[dict[str, Any] | None], output: Output) -> Ended | None:
    ended = None
    for record in records:
        if record is not None:
            output.line(to_line(record))
            ended = _ended(record)
    return ended


def _silent(records: Iterator[dict[str, Any] | None], story: Story) -> Ended | None:
    for record in records:
        _hear(story, record)
    return story.ended


def _plain(records: Iterator[dict[str, Any] | None], story: Story, output: Output) -> Ended | None:
    """Events as lines; the current line every 30 s or 5 %."""
    steps, stages = Pace(), Pace(least=STAGE_SECONDS)
    said = ""
    for record in records:
        for piece in _hear(story, record):
            output.hint(piece)
        if story.ended is not None:
            break
        name, done, total = _position(story)
        due = (steps if name == "step" else stages).due(name, done, total)
        if name and due and story.line() != said:
            said = story.line()
            output.hint(said)
    return story.ended


def _live(records: Iterator[dict[str, Any] | None], story: Story, output: Output) -> Ended | None:
    """Events as lines above, and below them a bar, the numbers and the curve, redrawn four times a second."""
    with Live(console=output.stderr, refresh_per_second=4, transient=True, redirect_stdout=False,
              redirect_stderr=False) as live:  # fmt: skip
        for record in records:
            for piece in _hear(story, record):
                live.console.print(piece, highlight=False)
            live.update(picture(story))
    return story.ended


def picture(story: Story) -> RenderableType:
    """The live part of the screen."""
    name, done, total = _position(story)
    row = Table.grid(padding=(0, 1))
    row.add_row(
        Text(story.line().split(" · ")[0]), ProgressBar(total=total or None, completed=done, width=30, pulse=not total)
    )
    lines: list[RenderableType] = [row]
    if name == "step":
        lines += [Text(story.numbers()), Text(story.curve(), style="cyan")]
    return Group(*lines)


def _position(story: Story) -> tuple[str, int, int]:
    if story.stage is not None:
        return story.stage.stage, story.stage.done, story.stage.total
    if story.step is not None:
        return "step", story.step.step, story.step.steps
    return "", 0, 0


def _hear(story: Story, record: dict[str, Any] | None) -> list[RenderableType]:
    event = from_record(record) if record is not None else None
    return [] if event is None else story.hear(event)


def _ended(record: dict[str, Any]) -> Ended | None:
    event = from_record(record)
    return event if isinstance(event, Ended) else None
