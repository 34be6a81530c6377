"""What goes where: the result on stdout, everything else on stderr; colours only where they belong."""

import io
import json
import sys

import pytest
from rich.console import Console
from rich.table import Table

from xiaozao.cli.console import GLYPHS, Output, Pace, _bars, can_encode, stage_bars
from xiaozao.cli.verb import OutputSettings


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_a_person_gets_text_a_program_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    Output(OutputSettings()).result("[bold]as it is[/bold] :smile:", {"a": 1})
    assert capsys.readouterr().out == "[bold]as it is[/bold] :smile:\n"
    Output(OutputSettings(format="json")).result("text", {"a": "中"})
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "a": "中"}
    Output(OutputSettings(format="quiet")).result("text", {"a": 1}, "name")
    assert capsys.readouterr().out == "name\n"
    Output(OutputSettings(format="quiet")).result("text", {"a": 1})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("format_", "said"), [("human", True), ("json", True), ("quiet", False)])
def test_hints_go_to_stderr_and_are_silent_with_q(format_: str, said: bool, capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(OutputSettings(format="quiet" if format_ == "quiet" else "json" if format_ == "json" else "human"))
    output.note("cli.usage")
    with output.stages() as report:
        report("x", 1, 1)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert bool(seen.err) is said


def test_a_long_line_is_neither_cut_nor_wrapped_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    name = "organisation/" + "x" * 500
    Output(OutputSettings()).result(name, {})
    assert capsys.readouterr().out == name + "\n"
    table = Table(box=None)
    table.add_column("name", overflow="fold")
    table.add_row(name)
    Output(OutputSettings()).result(table, {})
    assert name in capsys.readouterr().out.replace("\n", "").replace(" ", "")


def _coloured(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, settings: OutputSettings) -> bool:
    monkeypatch.setattr(sys, "stdout", stream)
    table = Table(box=None)
    table.add_column("x", style="red")
    table.add_row("red")
    Output(settings).result(table, {})
    return "\x1b[" in stream.getvalue()


def test_colour_only_on_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _coloured(monkeypatch, Terminal(), OutputSettings())
    assert not _coloured(monkeypatch, io.StringIO(), OutputSettings())
    assert not _coloured(monkeypatch, Terminal(), OutputSettings(no_color=True))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not _has_colour(monkeypatch)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not _has_colour(monkeypatch)


def _has_colour(monkeypatch: pytest.MonkeyPatch) -> bool:
    return _coloured(monkeypatch, Terminal(), OutputSettings())


@pytest.mark.parametrize("name", ["FORCE_COLOR", "CLICOLOR_FORCE"])
def test_colour_can_be_forced_into_a_pipe(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert _coloured(monkeypatch, io.StringIO(), OutputSettings())
    assert not _coloured(monkeypatch, io.StringIO(), OutputSettings(no_color=True))


def test_a_console_that_cannot_show_the_glyphs_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Output(OutputSettings()).unicode
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))  # Western Windows
    assert not Output(OutputSettings()).unicode


def test_what_an_encoding_can_show() -> None:
    assert can_encode(GLYPHS, "utf-8")
    assert not can_encode(GLYPHS, "ascii")
    assert not can_encode("x", "no such encoding")


def test_a_plain_line_comes_every_30_seconds_or_5_percent_and_at_the_end() -> None:
    now = [0.0]
    pace = Pace(clock=lambda: now[0])
    assert pace.due("step", 1, 100)
    assert not pace.due("step", 2, 100)
    assert not pace.due("step", 5, 100)
    assert pace.due("step", 6, 100)
    now[0] = 29.0
    assert not pace.due("step", 7, 100)
    now[0] = 30.0
    assert pace.due("step", 7, 100)
    assert pace.due("step", 100, 100)
    assert not pace.due("step", 100, 100)
    assert pace.due("save", 0, 0)
    assert not pace.due("save", 0, 0)


def test_a_short_stage_is_not_worth_many_lines() -> None:
    now = [0.0]
    pace = Pace(clock=lambda: now[0], least=2.0)
    assert [pace.due("read", done, 100) for done in (0, 20, 40, 60, 100)] == [True, False, False, False, True]
    assert pace.due("save", 0, 100)
    now[0] = 2.0
    assert pace.due("save", 5, 100)
    assert not pace.due("save", 50, 100)


@pytest.mark.parametrize(("yes", "agreed"), [(True, True), (False, False)])
def test_without_a_terminal_only_yes_agrees(yes: bool, agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert Output(OutputSettings(yes=yes)).confirm("cli.usage") is agreed


def test_stages_are_plain_lines_in_a_pipe_and_bars_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Output(OutputSettings()).stages() as report:
        for done in range(101):
            report("model.safetensors", done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "model.safetensors 0%"
    assert lines[-1] == "model.safetensors 100%"
    assert len(lines) <= 22
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with Output(OutputSettings()).stages() as report:
        report("model.safetensors", 50, 100)
        report("load", 0, 0)
    assert "50%" in stream.getvalue()


def test_the_bar_of_a_stage_without_a_count_goes_when_the_next_begins() -> None:
    with stage_bars(Console(file=Terminal())) as progress:
        report = _bars(progress, str)
        report("load", 0, 0)
        assert [(task.description, task.visible) for task in progress.tasks] == [("load", True)]
        report("merge", 1, 2)
        report("write", 0, 0)
        assert [task.visible for task in progress.tasks] == [False, True, True]
        report("merge", 2, 2)
        report("compare", 0, 0)
        assert [task.visible for task in progress.tasks] == [False, False, False, True]
