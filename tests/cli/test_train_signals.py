"""A whole run of a toy through `zao train`: stopped, killed, resumed, looked in on, finished."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.toy import toy_folder, write_chats
from xiaozao.store.files import RunFolder
from xiaozao.store.lock import holder
from xiaozao.store.runs import summarise

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.name == "nt", reason="signals between processes")]


class Zao:
    """One `zao train --json` that is going on."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "xiaozao.cli", "train", *words, "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def until(self, kind: str) -> dict[str, Any]:
        """Read on to the next record of this type."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            record: dict[str, Any] = json.loads(line)
            if record.get("type") == kind:
                return record
        pytest.fail(f"no {kind}: {self.process.communicate()}")

    def end(self) -> tuple[int, list[str], str]:
        """Exit code, the lines left on stdout, stderr."""
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out.splitlines(), err


@contextmanager
def zao(*words: str) -> Iterator[Zao]:
    """Ends the process whatever happens in the test."""
    run = Zao(*words)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.communicate()


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A run that would take minutes; its worker is ended with the test."""
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")
    output = tmp_path / "run"
    yield [
        f"model={toy_folder(tmp_path / 'toy')}", f"data={write_chats(tmp_path / 'd.jsonl', 64)}", f"output={output}",
        "device=cpu", "precision=fp32", "rank=2", "length=128", "batch=4", "epochs=2000", "validation=none",
        "threads=1", "save_every=20", "budget=8GB",
    ]  # fmt: skip
    pid = holder(RunFolder(output))
    if pid is not None:
        psutil.Process(pid).kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_first_signal_saves_and_leaves_a_run_that_can_be_resumed(
    number: signal.Signals, code: int, words: list[str], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    with zao(*words) as first:
        first.until("step")
        first.process.send_signal(number)
        returned, lines, said = first.end()
    assert returned == code
    ended = json.loads(lines[-1])
    assert (ended["type"], ended["state"]) == ("ended", "stopped")
    assert "Stopped, resumable: zao train --resume run" in said
    assert summarise(folder).state == "stopped"
    assert holder(folder) is None
    with zao("--resume", "run") as second:
        assert second.until("started")["resumed_from"] == ended["step"]
        assert second.until("step")["step"] == ended["step"] + 1


def test_a_second_signal_ends_it_at_once_and_it_resumes(words: list[str], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with zao(*words) as first:
        first.until("saved")
        # Held still, the worker cannot answer the first signal before the second one comes.
        worker = psutil.Process(holder(folder))
        worker.suspend()
        first.process.send_signal(signal.SIGINT)
        assert first.process.stderr is not None
        while "second Ctrl-C" not in first.process.stderr.readline():
            pass
        first.process.send_signal(signal.SIGINT)
        returned, lines, said = first.end()
    assert returned == 130
    assert "Ended at once" in said
    assert holder(folder) is None
    assert summarise(folder).state == "interrupted"
    with zao("--resume", str(folder.path)) as second:
        assert second.until("started")["resumed_from"] >= 20
        second.until("step")
        assert not folder.stop.exists()


def test_a_killed_worker_is_explained_and_others_that_watch_it_notice(words: list[str], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with zao(*words) as first:
        first.until("step")
        with zao("--resume", "run") as watcher:
            watcher.until("step")
            pid = holder(folder)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            code, lines, said = watcher.end()
            assert code == 5
            assert "worker_gone" in lines[-1]
        code, lines, said = first.end()
    assert code == 6
    assert json.loads(lines[-1])["error"]["code"] == "OUT_OF_MEMORY"
    assert "zao train --resume run" in said


def test_a_detached_run_goes_on_without_its_starter_and_ends_well(words: list[str], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    short = [word.replace("epochs=2000", "epochs=20") for word in words]
    done = subprocess.run(
        [sys.executable, "-m", "xiaozao.cli", "train", *short, "--detach", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["run"] == "run"
    with zao("--resume", "run") as watcher:
        code, lines, _ = watcher.end()
    assert code == 0
    ended = json.loads(lines[-1])
    assert (ended["type"], ended["state"], ended["output"]) == ("ended", "succeeded", str(folder.path))
    assert ended["step"] == ended["steps"] == 320
    for name in ("train_seconds", "tokens_per_second", "final_loss", "peak_rss_bytes", "predicted_peak_bytes"):
        assert ended[name] > 0
    assert (folder.adapter / "adapter_model.safetensors").is_file()


def test_leaving_a_watch_leaves_a_detached_run_alone_and_a_stop_stops_it(words: list[str], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    zao_ = [sys.executable, "-m", "xiaozao.cli"]
    subprocess.run([*zao_, "train", *words, "--detach"], capture_output=True, check=True)
    with zao("--resume", "run") as watcher:
        step = watcher.until("step")["step"]
        watcher.process.send_signal(signal.SIGINT)
        code, _, said = watcher.end()
    assert code == 130 and "zao runs watch run" in said
    assert not folder.stop.exists() and holder(folder) is not None
    done = subprocess.run([*zao_, "runs", "stop", "run", "--json"], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["state"] == "stopped" and told["step"] >= step
    assert holder(folder) is None
