"""Tables -> rows: csv through the csv module, parquet and xlsx through a process of its own (reading.py).

Cells are values, never formulas: what a cell says is data, and nothing here is executed.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from xiaozao.data.allowance import COLUMNS, MARK
from xiaozao.data.encodings import LINE_LIMIT, Line, read_lines
from xiaozao.data.rows import Row, Rows
from xiaozao.errors import DataError, Problem
from xiaozao.machine.apart import MEMORY, SECONDS, Lost, ask

READING = "xiaozao.data.reading"
DELIMITERS = (",", "\t", ";", "|")
SEPARATOR = re.compile(r'"?sep=(\\t|.)"?[,;\t ]*', re.IGNORECASE)  # Excel's own first line
KINDS: dict[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat, "date": date.fromisoformat, "time": time.fromisoformat, "decimal": Decimal,
    "timedelta": lambda text: timedelta(seconds=float(text)), "bytes": bytes.fromhex,
}  # fmt: skip
csv.field_size_limit(LINE_LIMIT)  # of the whole module, which has no other way


def read_csv(path: Path, encoding: str, limit: int = LINE_LIMIT) -> Rows:
    """The rows below the header line. The delimiter is the most frequent of comma, tab, semicolon in the header.

    A row with more or fewer cells than the header is a Problem. A quote that is never closed is a DataError, because
    every row after it would be misread.
    """
    feed = _Feed(read_lines(path, encoding, limit))
    separator = SEPARATOR.fullmatch(feed.peek())
    if separator:
        next(feed)
    delimiter = separator[1].replace("\\t", "\t") if separator else _delimiter(feed.peek())
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        line, offset = feed.start()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "field larger" in str(error):
                raise DataError("data_csv_cell", path=path, line=line, limit=LINE_LIMIT) from None
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
    for number, values in _read_apart("parquet", path):
        yield Row(values, number, 0)


def read_xlsx(path: Path) -> Rows:
    """The rows of a workbook's first sheet below its header row; `line` is Excel's row number.

    Numbers become text (1 and 1.0 read "1"), because a cell's kind is Excel's guess; dates stay dates.
    """
    names: list[str] = []
    for number, cells in _read_apart("xlsx", path):
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


def _read_apart(kind: str, path: Path) -> Iterator[tuple[int, Any]]:
    """The rows of a file with their numbers, read in a process of its own. Raises DataError."""
    refused: DataError | None = None
    try:
        for answer in ask(READING, {"kind": kind, "path": str(path)}, _value):
            if "error" in answer:  # raised when all is heard, so that the process can be asked again
                problems = [Problem(key, params) for key, params in answer["problems"]]
                refused = DataError(answer["error"], problems, **answer["params"])
            yield from answer.get("rows", ())
    except Lost as lost:
        key = "data_silent" if lost.why == "silent" else "data_lost"
        memory = f"{MEMORY / 1e9:.0f} GB"
        raise DataError(key, path=path, detail=lost.last, memory=memory, seconds=int(SECONDS)) from None
    if refused is not None:
        raise refused


def _value(read: dict[str, Any]) -> Any:
    """The value of a type that JSON lacks, as reading.py encoded it."""
    if len(read) != 1 or MARK not in read:
        return read
    kind, text = read[MARK]
    return KINDS[kind](text)


class _Feed:
    """Feeds lines to the csv reader, which takes exactly those of one record, and remembers where the record began."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._next = next(lines, None)
        self.problem: Problem | None = None

    def peek(self) -> str:
        """The first line that is not blank; reading begins there."""
        while self._next is not None and not self._next.text.strip() and self._next.problem is None:
            self._next = next(self._lines, None)
        return self._next.text if self._next is not None else ""

    def start(self) -> tuple[int, int]:
        """The line number and byte offset of the next record."""
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
    if len(cells) > COLUMNS:
        raise DataError("data_wide", path=path, count=len(cells), limit=COLUMNS)
    names = [cell.strip() for cell in cells]
    twice = sorted(name for name, count in Counter(names).items() if name and count > 1)
    if twice:
        raise DataError("data_columns", path=path, names=", ".join(twice))
    return names


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str | datetime | date):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
