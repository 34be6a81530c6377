"""`zao runs`: tables for people, documents for programs."""

import json
import shutil
from pathlib import Path

import pytest
from rich.cells import cell_len

from xiaozao.cli.console import Output, show
from xiaozao.cli.main import run
from xiaozao.cli.runs import listing
from xiaozao.cli.verb import OutputSettings
from xiaozao.events import Ended, Evaluated, Event, Loaded, Planned, Started, Step
from xiaozao.store.files import home
from xiaozao.store.journal import Journal
from xiaozao.store.runs import Summary, register
from xiaozao.texts.catalogue import LANGUAGES, Language, say


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")


def _run(path: Path, *events: Event) -> Path:
    path.mkdir(parents=True)
    (path / "spec.yaml").write_text("model: org/m\ndata: /d.jsonl\n", encoding="utf-8")
    with Journal(path / "events.jsonl", clock=lambda: 1_700_000_000.0) as journal:
        for event in events:
            journal.record(event)
    return path


EVENTS: list[Event] = [
    Started("a", 1),
    Planned(2, 64, {"weights": 5}, "load", 910_000_000, 2 * 10**9, 10),
    Loaded("org/m", 134_500_000, 4_900_000, "cpu", "fp32", "packed", 1.0),
    *(Step(step, 10, 0.1, 3.0 / step, 1e-4, 1.0, 10, 5, 1.0, 10.0, 880_000_000, 1.0) for step in range(1, 11)),
    Evaluated(5, 1.5, 5, True),
]
DONE = [*EVENTS, Ended("succeeded", step=10, steps=10, train_seconds=190.0, final_loss=0.3, best_validation_loss=1.5)]


def test_no_runs_are_a_hint_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "ls"]) == 0
    assert "zao demo" in capsys.readouterr().out
    assert run(["runs", "ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "runs": []}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_state_has_its_word(
    language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    for state in ("succeeded", "stopped", "failed"):
        _run(home() / "runs" / state, Started("a", 1), Ended(state))
    _run(home() / "runs" / "interrupted", *EVENTS)
    register(gone := _run(tmp_path / "missing"))
    shutil.rmtree(gone)
    assert run(["runs", "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for state in ("succeeded", "stopped", "failed", "interrupted", "missing"):
        row = next(line for line in lines if line.startswith(state))
        assert say(f"state.{state}", "zh-CN" if language == "zh-CN" else "en") in row


def test_a_long_name_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    name = "n" * 120
    _run(home() / "runs" / name, *DONE)
    assert run(["runs", "ls", "-q"]) == 0
    assert capsys.readouterr().out == f"{name}\n"
    assert run(["runs", "ls"]) == 0
    assert name in capsys.readouterr().out.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_run_is_shown_with_its_numbers(
    language: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    folder = _run(home() / "runs" / "a", *DONE)
    (folder / "adapter").mkdir()
    assert run(["runs", "show", "a"]) == 0
    shown = capsys.readouterr().out
    for word in ("org/m", "10 / 10", "0.3000", "1.5000", "3 ", "0.88 GB", "0.91 GB", "+3%", str(folder / "adapter")):
        assert word in shown, word


def test_a_failed_run_shows_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(tmp_path / "f", Started("f", 1), Ended("failed", code="DATA_INVALID", message="three rows are broken"))
    assert run(["runs", "show", str(tmp_path / "f")]) == 0
    assert "[DATA_INVALID] three rows are broken" in capsys.readouterr().out


def test_a_program_gets_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    folder = _run(home() / "runs" / "a", *DONE)
    assert run(["runs", "show", "a", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    expected = {
        "schema_version": 1, "name": "a", "path": str(folder), "state": "succeeded", "model": "org/m",
        "data": "/d.jsonl", "step": 10, "steps": 10, "loss": 0.3, "best_validation_loss": 1.5, "best_step": 5,
        "peak_bytes": 880_000_000, "predicted_peak_bytes": 910_000_000, "train_seconds": 190.0,
    }  # fmt: skip
    assert {name: document[name] for name in expected} == expected


def test_a_run_that_stopped_early_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _run(tmp_path / "early", *EVENTS[:10], Evaluated(3, 1.5, 5, True), Ended("succeeded", step=7, steps=10))
    assert run(["runs", "show", str(path)]) == 0
    assert "stopped early at step 7: the validation loss has not improved since step 3" in capsys.readouterr().out
    whole = _run(tmp_path / "whole", *DONE)
    assert run(["runs", "show", str(whole)]) == 0
    assert "early at" not in capsys.readouterr().out


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [100, 60, 44])
def test_on_a_narrow_screen_columns_give_way_and_not_names_or_digits(
    width: int, language: Language, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Output(OutputSettings(language=language))
    output.stdout.width = width
    name = "SmolLM2-135M-20261130-1426"
    cut = Summary(name, "/x", "interrupted", step=1234, steps=5678, loss=1.2, best_validation_loss=2.5, started=1.0)
    runs = [cut, Summary("b", "/y", "succeeded", step=9, steps=9)]
    show(output.stdout, listing(runs, output))
    lines = capsys.readouterr().out.splitlines()
    assert all(cell_len(line.rstrip()) <= width for line in lines) and len(lines) == 3
    assert name in lines[1] and "1234/5678" in lines[1]
    assert ("2.5000" in lines[1]) == (width > 44)
    assert ("1970" in lines[1]) == (width == 100)


@pytest.mark.parametrize("language", LANGUAGES)
def test_best_and_last_validation_stand_beside_a_plain_verdict(
    language: Language, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    start: list[Event] = [Started("a", 1), Evaluated(0, 2.9, 5, False)]
    end: list[Event] = [Evaluated(9, 2.2, 5, False), Ended("succeeded", step=9, steps=9, best_validation_loss=2.1)]
    _run(home() / "runs" / "good", *start, Evaluated(6, 2.1, 5, True), *end)
    _run(home() / "runs" / "bad", *start, Evaluated(6, 20.7, 5, True), Ended("succeeded", step=6, steps=6))
    _run(home() / "runs" / "same", *start, Evaluated(6, 2.899, 5, True), Ended("stopped", step=6, steps=6))
    for name, parts in {
        "good": ["2.1000", "2.2000", say("runs.verdict.better", language, before="2.9000", after="2.1000")],
        "bad": [say("runs.verdict.worse", language, before="2.9000", after="20.7000")],
        "same": [say("runs.verdict.same", language, before="2.9000", after="2.8990")],
    }.items():
        assert run(["runs", "show", name]) == 0
        said = capsys.readouterr().out
        assert all(part in said for part in parts)
        assert said.index(parts[-1]) < said.index("org/m")


@pytest.mark.parametrize("language", LANGUAGES)
def test_why_a_run_failed_is_told_in_the_readers_language(
    language: Language, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    params = {"path": "/d.jsonl", "rows": 3, "reasons": {"too_long": 3}}
    problem = {"key": "tried", "params": {"what": {"text": "error.offline", "name": "org/m"}}}
    ended = Ended("failed", "DATA_INVALID", "english", "data_nothing_left", params, [problem], 3)
    _run(home() / "runs" / "bad", Started("a", 1), ended)
    assert run(["runs", "show", "bad"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "english" not in said
    assert "".join(say("error.offline", language, name="org/m").split()) in said.replace(" ", "")
    assert ("3 too long" if language == "en" else "过长 3 条") in said
    assert run(["runs", "show", "bad", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["message"] == "english"
