"""The standard tests of a run's result, through the command line and in the worker's own process, on a toy."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.worker.finished import finished_run
from xiaozao.cli.main import run
from xiaozao.evaluate.record import Record, read_records
from xiaozao.runs.launch import EVALUATION, start, words
from xiaozao.spec.evaluation import BenchSpec, read_evaluation
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import read_events
from xiaozao.store.lock import holder


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that has ended, with an adapter on a toy."""
    return finished_run(tmp_path, monkeypatch)


def evaluate(made: RunFolder, *more: str) -> int:
    return run(["eval", "bench", str(made.path), "--limit", "3", "--threads", "1", *more])


def answers(made: RunFolder) -> list[Record]:
    return list(read_records(made.evaluation("bench").recorded))


def result(made: RunFolder) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(made.evaluation("bench").standing.read_text(encoding="utf-8"))
    return document


def plain(record: Record) -> tuple[object, ...]:
    return (*record.key, record.asked, record.answer, record.value, record.tokens)


def test_an_evaluation_asks_both_models_everything_once_and_tells_a_verdict(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choices = tmp_path / "c.jsonl"
    rows = [{"question": f"What is {n}?", "choices": ["one", "two three"], "answer": n % 2} for n in range(9)]
    choices.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert evaluate(made, "--task", f"mine={choices}") == 0
    told = capsys.readouterr().out
    assert "says nothing: too hard or too easy" in told and "mine" in told
    keys = [one.key for one in answers(made)]
    suites = 8 + 4 + 1  # generated, texts, the file
    assert len(keys) == len(set(keys)) == 3 * 3 * suites
    document = result(made)
    assert document["outcome"] in ("regressed", "no_regression", "improved", "inconclusive")
    assert {one["name"] for one in document["groups"]} == {
        "answers.en", "answers.zh", "solutions.en", "solutions.zh", "texts.en", "texts.zh", "mine",
    }  # fmt: skip
    assert document["conditions"]["suites"]["mine"]["items"] == 3
    assert evaluate(made, "--task", f"mine={choices}") == 0  # shown again, and not asked again
    assert [one.key for one in answers(made)] == keys
    capsys.readouterr()
    assert run(["eval", "report", str(made.path), "--json"]) == 0  # takes the result as it was written
    assert json.loads(capsys.readouterr().out)["bench"] == document
    choices.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    assert evaluate(made, "--task", f"mine={choices}") == 2
    assert "a file of it has other rows" in capsys.readouterr().err


def test_an_evaluation_that_is_killed_goes_on_behind_what_is_answered(made: RunFolder) -> None:
    assert evaluate(made) == 0
    whole, first = answers(made), result(made)
    folder = made.evaluation("bench")
    lines = folder.recorded.read_bytes().splitlines(keepends=True)
    for kept in (1, 17):
        folder.standing.unlink()
        folder.recorded.write_bytes(b"".join(lines[:kept]) + lines[kept][:9])
        assert evaluate(made) == 0
        again = answers(made)
        assert [one.key for one in again[:kept]] == [one.key for one in whole[:kept]]
        assert sorted(map(plain, again), key=repr) == sorted(map(plain, whole), key=repr)
        assert result(made)["groups"] == first["groups"]


def test_a_worker_killed_in_the_middle_asks_nothing_twice(made: RunFolder) -> None:
    folder = made.evaluation("bench")
    assert evaluate(made) == 0
    whole = sorted(map(plain, answers(made)), key=repr)
    for path in (folder.standing, folder.recorded):
        path.unlink()
    for cached in (Path(os.environ["ZAO_HOME"]) / "cache" / "evaluations").iterdir():
        cached.unlink()
    child = start(words(EVALUATION, folder), folder)
    deadline = time.monotonic() + 120
    while len(answers(made)) < 10 and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.02)
    child.kill()
    child.wait()
    before = answers(made)
    assert 10 <= len(before)
    assert evaluate(made) == 0
    assert answers(made)[: len(before)] == before
    assert sorted(map(plain, answers(made)), key=repr) == whole


