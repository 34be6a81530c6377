"""The output of every reader: rows, or the problem of a row that cannot be read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xiaozao.errors import Problem

FILE_LINES = 10**12  # more lines than a file has: of several files each has its own numbers


@dataclass(frozen=True)
class Row:
    """One record of a file: its fields, the line (or sheet row) it begins on, from 1, and the byte it begins at.

    In parquet and xlsx a record has no byte of its own; `offset` is 0 there.
    """

    values: dict[str, Any]
    line: int
    offset: int


Rows = Iterator[Row | Problem]


def line_text(line: int) -> int | str:
    """A line number for a person: `7`, or `2:7` for line 7 of the second of several files."""
    place, own = divmod(line, FILE_LINES)
    return f"{place + 1}:{own}" if place else own
