"""A run's state follows from its journal and its lock; the index only remembers where runs are."""

import math
import shutil
from pathlib import Path

import pytest

from xiaozao.errors import NotFound
from xiaozao.events import Ended, Evaluated, Event, Loaded, Planned, Started, Step
from xiaozao.store.files import RunFolder, home
from xiaozao.store.journal import Journal
from xiaozao.store.lock import acquire
from xiaozao.store.runs import find_run, forget, list_runs, rebuild, register, summarise


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))


def _run(path: Path, *events: Event) -> RunFolder:
    path.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(path)
    folder.spec.write_text("model: org/m\ndata: /d.jsonl\n", encoding="utf-8")
    times = iter(range(100, 1000))
    with Journal(folder.events, clock=lambda: float(next(times))) as journal:
        for event in events:
            journal.record(event)
    return folder


def _step(step: int, loss: float = 1.0) -> Step:
    return Step(step, 10, 0.1, loss, 1e-4, 1.0, 10, 5, 1.0, 10.0, 1000 + step, 1.0)


def test_a_run_that_goes_on_is_running(tmp_path: Path) -> None:
    folder = _run(tmp_path / "a", Started("a", 1), _step(3))
    with acquire(folder):
        assert summarise(folder).state == "running"
    assert summarise(folder).state == "interrupted"


@pytest.mark.parametrize("state", ["succeeded", "stopped", "failed"])
def test_a_run_that_ended_is_as_it_said(tmp_path: Path, state: str) -> None:
    folder = _run(tmp_path / "a", Started("a", 1), _step(3), Ended(state, code="X", message="why"))
    summary = summarise(folder)
    assert (summary.state, summary.code, summary.message) == (state, "X", "why")
    assert (summary.step, summary.steps) == (3, 10)


def test_a_worker_that_said_its_last_word_and_hangs_is_over(tmp_path: Path) -> None:
    folder = _run(tmp_path / "a", Started("a", 1), Ended("succeeded"))
    with acquire(folder):
        assert summarise(folder).state == "succeeded"


def test_a_resumed_run_is_no_longer_what_it_ended_as(tmp_path: Path) -> None:
    folder = _run(tmp_path / "a", Started("a", 1), Ended("failed", code="X", message="why"), Started("a", 2, 0))
    summary = summarise(folder)
    assert (summary.state, summary.code, summary.message, summary.ended) == ("interrupted", "", "", None)
    with acquire(folder):
        assert summarise(folder).state == "running"


def test_a_summary_has_the_numbers_of_the_journal(tmp_path: Path) -> None:
    folder = _run(
        tmp_path / "a",
        Started("a", 1),
        Loaded("org/m", 100, 10, "cpu", "fp32", "packed", 1.0),
        Planned(2, 64, {"weights": 5}, "load", 500, 1000, 10),
        _step(1, 3.0), Evaluated(1, 2.5, 9, True), _step(2, math.nan), Evaluated(2, 2.75, 9, False),
        Started("a", 2, 1), _step(2, 2.0),
        Ended("succeeded", step=2, steps=10, train_seconds=7.5, final_loss=2.0, best_validation_loss=2.5,
              peak_rss_bytes=600, predicted_peak_bytes=500),
    )  # fmt: skip
    summary = summarise(folder)
    assert (summary.model, summary.data) == ("org/m", "/d.jsonl")
    assert (summary.started, summary.ended) == (100.0, 109.0)
    assert summary.losses == (3.0, 2.0)
    assert (summary.loss, summary.validation_loss) == (2.0, 2.75)
    assert (summary.best_validation_loss, summary.best_step) == (2.5, 1)
    assert (summary.peak_bytes, summary.predicted_peak_bytes) == (1002, 500)
    assert (summary.parameters, summary.trainable, summary.train_seconds) == (100, 10, 7.5)


def test_a_run_with_an_unreadable_spec_is_still_listed(tmp_path: Path) -> None:
    folder = _run(tmp_path / "a", Started("a", 1))
    folder.spec.write_text("a: [", encoding="utf-8")
    assert summarise(folder).model == ""


def test_runs_are_listed_newest_first_and_once(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "new", "old")):
        register(_run(tmp_path / name).path, clock=float(number))
    assert [one.name for one in list_runs()] == ["new", "old"]


def test_a_run_whose_folder_is_gone_is_missing_until_it_is_forgotten(tmp_path: Path) -> None:
    folder = _run(tmp_path / "a")
    register(folder.path)
    shutil.rmtree(folder.path)
    assert [one.state for one in list_runs()] == ["missing"]
    forget(folder.path)
    assert list_runs() == []


def test_a_run_is_found_by_path_by_name_and_by_its_name_in_the_index(tmp_path: Path) -> None:
    inside, outside = _run(home() / "runs" / "inside"), _run(tmp_path / "else" / "outside")
    assert find_run("inside") == inside
    assert find_run(str(outside.path)) == outside
    with pytest.raises(NotFound) as caught:
        find_run("outside")
    assert caught.value.exit_code == 8
    assert "outside" in caught.value.what("zh-CN")
    register(outside.path)
    assert find_run("outside") == outside


def test_the_index_can_be_built_anew(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _run(home() / "runs" / name)
    (home() / "runs" / "no run").mkdir()
    assert rebuild() == 2
    assert {one.name for one in list_runs()} == {"a", "b"}
    assert rebuild() == 2
    assert len(list_runs()) == 2
