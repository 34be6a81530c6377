"""The peak of this process's resident set, as the system counts it."""

import os
import sys
from functools import cache
from pathlib import Path

import psutil

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def peak_rss() -> int:
    """The peak of the resident set in bytes: VmHWM on Linux, the peak working set on Windows, ru_maxrss on macOS."""
    if STATUS.exists():
        line = next(one for one in STATUS.read_text().splitlines() if one.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return _elsewhere()


def rss() -> int:
    """The resident set now, in bytes."""
    return int(_process(os.getpid()).memory_info().rss)


@cache
def _process(pid: int) -> psutil.Process:
    """The handle of this process, made once: making it takes twice as long as a query, and every block queries it."""
    return psutil.Process(pid)


def reset_peak() -> None:
    """Let the peak start from now, where the system can (Linux); elsewhere it counts from the process's start."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return


if sys.platform == "win32":

    def _elsewhere() -> int:
        return int(psutil.Process().memory_info().peak_wset)
else:
    import resource

    def _elsewhere() -> int:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
