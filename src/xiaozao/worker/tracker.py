"""One tracker of one run, in a process of its own: `python -P -m xiaozao.worker.tracker RUN_FOLDER TRACKER [SECONDS]`.

It follows the journal by offset. What comes on its standard input is the state that the run ended with; the end of
that input without a word means that the worker died. Where the tracker's library fails, the reason is left in
RUN/track/TRACKER.error and the process ends; the worker tells it.

RUN/track/TRACKER.json keeps how far it has read, so that a resumed run goes on where the last session stopped, and
under which key, so that it is the same run to the tracker.
"""

import json
import os
import sys
import threading
import time
import traceback
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType

import psutil

from xiaozao.events import Loaded, from_record
from xiaozao.spec.fields import OPTIONS
from xiaozao.spec.run import RunSpec, read_file
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import read_records
from xiaozao.track.points import point_of, public_options
from xiaozao.track.sink import Sink, Tracked
from xiaozao.track.trackers import TRACKERS

POLL_SECONDS = 2.0
LIMIT_SECONDS = 3600.0
STATES = ("succeeded", "stopped", "failed")


@dataclass(frozen=True)
class Position:
    """How far a tracker has come: the byte in the journal, and the last step of each kind that was sent."""

    key: str
    offset: int = 0
    last: dict[str, int] = field(default_factory=dict)


class Ending:
    """The word on standard input, awaited in the background. `limit` seconds after it this process is gone.

    So a library that hangs leaves no process behind, not even where the worker was killed and nobody else looks.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._heard = threading.Event()
        self._word = ""
        threading.Thread(target=self._listen, daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Whether the run is over; waits for it no longer than this."""
        return self._heard.wait(seconds)

    @property
    def state(self) -> str:
        return self._word if self._word in STATES else "failed"

    def _listen(self) -> None:
        self._word = sys.stdin.readline().strip()
        self._heard.set()
        time.sleep(self._limit)
        os._exit(2)


def main(arguments: list[str]) -> int:
    """Follow the run to its end."""
    folder, name = RunFolder(Path(arguments[0])), arguments[1]
    limit = float(arguments[2]) if len(arguments) > 2 else LIMIT_SECONDS
    error = error_file(folder, name)
    error.unlink(missing_ok=True)

    def tell(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        """Leave at once: threads of the library may wait for ever for what has just failed."""
        error.write_text(f"{kind.__name__}: {value}", encoding="utf-8")
        traceback.print_exception(kind, value, trace)
        sys.stderr.flush()
        os._exit(1)

    sys.excepthook = tell
    _step_back()
    follow(folder, name, Ending(limit))
    return 0


def follow(folder: RunFolder, name: str, ending: Ending) -> None:
    """Send what is new in the journal until the run is over. Raises what the tracker's library raises."""
    position, sink = _read(folder, name), None
    while True:
        over = ending.wait(POLL_SECONDS)  # asked before reading: what was written before the end is still read
        records, offset = read_records(folder.events, position.offset)
        last = dict(position.last)
        for event in map(from_record, records):
            point = None if event is None else point_of(event)
            # Options are decided when the model has been loaded; before that there is nothing to show.
            if sink is None and (point or isinstance(event, Loaded)):
                sink = _open(folder, name, position.key)
            # A step that is done again after a crash has the same numbers as before: it is sent once.
            if sink and point and point.step > last.get(point.kind, -1):
                sink.send(point)
                last[point.kind] = point.step
        if offset != position.offset:
            position = replace(position, offset=offset, last=last)
            _write(folder, name, position)
        if over:
            break
    if sink is not None:
        sink.close(ending.state)


def error_file(folder: RunFolder, name: str) -> Path:
    """Where a tracker leaves why it failed."""
    return folder.track / f"{name}.error"


def _open(folder: RunFolder, name: str, key: str) -> Sink:
    spec = RunSpec.from_options(read_file(folder.resolved if folder.resolved.is_file() else folder.spec))
    choices = {option.name: option.choices for option in OPTIONS.values()}
    own = folder.track / name
    own.mkdir(parents=True, exist_ok=True)
    return TRACKERS[name].open(Tracked(folder.name, key, own, public_options(spec.options(), choices)))


def _read(folder: RunFolder, name: str) -> Position:
    """Where the last session stopped; a new key is written down before it is used."""
    path = folder.track / f"{name}.json"
    if path.is_file():
        return Position(**json.loads(path.read_text(encoding="utf-8")))
    position = Position(uuid.uuid4().hex[:12])
    _write(folder, name, position)
    return position


def _write(folder: RunFolder, name: str, position: Position) -> None:
    folder.track.mkdir(exist_ok=True)
    part = folder.track / f"{name}.json.part"
    part.write_text(json.dumps(asdict(position)), encoding="utf-8")
    part.replace(folder.track / f"{name}.json")


def _step_back() -> None:
    """Training goes first: this process takes what is left of the processor."""
    lower = int(getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 10))  # the constant is there on Windows alone
    psutil.Process().nice(lower)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
