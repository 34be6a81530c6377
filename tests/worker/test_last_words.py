"""A run whose words have no place to go: it ends without a traceback, somebody tells why, and it can go on."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.toy import toy_folder, write_chats
from xiaozao.events import Ended, Noticed, Step
from xiaozao.runs.launch import environment, launch
from xiaozao.runs.process import Worker, died
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import Journal, read_events, read_records
from xiaozao.store.runs import summarise

pytestmark = [pytest.mark.real, pytest.mark.skipif(sys.platform == "win32", reason="POSIX: limits, moving open files")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    data = write_chats(tmp_path / "data.jsonl", 40)
    asked = {"model": str(toy_folder(tmp_path / "model")), "data": str(data), "epochs": 40, "batch": 4, "threads": 1,
             "precision": "fp32", "save_every": 1, "keep": 1}  # fmt: skip
    made = RunFolder(tmp_path / "run")
    made.path.mkdir()
    made.spec.write_text(RunSpec.from_options(asked).to_yaml(), encoding="utf-8")
    return made


def test_a_folder_that_is_renamed_while_it_trains_is_told_of_and_goes_on_elsewhere(folder: RunFolder) -> None:
    child = launch(folder)
    deadline = time.monotonic() + 120
    while not any(isinstance(event, Step) for event in read_events(folder.events)):
        assert child.poll() is None and time.monotonic() < deadline, folder.log.read_text()
        time.sleep(0.05)
    moved = RunFolder(folder.path.with_name("moved"))
    folder.path.rename(moved.path)
    assert child.wait(60) == 9
    error = died(Worker(folder, child))
    assert error.key == "run_gone" and str(folder.path) in error.what("zh-CN")
    assert not folder.spec.exists() and not folder.events.exists()  # no second run in its place
    assert "Traceback" not in moved.log.read_text()
    last = list(read_events(moved.events))[-1]
    assert isinstance(last, Ended) and last.key == "run_gone"
    assert summarise(moved).state == "failed"


def test_a_disk_that_takes_no_last_words_leaves_a_run_that_goes_on(folder: RunFolder) -> None:
    with Journal(folder.events) as journal:
        for _ in range(400):
            journal.record(Noticed("filler", {"text": "x" * 5000}))
    limit = folder.events.stat().st_size + 3000
    words = [sys.executable, "-P", "-m", "xiaozao.worker.main", str(folder.path)]
    with folder.log.open("ab") as file:
        child = subprocess.Popen(
            words, env=environment(), stdout=file, stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip
    assert child.wait(120) == 9
    log = folder.log.read_text()
    assert "[ENVIRONMENT]" in log
    assert not any(isinstance(event, Ended) for event in read_events(folder.events))
    assert died(Worker(folder, child)).key == "last_words"
    assert launch(folder).wait(200) == 0
    assert [record["type"] for record in read_records(folder.events)[0]][-1] == "ended"
    for line in folder.events.read_text(encoding="utf-8").splitlines():
        json.loads(line)
