"""`zao runs watch | stop | logs | rm`: a run of another command, looked at, ended and removed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xiaozao.cli.main import run
from xiaozao.events import Ended, Event, Started, Step
from xiaozao.store.files import RunFolder, home
from xiaozao.store.journal import Journal
from xiaozao.store.lock import acquire, holder
from xiaozao.store.runs import list_runs, register, summarise
from xiaozao.texts.catalogue import LANGUAGES

STEP = Step(3, 9, 0.3, 1.5, 1e-4, 1.0, 10, 5, 1.0, 10.0, 10**9, 6.0)
# Holds a run as a worker does: writes steps until it is asked to stop, then says that it stopped.
WORKER = """
import sys, time
from pathlib import Path
from xiaozao.events import Ended, Started, Step
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import Journal
from xiaozao.store.lock import acquire
folder = RunFolder(Path(sys.argv[1]))
with acquire(folder), Journal(folder.events) as journal:
    journal.record(Started(folder.name, 1))
    step = 0
    while not folder.stop.exists():
        step += 1
        journal.record(Step(step, 9999, 0.1, 1.5, 1e-4, 1.0, 10, 5, 1.0, 10.0, 10**9, 6.0))
        print("a line", step, flush=True)
        time.sleep(0.05)
    journal.record(Ended("stopped", step=step, steps=9999))
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")


def _folder(path: Path, *events: Event) -> RunFolder:
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.spec.write_text("model: m\ndata: d\n", encoding="utf-8")
    with Journal(folder.events) as journal:
        for event in events:
            journal.record(event)
    return folder


@pytest.fixture
def going(tmp_path: Path) -> Iterator[RunFolder]:
    """A run that a process of its own holds."""
    folder = _folder(home() / "runs" / "going")
    with folder.log.open("wb") as log:
        child = subprocess.Popen([sys.executable, "-c", WORKER, str(folder.path)], stdout=log, stderr=log)
    deadline = time.monotonic() + 30
    while summarise(folder).step < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert holder(folder) == child.pid
    yield folder
    child.kill()
    child.wait()


@pytest.mark.skipif(os.name == "nt", reason="signals between processes")
@pytest.mark.parametrize("words", [["runs", "watch", "going"], ["train", "--resume", "going"]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_who_leaves_a_watch_leaves_the_run_alone(going: RunFolder, words: list[str], number: signal.Signals) -> None:
    command = [sys.executable, "-m", "xiaozao.cli", *words, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        while json.loads(watcher.stdout.readline())["type"] != "step":
            pass
        watcher.send_signal(number)
        _, said = watcher.communicate(timeout=60)
    assert watcher.returncode == (130 if number == signal.SIGINT else -number)
    if number == signal.SIGINT:
        assert "going goes on" in said
    before = summarise(going).step
    time.sleep(0.3)
    assert not going.stop.exists()
    assert holder(going) is not None and summarise(going).step > before


def test_a_run_that_ended_is_watched_to_its_end_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _folder(tmp_path / "done", Started("r", 1), STEP, Ended("succeeded", step=9, steps=9))
    assert run(["runs", "watch", str(tmp_path / "done"), "--json"]) == 0
    kinds = [json.loads(line)["type"] for line in capsys.readouterr().out.splitlines()]
    assert kinds == ["started", "step", "ended"]
    _folder(tmp_path / "cut", Started("r", 1), STEP)
    assert run(["runs", "watch", str(tmp_path / "cut")]) == 5
    assert "zao train --resume" in capsys.readouterr().err


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_run_is_asked_to_stop_and_waited_for(
    going: RunFolder, language: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    assert run(["runs", "stop", "going", "--json"]) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert (document["state"], document["was_running"]) == ("stopped", True)
    assert "zao train --resume going" in said.err
    assert holder(going) is None
    assert run(["runs", "stop", "going"]) == 0
    assert "going" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="children that were killed")
def test_a_run_is_ended_at_once_when_that_is_asked(going: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "stop", "going", "--now"]) == 0
    assert "last checkpoint" in capsys.readouterr().err
    assert holder(going) is None and summarise(going).state == "interrupted"


def test_a_living_run_is_never_removed(going: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "rm", "going", "--yes"]) == 10
    assert "zao runs stop going" in capsys.readouterr().err
    assert going.spec.is_file()


def test_a_run_that_is_over_is_removed_after_a_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(home() / "runs" / "old", Started("r", 1), Ended("succeeded"))
    (folder.checkpoints / "step-1").mkdir(parents=True)
    register(folder.path)
    assert run(["runs", "rm", "old"]) == 2
    assert "zao runs rm old --yes" in capsys.readouterr().err
    assert run(["runs", "rm", "old", "--dry-run"]) == 0
    assert folder.spec.is_file()
    capsys.readouterr()
    assert run(["runs", "rm", "old", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] is True
    assert not folder.path.exists() and list_runs() == []


def test_of_a_folder_of_the_users_own_only_what_is_ours_is_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _folder(tmp_path / "mine", Started("r", 1), Ended("succeeded"))
    (folder.path / "thesis.docx").write_text("x", encoding="utf-8")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (folder.path / "checkpoints").symlink_to(outside, target_is_directory=True)
    assert run(["runs", "rm", str(folder.path), "--yes"]) == 0
    assert "thesis.docx" in capsys.readouterr().out
    assert [path.name for path in folder.path.iterdir()] == ["thesis.docx"]
    assert (outside / "kept").exists()


def test_a_folder_where_nothing_ever_ran_is_no_run_to_remove(tmp_path: Path) -> None:
    (tmp_path / "project" / "model").mkdir(parents=True)
    (tmp_path / "project" / "spec.yaml").write_text("name: x\n", encoding="utf-8")
    assert run(["runs", "rm", str(tmp_path / "project"), "--yes"]) == 8
    assert (tmp_path / "project" / "model").is_dir()


def test_a_run_whose_folder_is_gone_is_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register(tmp_path / "gone")
    assert run(["runs", "rm", "gone", "--yes"]) == 0
    assert list_runs() == []


def test_the_end_of_the_log_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path / "r", Started("r", 1), Ended("succeeded"))
    assert run(["runs", "logs", str(folder.path)]) == 0
    assert "empty" in capsys.readouterr().out
    folder.log.write_text("".join(f"line {number}\n" for number in range(1000)), encoding="utf-8")
    assert run(["runs", "logs", str(folder.path), "--lines", "300", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)["lines"]
    assert (len(lines), lines[0], lines[-1]) == (300, "line 700", "line 999")


def test_a_log_is_followed_until_the_run_ends(going: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    stopper = subprocess.Popen([sys.executable, "-m", "xiaozao.cli", "runs", "stop", "going", "-q"])
    assert run(["runs", "logs", "going", "--follow", "--lines", "1"]) == 0
    assert stopper.wait(60) == 0
    numbers = [int(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert len(numbers) > 2 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.parametrize("verb", ["watch", "stop", "logs", "rm"])
def test_a_run_that_is_not_there_is_told(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", verb, "nothing"]) == 8
    assert "zao runs ls" in capsys.readouterr().err


def test_a_run_held_by_another_is_not_removed_by_its_path(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "held", Started("r", 1))
    with acquire(folder):
        assert run(["runs", "rm", str(folder.path), "--yes"]) == 10
