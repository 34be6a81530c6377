"""Follows a run's journal while its worker is alive."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xiaozao.store.journal import read_records

POLL_SECONDS = 0.2
CHUNK = 1 << 20  # bytes


def follow(path: Path, alive: Callable[[], bool], after: int = 0) -> Iterator[dict[str, Any] | None]:
    """Yield the records as they are written, and None when there is nothing new.

    Ends at Ended or when the worker is dead.
    """
    offset, file = 0, None
    while True:
        living = alive()  # asked before reading: what a worker wrote before it died is still read
        if file != (file := _identity(path)):
            offset = 0  # it was mended: another file in its place; what was shown is not shown again
        records, offset = read_records(path, offset)
        for record in records:
            if int(record.get("seq", 0)) > after:
                after = int(record["seq"])
                yield record
                if record.get("type") == "ended":
                    return
        if not living:
            return
        yield None
        time.sleep(POLL_SECONDS)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def follow_lines(path: Path, alive: Callable[[], bool], offset: int = 0) -> Iterator[str]:
    """The lines of a growing text file from a byte on, as they come; ends when nobody writes to it any more.

    A file that became shorter is read from its beginning.
    """
    rest = b""
    while True:
        living = alive()
        size = path.stat().st_size if path.is_file() else 0
        offset = offset if size >= offset else 0
        if size > offset:
            with path.open("rb") as file:
                file.seek(offset)
                rest += file.read(CHUNK)
                offset = file.tell()
            *whole, rest = rest.split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in whole)
            continue
        if not living:
            if rest:
                yield rest.decode("utf-8", "replace")
            return
        time.sleep(POLL_SECONDS)


def last_sequence(path: Path) -> int:
    """The number of the last record in a journal, 0 if there is none."""
    return max((int(record.get("seq", 0)) for record in read_records(path)[0]), default=0)


def session_start(path: Path) -> int:
    """The number before the last Started record, from which a watcher reads."""
    started = [int(record.get("seq", 1)) for record in read_records(path)[0] if record.get("type") == "started"]
    return started[-1] - 1 if started else 0
