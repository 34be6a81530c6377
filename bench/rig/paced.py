"""The processor time of each step of a run, seen from outside: what else runs on the core does not lengthen it."""

import threading
import time
from bisect import bisect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from xiaozao.store.journal import read_records

EVERY = 0.1  # seconds


@dataclass
class Watch:
    """When (seconds since 1970), and how much processor time the run's worker had taken by then."""

    times: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)

    def at(self, moment: float) -> float:
        """Between two looks, evenly."""
        place = min(max(bisect(self.times, moment), 1), len(self.times) - 1)
        begin, end = self.times[place - 1], self.times[place]
        share = min(1.0, max(0.0, (moment - begin) / (end - begin)))
        return self.taken[place - 1] + share * (self.taken[place] - self.taken[place - 1])

    def steps(self, journal: Path) -> list[float]:
        """The processor time of each step that the journal tells of."""
        steps = [one for one in read_records(journal)[0] if one["type"] == "step"]
        return [self.at(one["time"]) - self.at(one["time"] - one["seconds"]) for one in steps]


@contextmanager
def watching(folder: Path) -> Iterator[Watch]:
    """Look at the worker of the run in `folder` as long as the context lasts."""
    watch, done = Watch(), threading.Event()
    thread = threading.Thread(target=_look, args=(watch, folder, done))
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()


def _look(watch: Watch, folder: Path, done: threading.Event) -> None:
    while not done.wait(EVERY):
        taken = _taken(folder)
        if taken is not None:
            watch.times.append(time.time())
            watch.taken.append(taken)


def _taken(folder: Path) -> float | None:
    """By the process that was started with this folder; None before it is there, and once it is gone."""
    for one in psutil.Process().children(recursive=True):
        try:
            words = one.cmdline()
            if str(folder) in words and "xiaozao.worker.main" in words:
                used = one.cpu_times()
                return float(used.user + used.system)
        except psutil.Error:
            continue
    return None
