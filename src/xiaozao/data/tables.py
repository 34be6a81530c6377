"""Tables -> rows: csv through the csv module, parquet and xlsx through a process of its own (reading.py).

Cells are values, never formulas: what a cell says is data, and nothing here is executed.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import Any

from xiaozao.data.allowance import COLUMNS, MARK
from xiaozao.data.encodings import LINE_LIMIT, Line, read_lines
from xiaozao.data.headers import LOOKED_AT, header_place
from xiaozao.data.notes import Notes
from xiaozao.data.rows import Row, Rows
from xiaozao.errors import DataError, Problem
from xiaozao.machine.apart import MEMORY, SECONDS, Lost, ask

READING = "xiaozao.data.reading"
BREAK = re.compile("_x000[dD]_\n?|_x000[aA]_")
DELIMITERS = (",", "\t", ";", "|")
SEPARATOR = re.compile(r'"?sep=(\\t|.)"?[,;\t ]*', re.IGNORECASE)  # Excel's own first line
KINDS: dict[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat, "date": date.fromisoformat, "time": time.fromisoformat, "decimal": Decimal,
    "timedelta": lambda text: timedelta(seconds=float(text)), "bytes": bytes.fromhex,
}  # fmt: skip
csv.field_size_limit(LINE_LIMIT)  # of the whole module, which has no other way


def read_csv(path: Path, encoding: str, limit: int = LINE_LIMIT, notes: Notes | None = None) -> Rows:
    """The rows below the header line. The delimiter is the most frequent of comma, tab, semicolon, bar in the header.

    A row with more or fewer cells than the header is a Problem. A quote that is never closed is a DataError, because
    every row after it would be misread.
    """
    notes, records = notes or Notes(), _records(path, _Feed(read_lines(path, encoding, limit)))
    first = list(islice(records, LOOKED_AT))
    whole = [record for record in first if not isinstance(record, Problem)]
    header = header_place([cells for _, _, cells in whole])
    names = _header(path, whole[header][2]) if whole else []
    _note_titles(notes, [cells for _, _, cells in whole[:header]])
    above = {line for line, _, _ in whole[: header + 1]}
    for record in chain(first, records):
        if isinstance(record, Problem):
            yield record
            continue
        line, offset, cells = record
        if line in above:
            continue
        if [cell.strip() for cell in cells] == names:
            notes.count("note_header_again", line)
        elif len(cells) != len(names):
            yield Problem("row_columns", {"line": line, "offset": offset, "found": len(cells), "expected": len(names)})
        else:
            _note_nameless(notes, names, cells, line)
            yield Row({name: _broken(cell) for name, cell in zip(names, cells, strict=True) if name}, line, offset)


def _records(path: Path, feed: "_Feed") -> Iterator[tuple[int, int, list[str]] | Problem]:
    """The records of a csv file that hold anything, with the line and the byte at which each begins."""
    separator = SEPARATOR.fullmatch(feed.peek())
    if separator:
        next(feed)
    delimiter = separator[1].replace("\\t", "\t") if separator else feed.delimiter()
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
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
        elif any(cell.strip() for cell in cells):
            yield line, offset, cells


def _broken(cell: str) -> str:
    """A cell with the line breaks that Excel's files write as _x000D_."""
    return BREAK.sub("\n", cell) if "_x000" in cell else cell


def _note_titles(notes: Notes, rows: Sequence[Sequence[Any]]) -> None:
    if rows:
        titles = [str(cell).strip() for cells in rows for cell in cells if cell is not None and str(cell).strip()]
        notes.tell("note_titles", count=len(rows), text=" | ".join(titles)[:80])


def _note_nameless(notes: Notes, names: Sequence[str], cells: Sequence[Any], line: int) -> None:
    """Note cells in columns without a name, which are not read."""
    if "" in names and any(not name and cell not in (None, "") for name, cell in zip(names, cells, strict=False)):
        notes.count("note_nameless", line)


def read_parquet(path: Path, notes: Notes | None = None) -> Rows:
    """The rows of a parquet file; `line` counts them from 1."""
    for number, values in _read_apart("parquet", path, notes or Notes()):
        yield Row(values, number, 0)


def read_arrow(paths: Sequence[Path], notes: Notes | None = None) -> Rows:
    """The rows of Arrow files, one after the other; `line` counts them from 1 over all files."""
    rows = (values for path in paths for _, values in _read_apart("arrow", path, notes or Notes()))
    for number, values in enumerate(rows, 1):
        yield Row(values, number, 0)


def read_xlsx(path: Path, notes: Notes | None = None, sheet: str = "") -> Rows:
    """The rows of a workbook's sheet, by default the first, below its header row; `line` is Excel's row number.

    Numbers become text (1 and 1.0 read "1"), because a cell's kind is Excel's guess; dates stay dates.
    """
    notes = notes or Notes()
    rows = (row for row in _read_apart("xlsx", path, notes, sheet) if any(map(_is_filled, row[1])))
    first = list(islice(rows, LOOKED_AT))
    header = header_place([cells for _, cells in first])
    names = _header(path, ["" if cell is None else str(cell) for cell in first[header][1]]) if first else []
    while names and not names[-1]:
        names.pop()
    _note_titles(notes, [cells for _, cells in first[:header]])
    for number, cells in chain(first[header + 1 :], rows):
        if [str(cell).strip() for cell in cells if cell is not None] == [name for name in names if name]:
            notes.count("note_header_again", number)
            continue
        if any(cell is not None for cell in cells[len(names) :]):
            yield Problem("row_columns", {"line": number, "offset": 0, "found": len(cells), "expected": len(names)})
            continue
        _note_nameless(notes, names, cells, number)
        values = {name: _cell(cell) for name, cell in zip(names, cells, strict=False) if name}
        yield Row({name: values.get(name) for name in names if name}, number, 0)


def _is_filled(cell: Any) -> bool:
    return cell is not None and bool(str(cell).strip())


def _read_apart(kind: str, path: Path, notes: Notes, *arguments: str) -> Iterator[tuple[int, Any]]:
    """The rows of a file with their numbers, read in a process of its own. Raises DataError."""
    refused: DataError | None = None
    question = {"kind": kind, "path": str(path), "arguments": arguments}
    try:
        for answer in ask(READING, question, _value):
            if "error" in answer:  # raised when all is heard, so that the process can be asked again
                problems = [Problem(key, params) for key, params in answer["problems"]]
                refused = DataError(answer["error"], problems, **answer["params"])
            if "note" in answer:
                key, params = answer["note"]
                notes.tell(key, **params)
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

    def delimiter(self) -> str:
        """The delimiter of the first line that holds one: titles above the header hold none."""
        ahead = [line for line in (self._next, *islice(self._lines, LOOKED_AT)) if line is not None]
        self._lines = chain(ahead[1:], self._lines)
        header = next((line.text for line in ahead if any(sign in line.text for sign in DELIMITERS)), "")
        return _delimiter(header)

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
