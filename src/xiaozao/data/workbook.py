"""xlsx -> rows, through openpyxl. Counted before openpyxl sees it: what is unpacked, rows, cells, one cell's text.

Cells are values, never formulas: what a cell says is data, and nothing here is executed. Run in a process of its own
(reading.py), because openpyxl holds all texts of a workbook at once.
"""

import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from xiaozao.data.allowance import COLUMNS, most_bytes
from xiaozao.errors import DataError, Problem, XiaozaoError

CELLS = 20_000_000  # of all sheets, empty ones within a row too
ROWS = 1_048_576  # Excel's own limit
CELL_TEXT = 1_000_000  # characters; Excel's own limit is 32,767
ELEMENTS = 100_000_000
TAG = 1_000_000  # bytes without an end of a tag or text
CHUNK = 1 << 16
COLUMN = re.compile(r"[A-Z]{1,4}")
DAMAGE = (InvalidFileException, zipfile.BadZipFile, zlib.error, SyntaxError, LookupError, ValueError, TypeError,
          AttributeError, NotImplementedError, RuntimeError, OSError, EOFError, expat.ExpatError, AssertionError,
          ArithmeticError)  # fmt: skip


def rows_of(path: Path) -> Iterator[tuple[int, Sequence[Any]]]:
    """The rows of a workbook's first sheet with Excel's numbers of them; empty ones are left out. Raises DataError."""
    try:
        _count(path)
        with path.open("rb") as file:  # a path would be judged by its suffix
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # openpyxl warns of styles it skips; we read values only
                book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheet = book.worksheets[0]
            sheet.reset_dimensions()
            for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
                if any(cell is not None for cell in cells):
                    yield number, cells
    except XiaozaoError:
        raise
    except DAMAGE as error:
        raise DataError("data_workbook", path=path, detail=f"{type(error).__name__}: {error}"[:200]) from None


def _count(path: Path) -> None:
    """Raise DataError where a part of the workbook is beyond a limit. Memory does not grow with what is unpacked."""
    size, limit = path.stat().st_size, most_bytes(path)
    counter = _Counter(path)
    unpacked = 0
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith((".xml", ".rels")):
                continue
            parser = counter.parser()
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


class _Counter:
    """Counts what the parts of a workbook hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.elements = self.cells = self.row = self.column = self.text = 0

    def parser(self) -> expat.XMLParserType:
        parser = expat.ParserCreate()
        parser.buffer_text = False
        parser.StartElementHandler = self._start
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
            self._check("rows", self.row, ROWS)
        elif name == "c":
            self.text = 0
            column = _column(attributes.get("r", "")) or self.column + 1
            self._check("columns", column, COLUMNS)
            self.cells += max(0, column - self.column)
            self.column = max(self.column, column)
            self._check("cells", self.cells, CELLS)
        elif name == "si":
            self.text = 0

    def _characters(self, text: str) -> None:
        self.text += len(text)
        self._check("cell", self.text, CELL_TEXT)

    def _doctype(self, *_: object) -> None:
        raise DataError("data_workbook", path=self.path, detail="<!DOCTYPE>")

    def _check(self, what: str, count: int, limit: int) -> None:
        if count > limit:
            raise _beyond(self.path, what, count, limit)


def _beyond(path: Path, what: str, count: int, limit: int) -> DataError:
    return DataError("data_workbook_part", [Problem(f"workbook_{what}", {"count": count, "limit": limit})], path=path)


def _column(place: str) -> int:
    """`AB12` -> 28; 0 where there is no such place."""
    letters = COLUMN.match(place)
    number = 0
    for letter in letters[0] if letters else "":
        number = 26 * number + ord(letter) - 64
    return number
