"""parquet -> rows, read through polars in slices of bounded memory.

A value that is stored once can occur in a thousand million rows, so the length of a slice is chosen by the size of the
rows before it. Runs in a process of its own (reading.py): polars panics on some damaged files, and cannot be stopped.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars
from polars.exceptions import PanicException, PolarsError

from xiaozao.data.allowance import COLUMNS, most_bytes
from xiaozao.errors import DataError

FIRST, MOST = 16, 10_000  # rows of the first slice and of the longest
SLICE_BYTES = 16_000_000  # that a slice should have in memory
LEAST = 2  # bytes that any row takes when it is read


def rows_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a parquet file with their numbers from 1. Raises DataError."""
    rows, names = _shape(path)
    if len(names) > COLUMNS:
        raise DataError("data_wide", path=path, count=len(names), limit=COLUMNS)
    if rows * LEAST > most_bytes(path):
        raise DataError("data_expands", path=path, size=path.stat().st_size, limit=most_bytes(path), rows=rows)
    start, length = 0, FIRST
    while start < rows:
        frame = _slice(path, start, length)
        if not frame.height:
            raise DataError("data_parquet", path=path, detail=f"{start} of {rows} rows")
        yield from enumerate(map(unpadded, frame.iter_rows(named=True, buffer_size=64)), start + 1)
        start += frame.height
        each = max(1, int(frame.estimated_size()) // frame.height)
        length = max(1, min(MOST, 4 * length, SLICE_BYTES // each))


def unpadded(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the nulls that a column of objects gets for the keys that other rows' objects have.

    A null that was meant cannot be told from them, but for `content`, which turns have.
    """
    return {name: _unpadded(value) for name, value in row.items()}


def _unpadded(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpadded(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    plain = {name: _unpadded(inner) for name, inner in value.items()}
    return {name: inner for name, inner in plain.items() if name == "content" or inner not in (None, {})}


def _shape(path: Path) -> tuple[int, list[str]]:
    try:
        scan = polars.scan_parquet(path, glob=False, hive_partitioning=False)
        return int(scan.select(polars.len()).collect().item()), scan.collect_schema().names()
    except (PolarsError, PanicException, OSError, RuntimeError) as error:
        raise DataError("data_parquet", path=path, detail=first_line(error)) from None


def _slice(path: Path, start: int, length: int) -> polars.DataFrame:
    try:
        return polars.scan_parquet(path, glob=False, hive_partitioning=False).slice(start, length).collect()
    except (PolarsError, PanicException, OSError, RuntimeError) as error:
        raise DataError("data_parquet", path=path, detail=first_line(error)) from None


def first_line(error: BaseException) -> str:
    """The first line of what an exception says."""
    return (str(error).strip().split("\n") or [""])[0][:200] or type(error).__name__
