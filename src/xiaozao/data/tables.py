"""Tables -> rows: csv through the csv module, parquet through polars in slices, xlsx through openpyxl read-only.

Cells are values, never formulas: what a cell says is data, and nothing here is executed.
"""

import csv
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import polars
from openpyxl.utils.exceptions import InvalidFileException
from polars.exceptions import PanicException, PolarsError

from xiaozao.data.encodings import LINE_LIMIT, Line, read_lines
from xiaozao.data.rows import Row, Rows
from xiaozao.errors import DataError, Problem

SLICE = 10_000  # rows of a parquet file in memory at a time
UNPACKED = 2_000_000_000  # bytes; a workbook that unpacks to more is a bomb or not for Excel's row limit
DELIMITERS = (",", "\t", ";")
DAMAGE = (InvalidFileException, zipfile.BadZipFile, zlib.error, SyntaxError, LookupError, ValueError, TypeError,
          AttributeError, NotImplementedError, RuntimeError, OSError, EOFError)  # fmt: skip


def read_csv(path: Path, encoding: str, limit: int = LINE_LIMIT) -> Rows:
    """The rows below the header line. The delimiter is the most frequent of comma, tab, semicolon in the header.

    A row with more or fewer cells than the header is a Problem; a quote that is never closed a DataError, because
    every row behind it would be misread.
    """
    feed = _Feed(read_lines(path, encoding, limit))
    delimiter = _delimiter(feed.peek())
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        line, offset = feed.start()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError("data_csv", path=path, line=line, detail=error) from None
        if cells is None:
            return
        if feed.problem is not None:
            yield feed.problem
        elif not any(cell.strip() for cell in cells):
            continue
        elif not names:
            names = _header(path, cells)
        elif len(cells) != len(names):
            yield Problem("row_columns", {"line": line, "offset": offset, "found": len(cells), "expected": len(names)})
        else:
            yield Row({name: cell for name, cell in zip(names, cells, strict=True) if name}, line, offset)


def read_parquet(path: Path) -> Rows:
    """The rows of a parquet file; `line` counts them from 1."""
    start = 0
    while True:
        try:
            frame = polars.scan_parquet(path, glob=False, hive_partitioning=False).slice(start, SLICE).collect()
        except (PolarsError, PanicException, OSError, RuntimeError) as error:
            raise DataError("data_parquet", path=path, detail=_first_line(error)) from None
        for index, values in enumerate(frame.iter_rows(named=True), start + 1):
            yield Row(values, index, 0)
        start += SLICE
        if frame.height < SLICE:
            return


def read_xlsx(path: Path) -> Rows:
    """The rows of a workbook's first sheet below its header row; `line` is Excel's row number.

    Numbers become text (1 and 1.0 read "1"), because a cell's kind is Excel's guess; dates stay dates.
    """
    _check_unpacked_size(path)
    names: list[str] = []
    for number, cells in _sheet_rows(path):
        if not any(cell is not None and str(cell).strip() for cell in cells):
            continue
        if not names:
            names = _header(path, ["" if cell is None else str(cell) for cell in cells])
            continue
        if any(cell is not None for cell in cells[len(names) :]):
            yield Problem("row_columns", {"line": number, "offset": 0, "found": len(cells), "expected": len(names)})
            continue
        values = {name: _cell(cell) for name, cell in zip(names, cells, strict=False) if name}
        yield Row({name: values.get(name) for name in names if name}, number, 0)


class _Feed:
    """Lines for the csv reader, which pulls exactly those of one record; remembers where the record began."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._next = next(lines, None)
        self.problem: Problem | None = None

    def peek(self) -> str:
        """The first line that says anything."""
        while self._next is not None and not self._next.text.strip() and self._next.problem is None:
            self._next = next(self._lines, None)
        return self._next.text if self._next is not None else ""

    def start(self) -> tuple[int, int]:
        """Line and byte offset of the record that comes next."""
        self.problem = None
        return (self._next.number, self._next.offset) if self._next is not None else (0, 0)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._next
        if line is None:
            raise StopIteration
        self.problem = self.problem or line.problem
        self._next = next(self._lines, None)
        return line.text.replace("\0", "\ufffd") + "\n"


def _delimiter(header: str) -> str:
    outside = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=outside.count)


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError("data_columns", path=path, names=", ".join(twice))
    return names


def _check_unpacked_size(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:  # opened before, to recognise it: it is a zip file
        size = sum(member.file_size for member in archive.infolist())
    if size > UNPACKED:
        raise DataError("data_workbook_size", path=path, size=size, limit=UNPACKED)


def _sheet_rows(path: Path) -> Iterator[tuple[int, Sequence[Any]]]:
    try:
        with path.open("rb") as file:  # a path would be judged by its suffix
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # openpyxl warns of styles it skips; we read values only
                book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheet = book.worksheets[0]
            sheet.reset_dimensions()
            yield from enumerate(sheet.iter_rows(values_only=True), 1)
    except DAMAGE as error:
        raise DataError("data_workbook", path=path, detail=_first_line(error)) from None


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str | datetime | date):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n") or [""])[0][:200] or type(error).__name__
