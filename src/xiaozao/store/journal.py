"""The journal of a run: events.jsonl, append-only, read by offset.

One process writes (the worker, under the run's lock), any number read. A line that a crash left half written is cut
off when the journal is opened again; readers never see it, because they only take whole lines. Lines that are no
records are passed over by readers, and set aside into events.damaged.jsonl by the next writer.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from xiaozao.errors import EnvironmentProblem
from xiaozao.events import Event, from_record, is_whole, to_line, to_record

NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


class Journal:
    """Writes a journal. `record` returns the written record, so that the writer can pass it on.

    damaged: how many lines were set aside when it was opened.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._path = clock, path
        self._seq, self.damaged = _mend(path)
        self._torn = False  # a write failed in the middle of a line
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_LINKS, 0o644)

    def record(self, event: Event, last: bool = False) -> dict[str, Any]:
        """Write an event. Raises OSError where the disk refuses; EnvironmentProblem where the journal is no longer at
        its path, unless these are the last words, which go wherever it is now."""
        if not (last or self.in_place()):
            raise EnvironmentProblem("run_gone", path=self._path.parent)
        self._seq += 1
        record = to_record(event, self._seq, round(self._clock(), 3))
        self._write(to_line(record).encode() + b"\n")
        return record

    def close(self) -> None:
        os.close(self._file)

    def _write(self, line: bytes) -> None:
        rest = b"\n" + line if self._torn else line
        self._torn = True
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._torn = False

    def in_place(self) -> bool:
        """Whether the journal still lies where it was opened."""
        try:
            return os.path.samestat(os.fstat(self._file), self._path.stat())
        except OSError:
            return False

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
    """The record in a line; None if the line is damaged or consists of zeros, which a power loss can leave."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if is_whole(record) else None


def _mend(path: Path) -> tuple[int, int]:
    """Cut off a half-written last line and move damaged lines away.

    Returns the last number and the count of damaged lines.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | NO_LINKS)
    except FileNotFoundError:
        return 0, 0
    with os.fdopen(descriptor, "r+b") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        lines = [line for line in data[:whole].split(b"\n") if line]
        records = {number: record for number, line in enumerate(lines) if (record := _parse(line)) is not None}
        damaged = [line for number, line in enumerate(lines) if number not in records]
        if len(data) != whole and not damaged:
            file.truncate(whole)
    if damaged:
        _set_aside(path, damaged, [lines[number] for number in records])
    return max((int(record.get("seq", 0)) for record in records.values()), default=0), len(damaged)


def _set_aside(path: Path, damaged: list[bytes], good: list[bytes]) -> None:
    """Move damaged lines into a file of their own; the journal keeps the others, whole at every moment."""
    for name, lines, how in ((".damaged.jsonl", damaged, os.O_APPEND), (".mended", good, os.O_TRUNC)):
        descriptor = os.open(path.with_suffix(name), os.O_WRONLY | os.O_CREAT | how | NO_LINKS, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"".join(line + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
    path.with_suffix(".mended").replace(path)
