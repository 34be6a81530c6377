"""Arrow files -> rows, read through polars: the shards that Hugging Face's `datasets` saves, and Arrow's own files.

Runs in a process of its own (reading.py), as the reader of parquet does.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars
from polars.exceptions import PanicException, PolarsError

from xiaozao.data.allowance import COLUMNS, most_bytes
from xiaozao.data.parquet import first_line, unpadded
from xiaozao.errors import DataError

FILE = b"ARROW1"  # of a file with a footer; a stream begins with the length of its schema
SLICE = 1000  # rows that become Python's at once


def rows_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of an Arrow file with their numbers from 1. Raises DataError."""
    try:
        with path.open("rb") as file:
            whole = file.read(len(FILE)) == FILE
        frame = polars.read_ipc(path) if whole else polars.read_ipc_stream(path)
    except (PolarsError, PanicException, OSError, RuntimeError, ValueError) as error:
        raise DataError("data_arrow", path=path, detail=first_line(error)) from None
    if frame.width > COLUMNS:
        raise DataError("data_wide", path=path, count=frame.width, limit=COLUMNS)
    if frame.estimated_size() > most_bytes(path):
        raise DataError("data_expands", path=path, size=path.stat().st_size, limit=most_bytes(path), rows=frame.height)
    for start in range(0, frame.height, SLICE):
        rows = frame.slice(start, SLICE).iter_rows(named=True)
        yield from enumerate(map(unpadded, rows), start + 1)
