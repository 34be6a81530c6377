"""xlsx -> rows, through openpyxl. Counted before openpyxl sees it: what is unpacked, rows, cells, one cell's text.

Cells are values, never formulas: what a cell says is data, and nothing here is executed. Run in a process of its own
(reading.py), because openpyxl holds all texts of a workbook at once.
"""

import re
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from xiaozao.data import cellkinds
from xiaozao.data.allowance import COLUMNS, most_bytes
from xiaozao.errors import DataError, Problem, XiaozaoError

CELLS = 20_000_000  # of all sheets, empty ones within a row too
ROWS = 1_048_576  # Excel's own limit
CELL_TEXT = 1_000_000  # characters; Excel's own limit is 32,767
ELEMENTS = 100_000_000
TAG = 1_000_000  # bytes without an end of a tag or text
CHUNK = 1 << 16
SHOWN, LISTED = 30, 400  # characters of a hidden column's name, and of all
MERGED = 100_000  # ranges of merged cells
COLUMN = re.compile(r"[A-Z]{1,4}")
RANGE = re.compile(r"([A-Z]{1,4})(\d{1,7}):([A-Z]{1,4})(\d{1,7})")
ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")  # how a workbook writes signs that XML cannot hold
ERRORS = {"#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!", "#GETTING_DATA", "#SPILL!", "#CALC!"}
DAMAGE = (InvalidFileException, zipfile.BadZipFile, zlib.error, SyntaxError, LookupError, ValueError, TypeError,
          AttributeError, NotImplementedError, RuntimeError, OSError, EOFError, expat.ExpatError, AssertionError,
          ArithmeticError)  # fmt: skip


def rows_of(path: Path, sheet: str = "") -> Iterator[tuple[int, Sequence[Any]] | Problem]:
    """The rows of a sheet with Excel's numbers of them, without empty ones. Without a name: the first sheet with any.

    Problems among them are notes on the workbook: sheets that are not read, cells whose values are missing. Raises
    DataError.
    """
    try:
        counter = _count(path)
        with path.open("rb") as file:  # a path would be judged by its suffix
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # openpyxl warns of styles it skips; we read values only
                book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            parts = {one.title: counter.parts.get(_part_of(one), _Part()) for one in book.worksheets}
            hidden = {one.title for one in book.worksheets if one.sheet_state != "visible"}
            title = _chosen(path, sheet, parts, hidden)
            if title in hidden and not sheet:
                yield Problem("note_sheet_hidden_read", {"read": title})
            for other, part in parts.items():
                if other != title and part.filled:
                    key = "note_sheet_hidden" if other in hidden else "note_sheet"
                    yield Problem(key, {"read": title, "sheet": other, "count": part.filled, "path": str(path)})
            part = parts[title]
            if part.unseen and part.unseen == part.filled:
                raise DataError("data_hidden", path=path, sheet=title, count=part.unseen)
            if part.unseen:
                key = "note_hidden_rows_filter" if part.filtered else "note_hidden_rows"
                yield Problem(key, {"count": part.unseen, "sheet": title})
            yield from _rows(book[title], part)
    except XiaozaoError:
        raise
    except DAMAGE as error:
        raise DataError("data_workbook", path=path, detail=f"{type(error).__name__}: {error}"[:200]) from None


def _part_of(sheet: Any) -> str:
    """The part of the archive in which a sheet stands."""
    return str(getattr(sheet, "_worksheet_path", "")).lstrip("/")


def _chosen(path: Path, asked: str, parts: Mapping[str, "_Part"], hidden: Collection[str]) -> str:
    """The title of the sheet that is read: a hidden one only if it was named, or if no other holds anything.

    Raises DataError for one that is not there.
    """
    if not asked:
        filled = [title for title, part in parts.items() if part.filled]
        return next((title for title in filled if title not in hidden), next(iter([*filled, *parts])))
    alike = [title for title in parts if title == asked] or [
        title for title in parts if title.strip().lower() == asked.strip().lower()
    ]
    if not alike:
        raise DataError("data_sheet", path=path, sheet=asked, sheets=", ".join(parts))
    return alike[0]


