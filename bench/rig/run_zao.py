"""One run of Xiaozao through its own command line, in fresh processes; the figures come from the run's journal."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.rig.measure import Machine, RunFailed, Watched, run_watched
from xiaozao.events import Ended, Evaluated, Event, Loaded, Prepared, Step
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import read_events

NEVER = 10**6  # steps; saving and validating only at the end

Options = Mapping[str, object]
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Run:
    """What the journal of a finished run says, and what was seen from outside."""

    folder: RunFolder
    prepared: Prepared
    loaded: Loaded
    steps: tuple[Step, ...]
    evaluated: tuple[Evaluated, ...]
    ended: Ended
    watched: Watched

    @property
    def tuned(self) -> Path:
        """The adapter, or the whole model that was tuned."""
        return self.folder.adapter if self.folder.adapter.is_dir() else self.folder.model

    @property
    def step_seconds(self) -> float:
        """The optimizer steps alone, validations left out."""
        return sum(step.seconds for step in self.steps)


def run_zao(options: Options, folder: Path, machine: Machine) -> Run:
    """`zao train key=value ...` to the end. Raises RunFailed with what zao said."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    given = {**options, "output": folder, "device": machine.device}
    if machine.core is not None:
        given["threads"] = 1
    command = [sys.executable, "-m", "xiaozao.cli", "--format", "json", "train"]
    log = folder.with_suffix(".log")
    home = {"ZAO_HOME": str(folder.parent / "home"), "ZAO_OFFLINE": "1", "LC_ALL": "C.UTF-8"}
    try:
        watched = run_watched([*command, *(f"{name}={value}" for name, value in given.items())], machine, log, home)
    except RunFailed as failure:
        raise said(str(failure)) from None
    return read_run(RunFolder(folder), watched)


def pull(model: str) -> Path:
    """The folder of a model as `zao models pull` gives it."""
    command = [sys.executable, "-m", "xiaozao.cli", "--quiet", "models", "pull", model]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.splitlines()[-1])


def read_run(folder: RunFolder, watched: Watched) -> Run:
    """The run that a journal tells of. Raises RunFailed for one that did not succeed."""
    events: list[Event] = list(read_events(folder.events))
    ended = _last(events, Ended)
    if ended.state != "succeeded":
        raise RunFailed(ended.message, ended.code)
    return Run(
        folder, _last(events, Prepared), _last(events, Loaded), tuple(_all(events, Step)),
        tuple(_all(events, Evaluated)), ended, watched,
    )  # fmt: skip


def said(log: str) -> RunFailed:
    """The error in `--format json` output, its problems with it; the log's end where there is none."""
    for line in reversed(log.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        told = found.get("error", found) if isinstance(found, dict) else None
        if isinstance(told, dict) and told.get("message"):
            problems = [str(one["message"]) for one in told.get("problems", []) if one.get("message")]
            return RunFailed("; ".join(problems) or str(told["message"]), str(told.get("code", "")))
    return RunFailed(log)


def _all(events: list[Event], kind: type[Kind]) -> Iterator[Kind]:
    return (event for event in events if isinstance(event, kind))


def _last(events: list[Event], kind: type[Kind]) -> Kind:
    found = list(_all(events, kind))
    if not found:
        raise RunFailed(f"the journal has no {kind.__name__}")
    return found[-1]
