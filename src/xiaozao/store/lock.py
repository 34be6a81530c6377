"""One worker per run: lock.json in the run folder, held by a live process.

    {"pid": 4711, "started": "<boot>:<ticks>", "token": "..."}

A process is known by pid *and* start time, because pids are used again. Reading, judging and replacing the lock
happens under a kernel lock on a second file, which the kernel drops when its holder dies: without it, two starters
that both find a dead owner could each remove the other's fresh lock.

Some file systems have no such locks (Lustre without flock, NFS without its lock daemon). There a file that is made
exclusively takes its place. It says who made it, and is set aside when that process is dead, or, where nobody here can
know that, when it is older than any such moment lasts.
"""

import errno
import json
import os
import platform
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from xiaozao.errors import Busy
from xiaozao.store.files import RunFolder

PROC = Path("/proc")  # Linux only
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
LEASE = 30.0  # seconds; what is done under the mutex takes milliseconds
POLL = 0.02

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

    def has_record_locks(path: Path) -> bool:
        """Whether the file system of this file has the locks that SQLite uses."""
        return path.parent.is_dir()
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    def has_record_locks(path: Path) -> bool:
        """Whether the file system of this file has the locks that SQLite uses."""
        with path.open("a+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                return error.errno not in NO_LOCKS
        return True


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
    """The start time of a process, as a text that identifies it together with the pid; None if it is not alive.

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
    """Exclude other starters for some milliseconds. The file stays: if it were removed, two could hold the mutex."""
    with ExitStack() as stack:
        descriptor = os.open(folder.mutex, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        stack.callback(os.close, descriptor)
        try:
            _lock(descriptor)
            stack.callback(_unlock, descriptor)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            stack.enter_context(lock_file(folder.path / ".mutex.held"))
        yield


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """A lock by exclusive creation of a file. Raises Busy if another process holds it for longer than LEASE."""
    mine = {
        "host": platform.node(),
        "pid": os.getpid(),
        "started": started(os.getpid()),
        "token": uuid.uuid4().hex,
    }
    deadline = time.monotonic() + 2 * LEASE
    while not _made(path, mine):
        if _is_stale(path):
            _set_aside(path)
        elif time.monotonic() > deadline:
            owner = _read(path)
            raise Busy("lock_file", path=path, host=owner.get("host", "?"), pid=owner.get("pid", "?"))
        else:
            time.sleep(POLL)
    try:
        yield
    finally:
        if _read(path).get("token") == mine["token"]:
            path.unlink()


def _made(path: Path, owner: dict[str, Any]) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(owner))
    return True


def _is_stale(path: Path) -> bool:
    """Whether the lock file's maker is dead.

    If that is unknown (another machine, or an empty file), whether it is old.
    """
    owner = _read(path)
    pid = owner.get("pid")
    if owner.get("host") == platform.node() and isinstance(pid, int):
        return owner.get("started") != started(pid)
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > LEASE
    return False


def _set_aside(path: Path) -> None:
    """Remove a stale lock file. If another process has just replaced it with its own, that one is put back."""
    judged = _read(path)
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):
        path.rename(aside)
        if _read(aside) != judged:
            with suppress(OSError):
                os.link(aside, path)
        aside.unlink()


def _read(path: Path) -> dict[str, Any]:
    """The lock's content; nothing for a missing or half-written one, whose writer is dead by definition."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _write(path: Path, owner: dict[str, Any]) -> None:
    """Write the lock atomically, because `holder` reads it without the mutex."""
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(owner), encoding="utf-8")
    draft.replace(path)
