"""The trackers of a run: started beside it, looked after, and given a little time at its end.

Each is a process that follows the journal (worker/tracker.py). Whatever happens there, the run goes on: a tracker that
ended is told once, and one that has not ended in time is ended.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import psutil

from xiaozao.events import Ended, Event, Noticed, Step
from xiaozao.runs.launch import environment
from xiaozao.spec.run import RunSpec, read_file
from xiaozao.store.files import RunFolder
from xiaozao.worker.tracker import error_file

FINISH_SECONDS = 20.0
SETTINGS = (
    ("WANDB_ERROR_REPORTING", "false"), ("MLFLOW_DISABLE_TELEMETRY", "true"), ("DO_NOT_TRACK", "1"),
)  # fmt: skip
Emit = Callable[[Event], object]


def tracked(folder: RunFolder, emit: Emit, run: Callable[[RunFolder, Emit], Ended]) -> Ended:
    """Execute a run with the trackers that its options name beside it."""
    spec = RunSpec.from_options(read_file(folder.resolved if folder.resolved.is_file() else folder.spec))
    trackers = Trackers(folder, spec.train.track, emit)
    state = "failed"

    def heard(event: Event) -> None:
        emit(event)
        if isinstance(event, Step):
            trackers.look()

    try:
        ended = run(folder, heard)
        state = ended.state
        return ended
    finally:
        trackers.finish(state)


class Trackers:
    """The processes of a run's trackers."""

    def __init__(self, folder: RunFolder, names: Sequence[str], emit: Emit) -> None:
        self._folder, self._emit = folder, emit
        self._living: dict[str, subprocess.Popen[bytes]] = {}
        for name in dict.fromkeys(names):
            try:
                self._living[name] = start(folder, name, FINISH_SECONDS + 10)
            except OSError as error:
                self._tell(name, str(error))

    def look(self) -> None:
        """Emit a notice for each tracker that ended too early."""
        for name, process in list(self._living.items()):
            if process.poll() is not None:
                self._ended(name)

    def finish(self, state: str, seconds: float = FINISH_SECONDS) -> None:
        """Say how the run ended, and wait for all of them together no longer than this."""
        for process in self._living.values():
            say_end(process, state)
        deadline = time.monotonic() + seconds
        for name, process in list(self._living.items()):
            late = False
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                late = True
                end(process)
            self._ended(name, round(seconds) if late else None)

    def _ended(self, name: str, late: int | None = None) -> None:
        """Tell why a tracker ended, if it did not end well. `late` are the seconds that were not enough for it."""
        code = self._living.pop(name).wait()
        reason = why(self._folder, name)
        if late is not None and not reason:
            self._emit(Noticed("tracker_late", {"tracker": name, "seconds": late, "run": self._folder.name}))
        elif code != 0:
            self._tell(name, reason or f"exit code {code}")

    def _tell(self, name: str, reason: str) -> None:
        self._emit(Noticed("tracker_failed", {"tracker": name, "reason": reason, "run": self._folder.name}))


def start(folder: RunFolder, name: str, limit: float) -> subprocess.Popen[bytes]:
    """Start one tracker. What its library prints goes to a log of its own; `limit` seconds after the end it is gone."""
    folder.track.mkdir(exist_ok=True)
    with (folder.track / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "xiaozao.worker.tracker", str(folder.path), name, str(limit)],
            stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, cwd=folder.track,
            env={**environment(), **dict(SETTINGS)}, close_fds=True,
            start_new_session=os.name != "nt", creationflags=int(getattr(subprocess, "CREATE_NO_WINDOW", 0)),
        )  # fmt: skip


def say_end(process: subprocess.Popen[bytes], state: str) -> None:
    """Tell a tracker that the run is over. One that is gone already hears nothing."""
    assert process.stdin is not None
    try:
        process.stdin.write(f"{state}\n".encode())
        process.stdin.close()
    except OSError:
        return


def end(process: subprocess.Popen[bytes]) -> None:
    """End a tracker and what its library started."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        family = []
    process.kill()
    for member in family:
        try:
            member.kill()
        except psutil.Error:
            continue


def why(folder: RunFolder, name: str) -> str:
    """The first line of why a tracker failed; empty if it did not say."""
    try:
        return (error_file(folder, name).read_text(encoding="utf-8").splitlines() or [""])[0][:300]
    except OSError:
        return ""
