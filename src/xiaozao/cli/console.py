"""What a verb says: its result on stdout, progress and hints on stderr, for a person or for a program.

output = current_output()
output.result("3 runs", {"runs": [...]})          text for a person, one JSON document for a program
output.note("cli.train.detached", name=name)      a hint on stderr; silent with -q
with output.stages() as report: report("download", done, total)
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Literal

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.text import Text

from xiaozao.cli.verb import OutputSettings
from xiaozao.events import OnProgress
from xiaozao.texts.catalogue import Language, has, say
from xiaozao.texts.visible import json_visible, visible

SCHEMA_VERSION = 1
PIPE_WIDTH = 400
PACE_SECONDS = 30.0
PACE_SHARE = 0.05
STAGE_SECONDS = 2.0  # a short stage is not worth twenty lines
GLYPHS = "■▨▦░┆✔✖█▁▂▃▄▅▆▇"


class Output:
    """Language, format and colours of one invocation, and the two streams."""

    def __init__(self, settings: OutputSettings) -> None:
        self.language: Language = settings.language
        self.format: Literal["human", "json", "quiet"] = "human" if settings.format == "auto" else settings.format
        self.yes = settings.yes
        self.stdout = _console(sys.stdout, settings.no_color)
        self.stderr = _console(sys.stderr, settings.no_color)

    @property
    def unicode(self) -> bool:
        """Whether stdout can show our glyphs; some Windows consoles cannot."""
        return can_encode(GLYPHS, self.stdout.encoding)

    def say(self, key: str, /, **params: object) -> str:
        """The text `key` in the reader's language."""
        return say(key, self.language, **params)

    def result(self, human: RenderableType, document: dict[str, Any], quiet: str = "") -> None:
        """The result on stdout. `quiet` is all that -q prints: a name or a path that a script can use."""
        if self.format == "json":
            document = {"schema_version": SCHEMA_VERSION, **document}
            text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2, default=str)
            self._write(json_visible(text))
        elif self.format == "human":
            show(self.stdout, human)
        elif quiet:
            self._write(visible(quiet))

    def line(self, line: str) -> None:
        """One line of NDJSON, at once."""
        self._write(json_visible(line))

    def note(self, key: str, /, **params: object) -> None:
        """A hint on stderr, the text `key`; silent with -q."""
        if self.format != "quiet":
            show(self.stderr, self.say(key, **params))

    def hint(self, human: RenderableType) -> None:
        """Print text or a table for a person on stderr, beside the result; silent with -q."""
        if self.format != "quiet":
            show(self.stderr, human)

    def always(self, text: str) -> None:
        """An error on stderr, also with -q."""
        show(self.stderr, text)

    def confirm(self, key: str, /, **params: object) -> bool:
        """Whether the user agrees: --yes, or an answer at a terminal; without a terminal the answer is no."""
        if self.yes:
            return True
        return sys.stdin.isatty() and click.confirm(self.say(key, **params), err=True)

    def stage(self, name: str) -> str:
        """What a stage is called: the text `stage.<name>`, or the name itself (a file that is fetched)."""
        return self.say(f"stage.{name}") if has(f"stage.{name}") else name

    @contextmanager
    def stages(self) -> Iterator[OnProgress]:
        """Yield a function (stage, done, total) that draws bars on a terminal and prints plain lines elsewhere."""
        if self.format == "quiet":
            yield lambda stage, done, total: None
        elif self.stderr.is_terminal and not self.stderr.is_dumb_terminal:
            with stage_bars(self.stderr) as progress:
                yield _bars(progress, self.stage)
        else:
            yield _lines(self)

    def _write(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def current_output() -> Output:
    """The output of the verb that is running."""
    return Output(click.get_current_context().ensure_object(OutputSettings))


def show(console: Console, human: RenderableType) -> None:
    """Print text as it is (no markup, no wrapping inside a pipe) or a rich table."""
    if isinstance(human, str):
        human = Text(visible(human))  # before Text, which drops some of what is to be seen
    console.print(human, soft_wrap=isinstance(human, Text), highlight=False)


def stage_bars(console: Console) -> Progress:
    """Bars with name, percent and elapsed time; they vanish when done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)


def can_encode(text: str, encoding: str) -> bool:
    """Whether a stream with this encoding can show the text."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class Pace:
    """Decides when a plain progress line is due: every 30 s or 5 %, and at the end.

    Before the end at most once in `least` s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, least: float = 0.0) -> None:
        self._clock, self._least = clock, least
        self._last: tuple[str, float, float] | None = None

    def due(self, name: str, done: int, total: int) -> bool:
        share = done / total if total else 0.0
        if self._last is not None and self._last[0] == name and not self._due(share):
            return False
        self._last = (name, self._clock(), share)
        return True

    def _due(self, share: float) -> bool:
        assert self._last is not None
        waited, more = self._clock() - self._last[1], round(share - self._last[2], 6)
        return waited >= PACE_SECONDS or (more >= PACE_SHARE and waited >= self._least) or (share == 1 and more > 0)


class _Console(Console):
    """A rich console that escapes control characters everywhere: in cells, titles and the names of bars.

    Rich exits when a pipe breaks; here cli/main.py decides what happens then.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text), style, control)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console(stream: IO[str], no_color: bool) -> Console:
    """A console that obeys NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE and TERM.

    A pipe gets wide lines, so that nothing is cut.
    """
    forced = bool(os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE"))
    plain = no_color or bool(os.environ.get("NO_COLOR"))
    return _Console(
        file=stream,
        color_system=None if plain else "auto",  # None: no ANSI styles at all, not even bold
        force_terminal=True if forced and not plain else None,
        width=None if stream.isatty() else PIPE_WIDTH,
        markup=False,
        emoji=False,
    )


def _bars(progress: Progress, name: Callable[[str], str]) -> OnProgress:
    tasks: dict[str, TaskID] = {}
    unsized: list[TaskID] = []  # of stages without an end to count to, the one that goes on

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = progress.add_task(name(stage), total=total or None)
            for before in unsized:
                progress.update(before, visible=False)
            unsized[:] = [] if total else [tasks[stage]]
        progress.update(tasks[stage], completed=done, total=total or None, visible=not (total and done >= total))

    return report


def _lines(output: Output) -> OnProgress:
    pace = Pace(least=STAGE_SECONDS)

    def report(stage: str, done: int, total: int) -> None:
        if pace.due(stage, done, total):
            share = f" {done / total:.0%}" if total else ""
            output.hint(f"{output.stage(stage)}{share}")

    return report
