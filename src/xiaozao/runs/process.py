"""Another process's view of a run's worker: whether it is alive, how to kill it, and why it ended."""

import contextlib
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from xiaozao.errors import Busy, EnvironmentProblem, OutOfMemory, Problem, TrainingError, XiaozaoError
from xiaozao.runs.follow import last_sequence
from xiaozao.runs.launch import MODULE
from xiaozao.store.files import RunFolder
from xiaozao.store.lock import holder
from xiaozao.store.runs import short_name

LEAVE_SECONDS = 5.0
START_SECONDS = 60.0


KILLED = (-9, 137)


BUSY = 10


LOG_LINES = 8


PROGRESS_BAR = re.compile(r"\d+%\|.*\|")


@dataclass(frozen=True)
class Worker:
    """A worker as seen from here: our child, or one that another command started.

    Of a run on several devices the child is the process that started the workers.
    """

    folder: RunFolder
    child: subprocess.Popen[bytes] | None = None

    def alive(self) -> bool:
        return self.child.poll() is None if self.child else holder(self.folder) is not None

    def kill(self) -> None:
        """End it at once; what it saved before stays. Only ever the processes of this run."""
        pid = self.child.pid if self.child else holder(self.folder)
        with contextlib.suppress(psutil.NoSuchProcess):
            if pid is not None:
                kill_ranks(psutil.Process(pid))

    def code(self) -> int | None:
        """Its exit code, waiting a little for one that has said its last word; None if it is not known."""
        if self.child is None:
            return None
        try:
            return self.child.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            return None


def has_started(worker: Worker, after: int) -> bool:
    """Wait until a worker has written behind the record `after`, so that the next command sees it; False if it died."""
    deadline = time.monotonic() + START_SECONDS
    while worker.alive() and last_sequence(worker.folder.events) <= after and time.monotonic() < deadline:
        time.sleep(0.1)
    return worker.alive() or last_sequence(worker.folder.events) > after


def kill_ranks(process: psutil.Process) -> None:
    """End a worker, or the process that started several and then those. Trackers end by themselves."""
    workers = [one for one in process.children() if MODULE in _words(one)]
    for member in (process, *workers):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def died(worker: Worker) -> XiaozaoError:
    """The error of a worker that ended without an Ended event: by its exit code, with the end of its log."""
    folder = worker.folder
    code = worker.code()
    name = short_name(folder)
    if code == BUSY and holder(folder) is not None:
        return Busy("run_busy", name=name, pid=holder(folder))
    if not folder.events.is_file() and not folder.spec.is_file():
        return EnvironmentProblem("run_gone", path=folder.path)
    problems = [Problem("log_line", {"line": line}) for line in log_tail(folder.log)]
    if code in KILLED:
        return OutOfMemory("worker_killed", problems, name=name, log=folder.log)
    if code == EnvironmentProblem.exit_code:  # it told its log, not the journal
        free = shutil.disk_usage(folder.path).free
        return EnvironmentProblem("last_words", problems, name=name, path=folder.path, free=f"{free / 1e6:.0f}")
    if code is None:
        return TrainingError("worker_gone", problems, name=name, log=folder.log)
    return TrainingError("worker_died", problems, name=name, code=code, log=folder.log)


def log_tail(path: Path, lines: int = LOG_LINES) -> list[str]:
    """The last lines of a log but for progress bars, without reading all of it."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - max(8192, lines * 256)))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip() and not PROGRESS_BAR.search(line)][-lines:]
