"""One worker per run, known by process id and start time."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xiaozao.errors import Busy
from xiaozao.store.files import RunFolder
from xiaozao.store.lock import LEASE, acquire, holder, lock_file, started

HOLD = """
import sys
from pathlib import Path
from xiaozao.store.files import RunFolder
from xiaozao.store.lock import acquire
with acquire(RunFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""

RACE = """
import sys
from pathlib import Path
from xiaozao.errors import Busy
from xiaozao.store.files import RunFolder
from xiaozao.store.lock import acquire
sys.stdin.read(1)
try:
    with acquire(RunFolder(Path(sys.argv[1]))):
        print("held", flush=True)
        sys.stdin.read()
except Busy:
    print("busy", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def _start(code: str, folder: RunFolder) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _owner(folder: RunFolder, pid: int, start: str | None) -> None:
    folder.lock.write_text(json.dumps({"pid": pid, "started": start, "token": "x"}), encoding="utf-8")


def test_a_held_run_is_busy_and_free_afterwards(folder: RunFolder) -> None:
    assert holder(folder) is None
    with acquire(folder) as token:
        assert token
        assert holder(folder) == os.getpid()
        with pytest.raises(Busy) as caught, acquire(folder):
            pass
        assert caught.value.exit_code == 10
        assert str(os.getpid()) in caught.value.what("zh-CN")
        assert holder(folder) == os.getpid()
    assert holder(folder) is None
    with acquire(folder) as again:
        assert again != token


def test_a_run_is_free_after_its_holder_failed(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="bug"), acquire(folder):
        raise ValueError("bug")
    assert holder(folder) is None


def test_another_process_is_refused_while_the_first_lives_and_takes_over_when_it_is_killed(folder: RunFolder) -> None:
    with _start(HOLD, folder) as process:
        assert _line(process) == "held"
        assert holder(folder) == process.pid
        with pytest.raises(Busy), acquire(folder):
            pass
        process.kill()
        process.wait()
        assert folder.lock.is_file()
        assert holder(folder) is None
        with acquire(folder):
            assert holder(folder) == os.getpid()


def test_a_zombie_holds_nothing(folder: RunFolder) -> None:
    with _start(HOLD, folder) as process:
        assert _line(process) == "held"
        process.kill()
        for _ in range(500):  # dead, but not waited for: the system still lists it
            if holder(folder) is None:
                break
            time.sleep(0.01)
        assert holder(folder) is None
        assert process.returncode is None


def test_a_pid_that_was_used_again_is_not_the_holder(folder: RunFolder) -> None:
    _owner(folder, os.getpid(), "another boot:1")
    assert holder(folder) is None
    with acquire(folder):
        assert holder(folder) == os.getpid()


def test_a_live_foreign_process_with_its_start_time_is_the_holder(folder: RunFolder) -> None:
    _owner(folder, os.getppid(), started(os.getppid()))
    assert holder(folder) == os.getppid()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": "7"}', '{"pid": 0}', '{"pid": -1}', "\x00" * 40])
def test_a_damaged_lock_holds_nothing(folder: RunFolder, text: str) -> None:
    folder.lock.write_text(text, encoding="utf-8")
    assert holder(folder) is None
    with acquire(folder):
        assert holder(folder) == os.getpid()


def test_a_lock_that_was_taken_over_is_left_to_its_new_owner(folder: RunFolder) -> None:
    with acquire(folder):
        _owner(folder, os.getppid(), started(os.getppid()))
    assert holder(folder) == os.getppid()


def test_of_many_starters_that_find_a_dead_owner_one_wins(folder: RunFolder) -> None:
    for _ in range(3):
        _owner(folder, os.getpid(), "dead")
        racers = [_start(RACE, folder) for _ in range(4)]
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("x")
            racer.stdin.flush()
        assert sorted(map(_line, racers)) == ["busy", "busy", "busy", "held"]
        for racer in racers:
            racer.communicate()
        assert holder(folder) is None


def test_a_process_that_is_not_there_has_no_start_time() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert started(process.pid) is None
    assert started(os.getpid()) == started(os.getpid())


NO_LOCKS = """
import errno, fcntl
def refuse(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")
fcntl.flock = refuse
"""


@pytest.mark.skipif(sys.platform == "win32", reason="flock is POSIX")
def test_without_file_locks_one_still_holds_the_run(folder: RunFolder) -> None:
    first = _start(NO_LOCKS + HOLD, folder)
    assert _line(first) == "held"
    racers = [_start(NO_LOCKS + RACE, folder) for _ in range(4)]
    for one in racers:
        assert one.stdin is not None
        one.stdin.write("x")
        one.stdin.flush()
    assert [_line(one) for one in racers] == ["busy"] * 4
    first.kill()
    for one in (first, *racers):
        one.communicate()
    racers = [_start(NO_LOCKS + RACE, folder) for _ in range(4)]
    for one in racers:
        assert one.stdin is not None
        one.stdin.write("x")
        one.stdin.flush()
    assert sorted(_line(one) for one in racers) == ["busy", "busy", "busy", "held"]
    for one in racers:
        one.communicate()
    assert not (folder.path / ".mutex.held").exists()


def test_a_lock_file_of_the_dead_or_of_long_ago_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "held"
    here = {"host": platform.node(), "pid": 2**22 + 1, "started": "long ago", "token": "x"}
    for owner, age in ((here, 0.0), ({**here, "host": "elsewhere"}, LEASE + 5), ({}, LEASE + 5)):
        path.write_text(json.dumps(owner), encoding="utf-8")
        os.utime(path, (time.time() - age, time.time() - age))
        with lock_file(path):
            assert json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid()
        assert list(tmp_path.iterdir()) == []


def test_a_lock_file_of_another_machine_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozao.store.lock.LEASE", 0.3)
    path = tmp_path / "held"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 7, "token": "x"}), encoding="utf-8")
    os.utime(path, (time.time() + 60, time.time() + 60))  # it is kept fresh
    with pytest.raises(Busy) as caught, lock_file(path):
        pass
    assert "elsewhere" in caught.value.what("zh-CN") and "process 7" in caught.value.what()