def _rows(sheet: Any, part: "_Part") -> Iterator[tuple[int, Sequence[Any]] | Problem]:
    """The rows of a sheet with values instead of what Excel puts in their place, and the notes on them."""
    sheet.reset_dimensions()
    merged, errors, filled = _Merged(part.merged), 0, 0
    unseen: dict[int, str] = {}  # what stands first in columns that are hidden
    for number, raw in enumerate(sheet.iter_rows(values_only=True), 1):
        cells = [_plain(cell) for cell in raw]
        if number in part.hidden_rows:
            merged.fill(number, cells)
            continue
        errors += sum(isinstance(cell, str) and cell in ERRORS for cell in raw)
        for column in part.hidden_columns(len(cells)):
            if cells[column] is not None:
                unseen.setdefault(column, str(cells[column]))
            cells[column] = None
        if not any(cell is not None for cell in cells):
            continue
        filled += merged.fill(number, cells)
        yield number, cells
    if unseen:
        names = ", ".join(f"{cellkinds.letter(column)} ({name[:SHOWN]})" for column, name in sorted(unseen.items()))
        yield Problem("note_hidden_columns", {"count": len(unseen), "columns": names[:LISTED]})
    if part.uncomputed:
        yield Problem("note_formulas", {"count": part.uncomputed})
    if errors:
        yield Problem("note_cell_errors", {"count": errors})
    if filled:
        yield Problem("note_merged", {"count": filled})


def _plain(cell: Any) -> Any:
    """A cell with the line breaks that it means; None for one that holds only Excel's name of an error."""
    if not isinstance(cell, str):
        return cell
    if cell in ERRORS:
        return None
    text = ESCAPED.sub(_unescaped, cell) if "_x" in cell else cell
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _unescaped(match: re.Match[str]) -> str:
    """_x000D_ -> a line break, _x0009_ -> a tab; other control characters are nothing that is read."""
    character = chr(int(match[1], 16))
    if character in "\n\r\t":
        return character
    return (
        "\n" if character in "\x0b\x0c" else "" if character < " " or 0xD800 <= ord(character) <= 0xDFFF else character
    )


class _Merged:
    """Cells that are merged over several rows: each row gets the value that stands in the first."""

    def __init__(self, ranges: Sequence[str]) -> None:
        self._ends: dict[int, tuple[int, Any]] = {}
        self._starts: dict[int, list[tuple[int, int]]] = {}
        for name in ranges:
            corners = RANGE.fullmatch(name)
            if corners and int(corners[4]) > int(corners[2]) and corners[1] == corners[3]:
                self._starts.setdefault(int(corners[2]), []).append((_column(corners[1]) - 1, int(corners[4])))

    def fill(self, number: int, cells: list[Any]) -> int:
        """Fill the cells of a row that are covered by a merged one; their count."""
        filled = 0
        for column, (end, value) in list(self._ends.items()):
            if number > end:
                del self._ends[column]
            elif column < len(cells) and cells[column] is None:
                cells[column] = value
                filled += 1
        for column, end in self._starts.get(number, ()):
            if column < len(cells) and cells[column] is not None:
                self._ends[column] = (end, cells[column])
        return filled


def _count(path: Path) -> "_Counter":
    """Count what the parts of a workbook hold. Memory does not grow with what is unpacked.

    Raises DataError where a part is beyond a limit.
    """
    size, limit = path.stat().st_size, most_bytes(path)
    counter = _Counter(path)
    unpacked = 0
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith((".xml", ".rels")):
                continue
            parser = counter.parser(member.filename)
            with archive.open(member) as part:
                fed = 0
                while chunk := part.read(CHUNK):
                    fed += len(chunk)
                    unpacked += len(chunk)
                    if unpacked > limit:
                        raise DataError("data_workbook_size", path=path, size=size, limit=limit)
                    parser.Parse(chunk, False)
                    if fed - max(parser.CurrentByteIndex, 0) > TAG:
                        raise _beyond(path, "tag", fed, TAG)
                parser.Parse(b"", True)
    return counter


