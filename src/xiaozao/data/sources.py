"""A file -> rows, one at a time: jsonl, json, csv, parquet, xlsx, txt, recognised by content and not by name.

open_source(path)   what the file is: kind and encoding; refuses what is none of them
read_rows(source)   Row or Problem, in the order of the file; memory does not grow with the file
"""

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import chain
from pathlib import Path

from xiaozao.data.encodings import BOMS, LINE_LIMIT, Line, read_lines, resolve_encoding
from xiaozao.data.messengers import json_messenger, read_json, read_text, text_messenger
from xiaozao.data.notes import Notes
from xiaozao.data.rows import Row, Rows
from xiaozao.data.strictjson import read_values, to_row
from xiaozao.data.wrapping import path_to_rows, row_inside
from xiaozao.errors import DataError, EnvironmentProblem, NotFound, Problem

__all__ = ["Row", "Rows", "Source", "open_source", "read_rows"]

HEAD = 65_536
BINARY = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"7z\xbc\xaf", "7z"),
    (b"Rar!", "rar"),
    (b"\x7fELF", "ELF program"),
    (b"MZ\x90", "Windows program"),
    (b"GGUF", "GGUF model"),
    (b"%PDF", "PDF"),
    (b"\xd0\xcf\x11\xe0", "old Excel or Word file (.xls, .doc)"),
    (b"SQLite format 3", "SQLite database"),
    (b"ARROW1", "Arrow file"),
    (b"\x89PNG", "image"),
    (b"\xff\xd8\xff", "image"),
)
PICKLE = re.compile(rb"\x80[\x02-\x05][\x95}\](c\x8c]")
OBJECT = re.compile(r"\{\s*[\"}]")
ARRAY = re.compile(r"\[\s*[{\]]")
TABLES = {"csv", "parquet", "xlsx"}
JSON_NAMES = {".json", ".jsonl", ".ndjson"}


@dataclass(frozen=True)
class Source:
    """A file that can be read. `encoding` is empty for parquet and xlsx.

    inside: the keys that lead to the rows of a json file. messenger: whose export a text is.
    """

    path: Path
    kind: str
    encoding: str
    size: int
    inside: tuple[str, ...] = ()
    messenger: str = ""


def open_source(path: Path, encoding: str = "auto") -> Source:
    """Recognise a file's kind and encoding.

    Raises NotFound, EnvironmentProblem (permission), DataError (empty, folder, not text).
    """
    try:
        if path.is_dir():
            raise DataError("data_folder", path=path)
        if not path.exists():
            raise NotFound("data_missing", path=path)
        if not path.is_file():
            raise DataError("data_not_a_file", path=path)
        with path.open("rb") as file:
            head = file.read(HEAD)
    except PermissionError:
        raise EnvironmentProblem("data_permission", path=path) from None
    except OSError as error:
        raise EnvironmentProblem("data_unreadable", path=path, detail=error.strerror or str(error)) from None
    size = path.stat().st_size
    if not head:
        raise DataError("data_empty", path=path)
    kind = _binary_kind(path, head)
    if kind:
        return Source(path, kind, "", size)
    text_encoding = resolve_encoding(path, encoding)
    text = (
        head.removeprefix(BOMS.get(text_encoding, b""))
        .decode(text_encoding, errors="ignore")
        .lstrip()
        .lstrip("\ufeff")
        .lstrip()
    )
    if not text and size <= HEAD:
        raise DataError("data_empty", path=path)
    kind, inside = _text_kind(path, text), _inside(text)
    messenger = text_messenger(text.split("\n")[:-1] if size > HEAD else text.split("\n")) if kind == "txt" else ""
    return Source(path, "json" if inside and kind == "jsonl" else kind, text_encoding, size, inside, messenger)


