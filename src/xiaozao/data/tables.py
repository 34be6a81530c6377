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
from xiaozao.data.cellkinds import letter
from xiaozao.data.encodings import LINE_LIMIT, Line, read_lines
from xiaozao.data.headers import COMPARED, LOOKED_AT, Heading, heading, is_header_row
from xiaozao.data.notes import Notes
from xiaozao.data.rows import Row, Rows
from xiaozao.errors import DataError, Problem
from xiaozao.machine.apart import MEMORY, SECONDS, Lost, ask

READING = "xiaozao.data.reading"
SHOWN = 30  # characters of a column's first cell in a message
BREAK = re.compile("_x000[dD]_\n?|_x000[aA]_")
DELIMITERS = (",", "\t", ";", "|")
NONE = "\x1f"  # which no text holds
FEW = 3  # lines, from which nothing can be said
SEPARATOR = re.compile(r'"?sep=(\\t|.)"?[,;\t ]*', re.IGNORECASE)  # Excel's own first line
KINDS: dict[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat, "date": date.fromisoformat, "time": time.fromisoformat, "decimal": Decimal,
    "timedelta": lambda text: timedelta(seconds=float(text)), "bytes": bytes.fromhex,
}  # fmt: skip
csv.field_size_limit(LINE_LIMIT)  # of the whole module, which has no other way


def read_csv(
    path: Path, encoding: str, limit: int = LINE_LIMIT, notes: Notes | None = None, asked: Sequence[str] = ()
) -> Rows:
    """The rows below the header, or all where there is none (headers.py). asked: the columns that the user named.

    A row with more or fewer cells than the header is a Problem. A quote that is never closed is a DataError, because
    every row after it would be misread.
    """
    notes, records = notes or Notes(), _records(path, _Feed(read_lines(path, encoding, limit)))
    first = list(islice(records, COMPARED))
    whole = [record for record in first if not isinstance(record, Problem)]
    rows = [cells for _, _, cells in whole]
    head = _heading(path, rows, asked)
    names = head.names
    _note_heading(notes, head, rows, [line for line, _, _ in whole])
    above = {line for line, _, _ in whole[: head.begin]}
    for record in chain(first, records):
        if isinstance(record, Problem):
            yield record
            continue
        line, offset, cells = record
        if line in above:
            continue
        if _is_header_again(head, rows, cells):
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


def _is_header_again(head: Heading, rows: Sequence[Sequence[Any]], cells: Sequence[Any]) -> bool:
    """Whether a row is the header once more."""
    if head.bare or not rows:
        return is_header_row(cells)
    return _texts(cells) in (_texts(rows[head.begin - 1]), _texts(head.names))


def _texts(cells: Sequence[Any]) -> list[str]:
    texts = ["" if cell is None else str(cell).strip() for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def _note_heading(notes: Notes, head: Heading, rows: Sequence[Sequence[Any]], lines: Sequence[int]) -> None:
    """Note what was passed over above the rows, and how the columns got their names."""
    titles = [text for place in head.titles for text in _texts(rows[place]) if text]
    if titles:
        notes.tell("note_titles", count=len(head.titles), text=" | ".join(titles)[:80])
    if head.upper >= 0:
        names = " | ".join(name for name in head.names if name)[:200]
        notes.tell("note_two_headers", line=lines[head.upper], names=names)
    if head.bare:
        mapped = ", ".join(f"{head.roles[place]}={letter(place)}" for place in sorted(head.roles))
        key = "note_no_header_mapped" if mapped and not head.lettered else "note_no_header"
        notes.tell(key, line=lines[head.begin], **({"columns": mapped.replace(" ", "")} if mapped else {}))
    elif head.lettered:
        notes.tell("note_letters", line=lines[head.begin - 1])
    shown = _texts(rows[head.begin] if head.bare else head.names) if rows else []
    notes.columns = {letter(place): text[:SHOWN] for place, text in enumerate(shown)}


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


def read_xlsx(path: Path, notes: Notes | None = None, sheet: str = "", asked: Sequence[str] = ()) -> Rows:
    """The rows of a workbook's sheet, by default the first, below its header; `line` is Excel's row number.

    Numbers become text (1 and 1.0 read "1"), because a cell's kind is Excel's guess; dates stay dates. asked: the
    columns that the user named.
    """
    notes = notes or Notes()
    read = (row for row in _read_apart("xlsx", path, notes, sheet) if any(map(_is_filled, row[1])))
    first = list(islice(read, COMPARED))
    rows = _narrowed([cells for _, cells in first])
    head = _heading(path, rows, asked)
    names = list(head.names)
    while names and not names[-1]:
        names.pop()
    _note_heading(notes, head, rows, [number for number, _ in first])
    for number, cells in chain(first[head.begin :], read):
        if _is_header_again(head, rows, cells):
            notes.count("note_header_again", number)
            continue
        if any(cell is not None for cell in cells[len(names) :]):
            yield Problem("row_columns", {"line": number, "offset": 0, "found": len(cells), "expected": len(names)})
            continue
        _note_nameless(notes, names, cells, number)
        values = {name: _cell(cell) for name, cell in zip(names, cells, strict=False) if name}
        yield Row({name: values.get(name) for name in names if name}, number, 0)


def _narrowed(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """The rows without the empty columns on the right, which sheets are wide with."""
    width = max((len(_texts(cells)) for cells in rows), default=0)
    return [[*cells[:width], *[None] * (width - len(cells))] for cells in rows]


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
        return _delimiter([line.text for line in ahead if line.text.strip()])

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


def _delimiter(texts: Sequence[str]) -> str:
    """The most frequent sign of the first line that holds any; NONE where only some sentences hold it.

    Another sign goes before it that divides every line alike, where this one does not, or stands in prose alone.
    """
    lines = ["".join(text.split('"')[::2]) for text in texts if any(sign in text for sign in DELIMITERS)]
    if not lines:
        return DELIMITERS[0]
    best = max(DELIMITERS, key=lines[0].count)
    even = [sign for sign in DELIMITERS if lines[0].count(sign) and len({text.count(sign) for text in lines}) == 1]
    in_prose = best == "," and all(text.count(",") == text.count(", ") for text in lines)
    others = [sign for sign in even if sign != best]
    if others and (best not in even or in_prose):
        return others[0]
    tail = texts[next(place for place, text in enumerate(texts) if any(sign in text for sign in DELIMITERS)) :]
    rare = sum(best in text for text in tail) * 2 <= len(tail) and (len(tail) < len(texts) or len(tail) > FEW)
    return NONE if rare and not any('"' in text for text in texts) else best


def _heading(path: Path, rows: Sequence[Sequence[Any]], asked: Sequence[str]) -> Heading:
    """The heading of a table of bearable width, if its names can be told apart. Raises DataError."""
    width = max(map(len, rows), default=0)
    if width > COLUMNS:
        raise DataError("data_wide", path=path, count=width, limit=COLUMNS)
    head = heading(rows, asked)
    twice = sorted(name for name, count in Counter(head.names).items() if name and count > 1)
    if twice:
        raise DataError("data_columns", path=path, names=", ".join(twice))
    return head


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str | datetime | date):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
