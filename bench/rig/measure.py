"""One process, pinned and watched from outside with the same eyes for every tool.

Memory is the kernel's own high-water mark (`VmHWM`), read while the process lives, of the largest single process that
the command started; where there is no /proc, the largest resident set that was seen.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

EVERY_SECONDS = 0.2
QUIET = {
    "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUTF8": "1", "PYTHONWARNINGS": "ignore",
}  # fmt: skip
LOG_LINES = 25


class RunFailed(Exception):
    """A command ended with an error; the text is the end of its log, or the tool's own message with its `code`."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Machine:
    """Where runs go: one pinned core, or (core None) whatever the tool takes."""

    core: int | None
    device: str = "cpu"

    def command(self, command: Sequence[str]) -> list[str]:
        """The command behind `taskset`, where there is one."""
        if self.core is None or shutil.which("taskset") is None:
            return list(command)
        return ["taskset", "-c", str(self.core), *command]

    def variables(self) -> dict[str, str]:
        """What every tool finds in its environment: no network, and one thread on a pinned core."""
        threads = {} if self.core is None else {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self.device == "cpu" else {}
        return {**os.environ, **QUIET, **threads, **hidden}


@dataclass(frozen=True)
class Watched:
    """What was seen of a run from outside. `cpu_share` is processor time over wall time: below 0.9 on a pinned core
    something else ran there too, and the run's time means nothing."""

    peak_bytes: int
    cpu_share: float
    read_bytes: int = 0  # that came from the disk, not from the page cache


def run_watched(command: Sequence[str], machine: Machine, log: Path, more: Mapping[str, str] | None = None) -> Watched:
    """Run to the end. Raises RunFailed with the log's end for an exit code but 0."""
    begun, used = time.monotonic(), processor_seconds()
    log.parent.mkdir(parents=True, exist_ok=True)
    peak = read = 0
    with log.open("wb") as file:
        process = subprocess.Popen(
            machine.command(command), env={**machine.variables(), **(more or {})},
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
        while process.poll() is None:
            peak, read = max(peak, largest(process.pid)), max(read, read_by(process.pid))
            time.sleep(EVERY_SECONDS)
    if process.returncode:
        raise RunFailed(log_end(log))
    return Watched(peak, (processor_seconds() - used) / (time.monotonic() - begun), read)


def processor_seconds() -> float:
    """Processor time of all children that have ended; 0 where the system does not tell."""
    times = psutil.Process().cpu_times()
    return float(getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0))


def largest(pid: int) -> int:
    """The high-water mark of the largest process of the family that `pid` heads, in bytes."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    return max((high_water(one) for one in family), default=0)


def read_by(pid: int) -> int:
    """Bytes that the family of `pid` had fetched from the disk; 0 where the system does not tell."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return sum(int(one.io_counters().read_bytes) for one in family)
    except (psutil.Error, AttributeError):
        return 0


def high_water(process: psutil.Process) -> int:
    """VmHWM of one process; its resident set where the system keeps no such mark; 0 once it is gone."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        return int(found[1]) * 1024 if found else 0
    except OSError:
        pass
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def log_end(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])