def test_a_stop_request_ends_it_and_the_same_command_goes_on(made: RunFolder) -> None:
    folder = made.evaluation("bench")
    called = [sys.executable, "-m", "xiaozao.cli", "eval", "bench", str(made.path), "--limit", "3", "--threads", "1"]
    subprocess.run([*called, "--detach"], check=True)
    assert run(["eval", "bench", str(made.path), "--stop"]) == 0
    deadline = time.monotonic() + 60
    while "ended" not in folder.events.read_text(encoding="utf-8") and time.monotonic() < deadline:
        time.sleep(0.05)
    states = [one.state for one in read_events(folder.events) if hasattr(one, "state")]
    assert states == ["stopped"]
    assert not folder.standing.is_file()
    assert evaluate(made) == 0
    assert folder.standing.is_file()


def test_what_the_same_base_answered_before_is_not_asked_again(made: RunFolder, tmp_path: Path) -> None:
    assert evaluate(made) == 0
    first = {one.key: one for one in answers(made)}
    assert evaluate(made, "--again") == 0
    for one in answers(made):
        if one.who != "tuned":  # with the very time that it took then
            assert one == first[one.key]


def test_other_settings_are_refused_until_it_is_begun_anew(made: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(made) == 0
    assert evaluate(made, "--margin", "5") == 2
    assert "other settings: --margin" in capsys.readouterr().err
    assert evaluate(made, "--margin", "5", "--again") == 0
    spec = read_evaluation(made.evaluation("bench").evaluation_spec)
    assert isinstance(spec, BenchSpec) and spec.margin == 0.05


def test_a_budget_that_does_not_hold_the_model_is_refused_with_both_numbers(
    made: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(made, "--budget", "50MB") == 4
    told = capsys.readouterr().err
    assert "more than the budget of 0.05 GB" in told and "--budget" in told
    enough = re.search(r"at least ([0-9.]+GB)", told)
    assert enough is not None and evaluate(made, "--budget", enough[1]) == 0
    assert evaluate(made, "--budget", "lots") == 2
    assert evaluate(made, "--task", "nothing") == 2


def test_one_item_of_each_is_told_with_open_bounds(made: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "bench", str(made.path), "--limit", "1", "--threads", "1", "--once"]
    assert run(words) == 0
    first = capsys.readouterr().out
    assert "[-∞, +∞]" in first
    assert run([*words, "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert all(one["low"] is None for one in groups if one["kind"] == "text")


def test_a_worker_that_is_killed_is_told_with_the_command_that_goes_on(
    made: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.evaluation("bench")
    called = [sys.executable, "-m", "xiaozao.cli", "eval", "bench", str(made.path), "--threads", "1"]
    watching = subprocess.Popen(called, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not answers(made) and time.monotonic() < deadline:
        time.sleep(0.02)
    pid = holder(folder)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    told = watching.communicate(timeout=60)[1]
    assert watching.returncode == 6 and "zao train" not in told
    assert f"zao eval bench {made.path} --threads 1" in told


def test_the_run_has_to_have_a_result(made: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    (made.path / "adapter").rename(made.path / "gone")
    assert evaluate(made) == 2
    assert "no trained result yet" in capsys.readouterr().err


def choices_of(path: Path, words: list[int]) -> str:
    rows = [{"question": "word " * n, "choices": ["one", "two three"], "answer": 0} for n in words]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"mine={path}"


def test_items_longer_than_the_context_are_counted_and_left_out_of_both_sides(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(made, "--task", choices_of(tmp_path / "c.jsonl", [3, 600, 4])) == 0
    told = capsys.readouterr()
    assert "“mine”: items longer than the model's context, left out before and after: 1" in told.out
    assert "Longer than the model's context of 512 tokens" in told.err
    document = result(made)
    assert document["too_long"]["mine"] == ["2"] and document["conditions"]["suites"]["mine"]["items"] == 2
    assert next(one for one in document["groups"] if one["name"] == "mine")["n"] == 2
    assert {one.item for one in answers(made) if one.suite == "mine"} == {"1", "3"}
    assert run(["eval", "report", str(made.path), "--json"]) == 0


def test_a_file_of_which_nothing_fits_into_the_context_is_refused(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(made, "--task", choices_of(tmp_path / "c.jsonl", [600, 700, 800])) == 3
    told = capsys.readouterr().err
    assert "None of the 3 items of “mine” fits into the model's context of 512 tokens" in told
    assert not answers(made)
