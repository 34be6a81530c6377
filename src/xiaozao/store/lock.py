"""One worker per run: lock.json in the run folder, held by a live process.

    {"pid": 4711, "started": "<boot>:<ticks>", "token": "..."}

A process is known by pid *and* start time, because pids are used again. Reading, judging and replacing the lock
happens under a kernel lock on a second file, which the kernel drops when its holder dies: without it, two starters
that both find a dead owner could each remove the other's fresh lock.
"""

import json
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from xiaozao.errors import Busy
from xiaozao.store.files import RunFolder

PROC = Path("/proc")  # Linux only

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextmanager
def acquire(folder: RunFolder) -> Iterator[str]:
    """Hold the run; yields the token in lock.json. Takes over from a dead owner; raises Busy while it lives."""
    token = uuid.uuid4().hex
    with _mutex(folder):
        pid = holder(folder)
        if pid is not None:
            raise Busy("run_busy", name=folder.name, pid=pid)
        _write(folder.lock, {"pid": os.getpid(), "started": started(os.getpid()), "token": token})
    try:
        yield token
    finally:
        with _mutex(folder):
            if _read(folder.lock).get("token") == token:
                folder.lock.unlink()


def holder(folder: RunFolder) -> int | None:
    """The process id of the live worker that holds the run, or None."""
    owner = _read(folder.lock)
    pid = owner.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return None
    return pid if owner.get("started") == started(pid) else None


def started(pid: int) -> str | None:
    """When a process started, as a text that no other process with this pid can have; None if it does not live.

    Linux counts from boot, so that setting the wall clock changes nothing; elsewhere the system's own start time.
    A zombie is dead: it writes nothing any more.
    """
    if PROC.is_dir():
        try:
            fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except (OSError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


@contextmanager
def _mutex(folder: RunFolder) -> Iterator[None]:
    """Milliseconds of exclusion between starters. The file stays: removing it would let two hold "the" mutex."""
    descriptor = os.open(folder.path / ".mutex", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor)
        try:
            yield
        finally:
            _unlock(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any]:
    """The lock's content; nothing for a missing or half-written one, whose writer is dead by definition."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _write(path: Path, owner: dict[str, Any]) -> None:
    """Whole or not at all, so that `holder`, which takes no mutex, never reads half of it."""
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(owner), encoding="utf-8")
    draft.replace(path)
