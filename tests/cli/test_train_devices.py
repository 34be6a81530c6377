"""`zao train devices=2`: a whole run of a toy on two processes, and what becomes of all of them when one ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.test_train_signals import words as words  # a fixture
from tests.cli.test_train_signals import zao
from tests.toy import write_chats
from xiaozao.store.files import RunFolder
from xiaozao.store.lock import holder
from xiaozao.store.runs import summarise

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.name == "nt", reason="signals between processes")]


def processes_of(folder: Path) -> list[psutil.Process]:
    """The workers of a run and the process that started them, by their command lines."""
    found = []
    for one in psutil.process_iter():
        try:
            line = one.cmdline()
        except psutil.Error:
            continue
        if str(folder) in line and any(word.startswith("xiaozao.worker.") for word in line):
            found.append(one)
    return found


def other_rank(folder: RunFolder) -> psutil.Process:
    """The worker that does not hold the run."""
    return next(
        one for one in processes_of(folder.path) if "xiaozao.worker.main" in one.cmdline() and one.pid != holder(folder)
    )


def all_gone(folder: Path) -> bool:
    """Whether nothing of the run is left, waiting a little for those that are leaving."""
    deadline = time.monotonic() + 60
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not processes_of(folder)


def test_a_run_on_two_processes_ends_like_one_with_its_report(words: list[str], tmp_path: Path) -> None:
    questions = write_chats(tmp_path / "q.jsonl", 3)
    short = [word.replace("epochs=2000", "epochs=1") for word in words]
    with zao(*short, "devices=2", f"questions={questions}", "answer_tokens=4") as going:
        code, lines, said = going.end()
    assert code == 0, said
    records = [json.loads(line) for line in lines]
    kinds = [one["type"] for one in records]
    assert [kinds.count(kind) for kind in ("started", "loaded", "step", "reported", "ended")] == [1, 1, 16, 1, 1]
    folder = RunFolder(tmp_path / "run")
    assert (folder.adapter / "adapter_model.safetensors").is_file()
    assert (folder.report / "report.html").is_file()
    assert "devices: 2" in folder.resolved.read_text(encoding="utf-8")
    assert all_gone(folder.path)


def test_a_stopped_run_goes_on_with_fewer_devices(words: list[str], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with zao(*words, "devices=2") as first:
        first.until("step")
        first.process.send_signal(signal.SIGINT)
        code, lines, said = first.end()
    assert code == 130
    ended = json.loads(lines[-1])
    assert (ended["type"], ended["state"]) == ("ended", "stopped")
    assert all_gone(folder.path)
    with zao("--resume", "run", "devices=1") as second:
        assert second.until("started")["resumed_from"] == ended["step"]
        assert second.until("step")["step"] == ended["step"] + 1
        assert len(processes_of(folder.path)) == 1


def test_a_process_that_is_killed_ends_the_run_with_a_reason_and_none_stays(words: list[str], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with zao(*words, "devices=2") as first:
        first.until("saved")
        other_rank(folder).kill()
        code, lines, said = first.end()
    assert code == 5
    ended = json.loads(lines[-1])
    assert (ended["state"], ended["key"]) == ("failed", "rank_gone")
    assert "Another process of this run ended" in said
    assert holder(folder) is None
    assert all_gone(folder.path)
    # Who started them dies: they leave by themselves, and the run can be resumed.
    with zao("--resume", "run") as second:
        assert second.until("started")["resumed_from"] >= 20
        second.until("step")
        next(one for one in processes_of(folder.path) if "xiaozao.worker.per_device" in one.cmdline()).kill()
        assert all_gone(folder.path)


def test_a_second_signal_ends_all_processes_at_once(words: list[str], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with zao(*words, "devices=2") as first:
        first.until("step")
        # Held still, the worker cannot answer the first signal before the second one comes.
        psutil.Process(holder(folder)).suspend()
        first.process.send_signal(signal.SIGINT)
        assert first.process.stderr is not None
        while "second Ctrl-C" not in first.process.stderr.readline():
            pass
        first.process.send_signal(signal.SIGINT)
        code, _, said = first.end()
    assert code == 130
    assert "Ended at once" in said
    assert all_gone(folder.path)
    assert summarise(folder).state == "interrupted"


def test_torchrun_of_the_users_own_makes_and_runs_a_folder(words: list[str], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    options = [word.replace("epochs=2000", "epochs=1") for word in words if not word.startswith("output=")]
    command = ["torchrun", "--nnodes=1", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *command[1:], "--max-restarts=0", "--local-addr=localhost",
         "-m", "xiaozao.worker.main", str(folder.path), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert summarise(folder).state == "succeeded"
    assert "devices: 2" in folder.resolved.read_text(encoding="utf-8")
