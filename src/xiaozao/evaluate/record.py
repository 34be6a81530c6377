"""What was asked and what came of it: one record per model and item, in a file that only grows.

    {"v":1,"who":"base","suite":"facts.en","item":"en-00","asked":"3f2a…","answer":"Paris","value":1.0,"tokens":2,"seconds":0.4}

A record is written when its answer is there, so an evaluation that was stopped or killed goes on behind it and asks
nothing twice. A line that a crash left half written is cut off when the file is opened again.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from xiaozao.store.files import write_whole
from xiaozao.store.journal import NO_LINKS

VERSION = 1


@dataclass(frozen=True)
class Record:
    """One answered item.

    who: "base", "again" (the base once more, for the noise) or "tuned". asked: hash of the ids that the model read.
    value: 1 or 0 for right and wrong, bits per byte for texts. seconds: the item's share of its batch.
    """

    who: str
    suite: str
    item: str
    asked: str
    answer: str
    value: float
    tokens: int
    seconds: float

    @property
    def key(self) -> tuple[str, str, str]:
        return self.who, self.suite, self.item


class Records:
    """The records of one evaluation. Only one process writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known = {one.key: one for one in read_records(path)}
        self._mend()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_LINKS, 0o644)

    def add(self, records: Iterable[Record]) -> None:
        """Write records, and have them on the disk before returning."""
        new = [one for one in records if self.known.get(one.key) != one]
        lines = b"".join(_line(one) for one in new)
        while lines:
            lines = lines[os.write(self._file, lines) :]
        os.fsync(self._file)
        self.known.update((one.key, one) for one in new)

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _mend(self) -> None:
        """Cut off what a crash left of a last line."""
        if not self._path.is_file():
            return
        with self._path.open("r+b") as file:
            data = file.read()
            if data and not data.endswith(b"\n"):
                file.truncate(data.rfind(b"\n") + 1)


def read_records(path: Path) -> Iterator[Record]:
    """The whole records of a file; none if it is missing. Lines that are no records are passed over."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        record = _parse(line)
        if record is not None:
            yield record


def _line(record: Record) -> bytes:
    return json.dumps({"v": VERSION, **asdict(record)}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _parse(line: bytes) -> Record | None:
    try:
        document: Any = json.loads(line)
        values = {one.name: document[one.name] for one in fields(Record)}
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    kinds = {"value": (int, float), "seconds": (int, float), "tokens": (int,)}
    if document.get("v") != VERSION or not all(isinstance(values[name], kinds.get(name, (str,))) for name in values):
        return None
    return Record(**values) if math.isfinite(values["value"]) else None


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a file of records anew, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, b"".join(_line(one) for one in records))