@dataclass
class _Part:
    """One sheet: how many rows hold anything, formulas whose value is not stored, and merged ranges.

    unseen: how many of the rows that hold anything are hidden; filtered: whether by a filter. columns: the first and
    the last of columns that are hidden, from 1.
    """

    filled: int = 0
    uncomputed: int = 0
    merged: list[str] = field(default_factory=list)
    unseen: int = 0
    filtered: bool = False
    hidden_rows: set[int] = field(default_factory=set)
    columns: list[tuple[int, int]] = field(default_factory=list)

    def hidden_columns(self, width: int) -> Iterator[int]:
        """The places of the columns that are hidden, within a width."""
        for first, last in self.columns:
            yield from range(max(first, 1) - 1, min(last, width))


class _Counter:
    """Counts what the parts of a workbook hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.elements = self.cells = self.row = self.column = self.text = 0
        self.parts: dict[str, _Part] = {}
        self.part = _Part()
        self.formula = self.value = self.in_value = self.holds = False

    def parser(self, name: str) -> expat.XMLParserType:
        parser = expat.ParserCreate()
        parser.buffer_text = False
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        self.part = self.parts.setdefault(name, _Part())
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        self.row = self.column = self.text = 0
        return parser

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        self._check("elements", self.elements, ELEMENTS)
        name = name.rpartition(":")[2]
        if name == "row":
            number = attributes.get("r", "")
            self.row = int(number) if number.isdecimal() and len(number) < 12 else self.row + 1
            self.column = 0
            self.holds = False
            self._check("rows", self.row, ROWS)
            if _is_hidden(attributes, "ht"):
                self.part.hidden_rows.add(self.row)
        elif name == "c":
            self.text = 0
            self.formula = self.value = False
            column = _column(attributes.get("r", "")) or self.column + 1
            self._check("columns", column, COLUMNS)
            self.cells += max(0, column - self.column)
            self.column = max(self.column, column)
            self._check("cells", self.cells, CELLS)
        elif name == "si":
            self.text = 0
        elif name == "f":
            self.formula = True
        elif name in ("v", "is"):
            self.in_value = True
        elif name == "col" and _is_hidden(attributes, "width") and len(self.part.columns) < COLUMNS:
            first, last = attributes.get("min", ""), attributes.get("max", "")
            if first.isdecimal() and last.isdecimal() and len(first) < 6 and len(last) < 6:
                self.part.columns.append((int(first), int(last)))
        elif name == "filterColumn":
            self.part.filtered = True
        elif name == "mergeCell" and len(self.part.merged) < MERGED:
            self.part.merged.append(attributes.get("ref", ""))

    def _end(self, name: str) -> None:
        name = name.rpartition(":")[2]
        if name in ("v", "is"):
            self.in_value = False
        elif name == "c":
            self.holds = self.holds or self.value
            self.part.uncomputed += self.formula and not self.value
        elif name == "row":
            self.part.filled += self.holds
            self.part.unseen += self.holds and self.row in self.part.hidden_rows

    def _characters(self, text: str) -> None:
        self.value = self.value or (self.in_value and bool(text.strip()))
        self.text += len(text)
        self._check("cell", self.text, CELL_TEXT)

    def _doctype(self, *_: object) -> None:
        raise DataError("data_workbook", path=self.path, detail="<!DOCTYPE>")

    def _check(self, what: str, count: int, limit: int) -> None:
        if count > limit:
            raise _beyond(self.path, what, count, limit)


def _is_hidden(attributes: Mapping[str, str], size: str) -> bool:
    """Whether a row or a column is not seen: marked as hidden, or of no size."""
    return attributes.get("hidden") in ("1", "true") or attributes.get(size) in ("0", "0.0")


def _beyond(path: Path, what: str, count: int, limit: int) -> DataError:
    return DataError("data_workbook_part", [Problem(f"workbook_{what}", {"count": count, "limit": limit})], path=path)


def _column(place: str) -> int:
    """`AB12` -> 28; 0 where there is no such place."""
    letters = COLUMN.match(place)
    number = 0
    for letter in letters[0] if letters else "":
        number = 26 * number + ord(letter) - 64
    return number
