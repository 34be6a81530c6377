"""Following a journal to its end: as lines, as NDJSON, silently, on a terminal."""

import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from xiaozao.cli.console import Output
from xiaozao.cli.verb import OutputSettings
from xiaozao.cli.watch import story_of, watch
from xiaozao.events import Ended, Evaluated, Event, Loaded, Planned, Progress, Started, Step
from xiaozao.runs.follow import follow, last_sequence, session_start
from xiaozao.store.journal import Journal

STEPS = 200


def _step(step: int) -> Step:
    loss = math.nan if step == 7 else 3.0 / step
    return Step(step, STEPS, step / STEPS, loss, 1e-4, 1.0, 10, 5, 1.0, 10.0, 10**9, float(STEPS - step))


WHOLE: list[Event] = [
    Started("r", 1),
    Progress("tokens", 1, 2),
    Planned(2, 64, {"weights": 10**9}, "load", 10**9, 2 * 10**9, STEPS),
    Loaded("org/m", 100, 10, "cpu", "fp32", "packed", 1.0),
    *(_step(step) for step in range(1, STEPS + 1)),
    Evaluated(STEPS, 0.5, 10, True),
    Ended("succeeded", train_seconds=5.0, final_loss=0.015, output="/out"),
]


def _write(path: Path, *events: Event) -> None:
    with Journal(path, clock=lambda: 1.0) as journal:
        for event in events:
            journal.record(event)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    _write(path, *WHOLE)
    return path


def dead() -> bool:
    return False


def living(times: int, then: Callable[[], None] = lambda: None) -> Callable[[], bool]:
    """A worker that lives for so many looks, and does something with its last breath."""
    left = [times]

    def alive() -> bool:
        left[0] -= 1
        if left[0] == 0:
            then()
        return left[0] > 0

    return alive


def test_a_program_gets_every_record_as_a_line_and_the_end_last(
    journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = watch(journal, dead, Output(OutputSettings(format="json")))
    assert ended == WHOLE[-1]
    said = capsys.readouterr()
    lines = [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in said.out.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(WHOLE) + 1))
    assert said.out == journal.read_text(encoding="utf-8")
    assert lines[-1]["type"] == "ended"
    fields = (
        "state",
        "train_seconds",
        "tokens_per_second",
        "final_loss",
        "peak_rss_bytes",
        "predicted_peak_bytes",
        "output",
    )
    assert set(fields) <= set(lines[-1])
    assert said.err == ""


def test_a_pipe_gets_rare_plain_lines(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watch(journal, dead, Output(OutputSettings(language="en")))
    said = capsys.readouterr()
    assert said.out == ""
    assert "\x1b" not in said.err
    assert "\r" not in said.err
    steps = [line for line in said.err.splitlines() if line.startswith("step ")]
    assert 20 <= len(steps) <= 22
    assert steps[-1].startswith("step 200/200 100%")
    assert "It fits" in said.err
    assert "Validation loss at step 200: 0.5000" in said.err


def test_nothing_is_said_with_q(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(journal, dead, Output(OutputSettings(format="quiet"))) == WHOLE[-1]
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_a_terminal_gets_a_live_picture(journal: Path, language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    assert watch(journal, dead, Output(OutputSettings(language="zh-CN" if language == "zh-CN" else "en"))) == WHOLE[-1]
    shown = stream.getvalue()
    assert "200/200" in shown
    assert "▁" in shown
    assert "\x1b[?25h" in shown


def test_a_worker_that_dies_without_a_word_is_noticed_and_its_last_words_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events.jsonl"
    alive = living(2, lambda: _write(path, Started("r", 1), _step(1)))
    assert watch(path, alive, Output(OutputSettings(format="json"))) is None
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_journal_is_followed_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    _write(path, Started("r", 1))
    seen: list[str] = []
    for record in follow(path, living(100)):
        if record is None and len(seen) == 1:
            _write(path, _step(1), Ended("stopped"))
        elif record is not None:
            seen.append(record["type"])
    assert seen == ["started", "step", "ended"]


def test_only_what_comes_after_the_last_session_is_told(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = last_sequence(journal)
    assert before == len(WHOLE)
    _write(journal, Started("r", 2, 10), Ended("stopped"))
    assert session_start(journal) == before
    ended = watch(journal, dead, Output(OutputSettings(format="json")), before)
    assert ended == Ended("stopped")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_journal_that_is_not_there_yet_has_no_past(tmp_path: Path) -> None:
    assert last_sequence(tmp_path / "none") == 0
    assert session_start(tmp_path / "none") == 0


def test_records_of_another_version_do_not_stop_the_watching(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = journal.read_text(encoding="utf-8")
    journal.write_text('{"v":2,"seq":1,"type":"future"}\n' + text, encoding="utf-8")
    assert watch(journal, dead, Output(OutputSettings())) == WHOLE[-1]
    assert "200/200" in capsys.readouterr().err


def test_the_curve_goes_on_where_a_resumed_run_does(tmp_path: Path) -> None:
    """The whole journal is drawn, with the steps that were done again counted once."""
    path = tmp_path / "events.jsonl"
    _write(path, Started("r", 1), *(_step(step) for step in range(1, 7)), Started("r", 1, 4), _step(5))
    story = story_of(path, session_start(path), Output(OutputSettings(language="en")))
    assert [step for step, _ in story.losses] == [1, 2, 3, 4, 5, 6]
    story.hear(Started("r", 1, 4))
    story.hear(_step(5))
    assert [step for step, _ in story.losses] == [1, 2, 3, 4, 5]
    assert len(story.curve()) == 5
