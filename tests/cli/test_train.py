"""`zao train` without a worker: options, dry answers, and what is said when a worker died."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xiaozao.cli.main import run
from xiaozao.errors import Busy, OutOfMemory, TrainingError
from xiaozao.events import Ended, Evaluated, Event, Started, Step
from xiaozao.runs.process import Worker, died, log_tail
from xiaozao.spec.run import RunSpec, read_options
from xiaozao.store.files import RunFolder, home
from xiaozao.store.journal import Journal
from xiaozao.store.lock import acquire
from xiaozao.store.runs import list_runs
from xiaozao.texts.catalogue import LANGUAGES
from xiaozao.track import trackers


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


STEP = Step(3, 9, 0.3, 1.5, 1e-4, 1.0, 10, 5, 1.0, 10.0, 10**9, 6.0)
DONE: list[Event] = [
    Started("r", 1),
    STEP,
    Evaluated(3, 1.25, 5, True),
    Ended("succeeded", final_loss=1.5, step=9, steps=9),
]


def test_the_printed_options_are_a_file_that_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=org/m", "data=没有.jsonl", "rank=4", "--rank", "8", "--data-format", "messages", "targets=a,b"]
    assert run(["train", *words, "--print-config"]) == 0
    file = tmp_path / "again.yaml"
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    spec = RunSpec.from_options(read_options([str(file)]))
    assert (spec.method.rank, spec.method.targets, spec.data.format) == (8, ("a", "b"), "messages")
    assert run(["train", str(file), "--print-config", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["options"]["rank"] == 8
    assert list(home().glob("**/spec.yaml")) == []


@pytest.mark.parametrize("name", ["data", "validation", "questions"])
def test_a_missing_file_is_an_error_before_a_run_is_made(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = tmp_path / "d.jsonl"
    good.write_text("{}\n", encoding="utf-8")
    words = {"model": "m", "data": str(good), name: str(tmp_path / "typo.jsonl")}
    assert run(["train", *(f"{key}={value}" for key, value in words.items())]) == 8
    said = capsys.readouterr().err
    assert "[NOT_FOUND]" in said
    assert name in said
    assert "typo.jsonl" in said
    assert not (home() / "runs").exists()


@pytest.mark.parametrize(("model", "code"), [("./no/such/folder", 8), ("typo.gguf", 8), ("pypi:llm-smolm2", 2)])
def test_a_model_that_nothing_can_be_is_an_error_before_a_run_is_made(
    model: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text("{}\n", encoding="utf-8")
    assert run(["train", f"model={model}", f"data={data}"]) == code
    assert model.removeprefix("pypi:") in capsys.readouterr().err
    assert not (home() / "runs").exists()


def test_a_tracker_without_its_package_is_told_before_a_run_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "_installed", lambda module: False)
    data = tmp_path / "d.jsonl"
    data.write_text("{}\n", encoding="utf-8")
    assert run(["train", "model=m", f"data={data}", "track=wandb,mlflow"]) == 9
    said = capsys.readouterr().err
    assert "xiaozao[wandb]" in said and "xiaozao[mlflow]" in said
    assert not (home() / "runs").exists()


def test_an_output_in_use_is_refused_and_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text("{}\n", encoding="utf-8")
    assert run(["train", "model=m", f"data={data}", f"output={tmp_path}"]) == 2
    assert "--resume" not in capsys.readouterr().err
    (tmp_path / "spec.yaml").touch()
    assert run(["train", "model=m", f"data={data}", f"output={tmp_path}"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert data.read_text(encoding="utf-8") == "{}\n"


def test_a_run_that_is_not_there_cannot_be_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--resume", "nothing"]) == 8
    assert "zao runs ls" in capsys.readouterr().err


def test_a_run_that_learned_something_keeps_what_its_numbers_depend_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _folder(tmp_path / "cut", Started("r", 1), STEP)
    assert run(["train", "--resume", str(folder.path), "rank=4", "keep=1"]) == 2
    said = capsys.readouterr().err
    assert ": rank." in said and "keep" in said.partition("What may change")[2]
    assert "rank" not in folder.spec.read_text(encoding="utf-8")


def test_a_finished_run_takes_devices_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path / "done", *DONE)
    assert run(["train", "--resume", str(folder.path), "rank=4"]) == 2
    assert "rank would change nothing" in capsys.readouterr().err
    assert run(["train", "--resume", str(folder.path), "devices=none"]) == 2
    assert "devices" in capsys.readouterr().err
    assert run(["train", "--resume", str(folder.path), "devices=2"]) == 0


def test_under_torchrun_it_says_what_to_run_instead(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert run(["train", "model=m", "data=d"]) == 2
    said = capsys.readouterr().err
    assert "4 processes" in said
    assert "torchrun ... -m xiaozao.worker.main" in said


def test_a_finished_run_is_shown_and_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path / "done", *DONE)
    before = folder.events.read_bytes()
    assert run(["train", "--resume", str(folder.path)]) == 0
    said = capsys.readouterr()
    assert "finished" in said.err
    assert "1.2500 at step 3" in said.out
    assert run(["train", "--resume", "done", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "succeeded"
    assert folder.events.read_bytes() == before
    assert [one.name for one in list_runs()] == ["done"]


def test_a_run_that_goes_on_is_watched_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path / "going", *DONE)
    with acquire(folder):
        assert run(["train", "--resume", str(folder.path), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["started", "step", "evaluated", "ended"]


@pytest.mark.parametrize(("result", "said"), [("adapter", "zao export going"), ("model", "going/model")])
def test_what_comes_next_is_something_that_can_be_done(
    result: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where all parameters were trained there is nothing to export: the whole model is there."""
    folder = _folder(tmp_path / "going", *DONE)
    (folder.path / result).mkdir()
    with acquire(folder):
        assert run(["train", "--resume", str(folder.path)]) == 0
    told = capsys.readouterr().err.replace(os.sep, "/").replace("\n", "")
    assert said in told and ("zao export" in told) == (result == "adapter")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_failed_run_says_why_and_ends_with_its_code(
    tmp_path: Path, language: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    problem = {"key": "micro_batch", "params": {"micro_batch": 9, "batch": 8}}
    folder = _folder(tmp_path / "f", Started("f", 1), Ended("failed", "USAGE", "m", "spec", {"count": 1}, [problem], 2))
    with acquire(folder):
        assert run(["train", "--resume", str(folder.path)]) == 2
    said = capsys.readouterr().err
    assert "[USAGE]" in said
    assert "micro_batch=9" in said
    assert f"zao train --resume {folder.name}" in said


def test_a_stopped_run_ends_with_the_code_of_its_event(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path / "s", Started("s", 1), STEP, Ended("stopped", step=3, steps=9))
    with acquire(folder):
        assert run(["train", "--resume", str(folder.path), "-q"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{folder.path}\n"
    assert said.err == ""


def _child(code: str, folder: RunFolder) -> Worker:
    child = subprocess.Popen([sys.executable, "-c", code])
    child.wait()
    return Worker(folder, child)


@pytest.mark.skipif(os.name == "nt", reason="return codes of signals")
def test_a_worker_that_was_killed_is_told_from_one_that_crashed(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "r")
    folder.log.write_text("".join(f"line {number}\n" for number in range(100)), encoding="utf-8")
    killed = died(_child("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", folder))
    assert isinstance(killed, OutOfMemory)
    assert killed.exit_code == 6
    crashed = died(_child("import os; os.abort()", folder))
    assert isinstance(crashed, TrainingError)
    assert "-6" in str(crashed)
    assert crashed.exit_code == 5
    failed = died(_child("raise SystemExit(77)", folder))
    assert "77" in failed.what("zh-CN")
    for error in (killed, crashed, failed):
        assert "line 99" in str(error)
        assert "line 80" not in str(error)
        assert "zao train --resume" in error.fix("zh-CN")
        assert str(folder.log) in error.fix("en")


def test_a_worker_that_found_the_run_held_is_told_so(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "r")
    with acquire(folder):
        error = died(_child("raise SystemExit(10)", folder))
    assert isinstance(error, Busy)
    assert str(os.getpid()) in str(error)


def test_a_worker_of_another_command_that_vanished_is_told(tmp_path: Path) -> None:
    error = died(Worker(_folder(tmp_path / "r")))
    assert (error.key, error.exit_code) == ("worker_gone", 5)


def test_the_end_of_a_large_log_of_any_bytes_is_read(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    assert log_tail(log) == []
    log.write_bytes(
        b"\xff\x00" * 50_000 + b"\n\n" + "结尾\nLoading:  53%|███  | 1/2\rLoading: 100%|███| 2/2\n".encode()
    )
    assert log_tail(log)[-1] == "结尾"
    assert len(log_tail(log)) <= 8


def test_the_file_of_another_tool_is_taken_over_and_what_was_not_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "theirs.yaml"
    file.write_text("base_model: org/m\nlora_r: 8\ncutoff_len: 512\nsample_packing: true\nfoo: 1\n", encoding="utf-8")
    words = ["train", "--from-config", str(file), "data=d.jsonl", "length=256", "--print-config"]
    assert run(words) == 0
    said = capsys.readouterr()
    assert "rank: 8" in said.out and "length: 256" in said.out and "model: org/m" in said.out
    assert "3 of 5" in said.err and "lora_r=8  ->  rank=8" in said.err
    assert "Left out: 2" in said.err and "sample_packing" in said.err and "foo" in said.err
    assert run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told["from_config"]["left"]] == ["sample_packing", "foo"]
    assert told["options"]["rank"] == 8


def test_a_resumed_run_takes_no_file_of_another_tool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path / "done", *DONE)
    (tmp_path / "x.yaml").write_text("lora_r: 8\n", encoding="utf-8")
    assert run(["train", "--resume", str(folder.path), "--from-config", str(tmp_path / "x.yaml")]) == 2


def test_a_flag_of_another_tool_is_answered_with_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--lora_r", "8"]) == 2
    assert "rank" in capsys.readouterr().err


def test_of_several_files_the_one_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "a.jsonl"
    good.write_text("{}\n", encoding="utf-8")
    assert run(["train", "model=m", f"data={good}，{tmp_path / 'typo.jsonl'}"]) == 8
    assert "typo.jsonl" in capsys.readouterr().err