def read_rows(source: Source, limit: int = LINE_LIMIT, notes: Notes | None = None, chats: bool = True) -> Rows:
    """The rows of a file; in place of a row that cannot be read, its Problem. `limit`: the longest line in bytes.

    What the reader guesses or passes over is added to `notes`. With `chats`, a messenger's export gives its messages.
    """
    notes = notes or Notes()
    if source.kind in TABLES:
        return _read_table(source, limit, notes)
    if source.kind == "txt" and source.messenger and chats:
        notes.tell("note_messenger", name=source.messenger)
        return read_text(source.messenger, read_lines(source.path, source.encoding, limit))
    if source.kind == "txt":
        return _read_line_rows(source, limit)
    rows = _read_line_rows(source, limit)
    if source.kind == "json":
        values = read_values(source.path, source.encoding, limit, source.inside, notes)
        rows = map(_unwrapped, values) if source.inside else values
    return _messages(rows, notes) if chats else rows


def _messages(rows: Rows, notes: Notes) -> Rows:
    """The messages of a messenger's export in JSON; all other rows as they are."""
    first = next(rows, None)
    if first is None:
        return
    messenger = json_messenger(first.values) if isinstance(first, Row) else ""
    if messenger:
        notes.tell("note_messenger", name=messenger)
    for row in chain([first], rows):
        if messenger and isinstance(row, Row):
            yield from read_json(row)
        else:
            yield row


def _unwrapped(row: Row | Problem) -> Row | Problem:
    return replace(row, values=row_inside(row.values)) if isinstance(row, Row) else row


def _inside(text: str) -> tuple[str, ...]:
    """The keys that lead to the rows; () for objects one after another."""
    first, _, more = text.partition("\n")
    several = first.rstrip().endswith("}") and more.lstrip().startswith("{")
    return () if several or not text.startswith("{") else path_to_rows(text)


def _read_table(source: Source, limit: int, notes: Notes) -> Rows:
    """The rows of a table. The readers are imported here, because they take 30 MB that a run on JSON does not need."""
    read: Callable[..., Rows] = getattr(import_module("xiaozao.data.tables"), f"read_{source.kind}")
    return read(source.path, source.encoding, limit) if source.kind == "csv" else read(source.path)


def _read_line_rows(source: Source, limit: int) -> Rows:
    """jsonl: an object per line. txt: a text per line. Blank lines are no rows."""
    for line in read_lines(source.path, source.encoding, limit):
        if line.problem is not None:
            yield line.problem
        elif line.text.strip():
            yield _line_row(source.kind, line)


def _line_row(kind: str, line: Line) -> Row | Problem:
    if kind == "txt":
        return Row({"text": line.text}, line.number, line.offset)
    return to_row(line.text, line.number, line.offset)


def _binary_kind(path: Path, head: bytes) -> str:
    """The kind of a file by its first bytes: parquet, xlsx, or "" for text. Refuses archives, pickles and programs."""
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK\x03\x04"):
        if _is_workbook(path):
            return "xlsx"
        raise DataError("data_binary", path=path, kind="zip")
    for magic, kind in BINARY:
        if head.startswith(magic):
            raise DataError("data_binary", path=path, kind=kind)
    if PICKLE.match(head):
        raise DataError("data_binary", path=path, kind="pickle")
    return ""


def _is_workbook(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, LookupError):
        return False


def _text_kind(path: Path, text: str) -> str:
    suffix = path.suffix.lower()
    named_json = suffix in JSON_NAMES
    if text.startswith("[") and (named_json or ARRAY.match(text)):
        return "json" if suffix == ".json" or ARRAY.match(text) else "jsonl"
    if text.startswith("{") and (named_json or OBJECT.match(text)):
        return "json" if _is_spread_out(text) else "jsonl"
    if named_json:
        return "jsonl"
    if suffix in (".csv", ".tsv"):
        return "csv"
    return "txt"


def _is_spread_out(text: str) -> bool:
    """Whether an object spans several lines: the first line does not close it, and the second opens no new one."""
    lines = [line.strip() for line in text.split("\n", 40)[:40] if line.strip()]
    return len(lines) > 1 and not lines[0].endswith("}") and not lines[1].startswith("{")
