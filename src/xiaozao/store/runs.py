"""The runs of this user, and the state of each.

A run's state is not stored; it follows from its journal and its lock, so that it cannot be wrong:

    last event is Ended                succeeded | stopped | failed, as it says
    no Ended, the worker lives         running
    no Ended, no worker                interrupted   (killed, or the computer went down)
    the folder is gone                 missing
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xiaozao.errors import NotFound, UsageError
from xiaozao.events import Ended, Evaluated, Event, Loaded, Planned, Started, Step, from_record
from xiaozao.spec.yamlfile import read_yaml
from xiaozao.store import db
from xiaozao.store.files import RunFolder, home, open_run
from xiaozao.store.journal import read_records
from xiaozao.store.lock import holder


@dataclass(frozen=True)
class Summary:
    """The state of a run. Times are seconds since 1970, bytes are integers; None means not known (yet)."""

    name: str
    path: str
    state: str
    model: str = ""
    data: str = ""
    step: int = 0
    steps: int = 0
    started: float | None = None
    ended: float | None = None
    train_seconds: float = 0.0
    loss: float | None = None
    validation_loss: float | None = None
    best_validation_loss: float | None = None
    best_step: int | None = None
    first_validation_loss: float | None = None  # before training
    device: str = ""
    parameters: int | None = None
    trainable: int | None = None
    peak_bytes: int = 0
    predicted_peak_bytes: int = 0
    code: str = ""
    message: str = ""
    losses: tuple[float, ...] = field(default=(), repr=False)
    last_words: Ended | None = field(default=None, repr=False)


def register(path: Path, clock: float | None = None) -> None:
    """Add a run folder to the list of `zao runs`."""
    db.add(path, clock)


def forget(path: Path) -> None:
    """Take a run folder off the list of `zao runs`. The folder stays."""
    db.remove(path)


def known_folders() -> list[Path]:
    """The folders of all registered runs, newest first, including missing ones."""
    return db.paths()


def list_runs() -> list[Summary]:
    """All registered runs, newest first; those whose folder is gone are `missing`."""
    return [summarise(RunFolder(path)) for path in known_folders()]


def find_run(name: str) -> RunFolder:
    """A run by path, by its name under home(), or by its name in the index. Raises NotFound."""
    try:
        return open_run(name)
    except NotFound:
        for path in db.paths(name):
            if (path / "spec.yaml").is_file():
                return RunFolder(path)
        raise


def rebuild() -> int:
    """Register every run under home()/runs again; returns how many there are."""
    folders = sorted(path.parent for path in (home() / "runs").glob("*/spec.yaml"))
    for path in folders:
        register(path, path.stat().st_mtime)
    return len(folders)


def summarise(folder: RunFolder) -> Summary:
    """The state of a run, from its journal and its lock."""
    if not folder.path.is_dir():
        return Summary(folder.name, str(folder.path), "missing")
    alive = holder(folder) is not None  # asked before the journal is read: a worker ends after its last event
    summary = Summary(folder.name, str(folder.path), "interrupted", *_asked(folder))
    records = read_records(folder.events)[0]
    summary = _follow(summary, records)
    ended = summary.state != "interrupted"
    return summary if ended or not alive else replace(summary, state="running")


def _follow(summary: Summary, records: Iterable[dict[str, Any]]) -> Summary:
    losses: dict[int, float] = {}
    for record in records:
        event = from_record(record)
        if isinstance(event, Step):
            losses[event.step] = event.loss  # a step done again after a resume counts once
        if event is not None:
            summary = _after(summary, event, float(record.get("time", 0.0)))
    return replace(summary, losses=tuple(losses[step] for step in sorted(losses) if math.isfinite(losses[step])))


def _after(summary: Summary, event: Event, time: float) -> Summary:
    """The summary after one more event."""
    match event:
        case Started():
            return replace(summary, state="interrupted", ended=None, code="", message="",
                           started=time if summary.started is None else summary.started)  # fmt: skip
        case Loaded():
            return replace(summary, device=event.device, parameters=event.parameters, trainable=event.trainable)
        case Planned():
            return replace(summary, steps=event.steps, predicted_peak_bytes=event.peak_bytes)
        case Step():
            return replace(summary, step=event.step, steps=event.steps, loss=event.loss,
                           peak_bytes=max(summary.peak_bytes, event.peak_bytes))  # fmt: skip
        case Evaluated(step=0):
            return replace(summary, validation_loss=event.loss, first_validation_loss=event.loss)
        case Evaluated(best=True):
            return replace(summary, validation_loss=event.loss, best_validation_loss=event.loss, best_step=event.step)
        case Evaluated():
            return replace(summary, validation_loss=event.loss)
        case Ended():
            return _finished(summary, event, time)
    return summary


def _finished(summary: Summary, event: Ended, time: float) -> Summary:
    best = summary.best_validation_loss if event.best_validation_loss is None else event.best_validation_loss
    return replace(
        summary,
        state=event.state,
        ended=time,
        step=event.step or summary.step,
        steps=event.steps or summary.steps,
        train_seconds=event.train_seconds,
        loss=summary.loss if event.final_loss is None else event.final_loss,
        best_validation_loss=best,
        peak_bytes=max(summary.peak_bytes, event.peak_rss_bytes),
        predicted_peak_bytes=event.predicted_peak_bytes or summary.predicted_peak_bytes,
        code=event.code,
        message=event.message,
        last_words=event,
    )


def _asked(folder: RunFolder) -> tuple[str, str]:
    """Model and data from spec.yaml; nothing from one that cannot be read, because a list must still be shown."""
    try:
        options = read_yaml(folder.spec.read_text(encoding="utf-8"), str(folder.spec))
    except (OSError, UnicodeDecodeError, UsageError):
        return "", ""
    return str(options.get("model", "")), str(options.get("data", ""))


def short_name(folder: RunFolder) -> str:
    """What to type for this run: its name where that finds it, else its path."""
    try:
        return folder.name if find_run(folder.name) == folder else str(folder.path)
    except NotFound:
        return str(folder.path)
