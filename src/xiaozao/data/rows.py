"""What every reader gives back: rows, and in their place the problems of rows that cannot be read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xiaozao.errors import Problem


@dataclass(frozen=True)
class Row:
    """One record of a file: its fields, the line (or sheet row) it begins on, from 1, and the byte it begins at.

    In parquet and xlsx a record has no byte of its own; `offset` is 0 there.
    """

    values: dict[str, Any]
    line: int
    offset: int


Rows = Iterator[Row | Problem]
