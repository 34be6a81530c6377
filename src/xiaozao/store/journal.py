"""The journal of a run: events.jsonl, append-only, read by offset.

One process writes (the worker, under the run's lock), any number read. A line that a crash left half written is cut
off when the journal is opened again; readers never see it, because they only take whole lines.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from xiaozao.events import Event, from_record, to_line, to_record


class Journal:
    """The writing end. `record` returns what was written, so that the writer can pass it on."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seq = _mend(path)
        self._file = path.open("a", encoding="utf-8")

    def record(self, event: Event) -> dict[str, Any]:
        self._seq += 1
        record = to_record(event, self._seq, round(self._clock(), 3))
        self._file.write(to_line(record) + "\n")
        self._file.flush()
        return record

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_records(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The records after a byte offset, and the offset to go on from. A missing journal has none."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    whole = data.rfind(b"\n") + 1
    records = [record for line in data[:whole].split(b"\n") if line and (record := _parse(line)) is not None]
    return records, offset + whole


def read_events(path: Path) -> Iterator[Event]:
    """All events of a run, in order. A step that was done again after a resume appears again."""
    for record in read_records(path)[0]:
        event = from_record(record)
        if event is not None:
            yield event


def _parse(line: bytes) -> dict[str, Any] | None:
    """A power loss can leave a line of zeros: skipped, because the journal must stay readable."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _mend(path: Path) -> int:
    """Cut off a half-written last line; return the last sequence number."""
    records, end = read_records(path)
    if path.exists() and path.stat().st_size != end:
        with path.open("r+b") as file:
            file.truncate(end)
    return max((int(record.get("seq", 0)) for record in records), default=0)
