"""A file -> rows, one at a time: jsonl, json, csv, parquet, arrow, xlsx, txt, recognised by content and not by name.

open_source(path)   what the file is: kind and encoding; refuses what is none of them
read_rows(source)   Row or Problem, in the order of the file; memory does not grow with the file
"""

import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import chain
from pathlib import Path

from xiaozao.data.encodings import BOMS, LINE_LIMIT, Line, read_lines, resolve_encoding
from xiaozao.data.folders import Split, open_folder
from xiaozao.data.messengers import json_messenger, read_json, read_spoken, read_text, speakers_of, text_messenger
from xiaozao.data.notes import Notes
from xiaozao.data.rows import Row, Rows
from xiaozao.data.slack import lists_beside, names_beside, names_within
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
    (b"\x89PNG", "image"),
    (b"\xff\xd8\xff", "image"),
)
PICKLE = re.compile(rb"\x80[\x02-\x05][\x95}\](c\x8c]")
OBJECT = re.compile(r"\{\s*[\"}]")
ARRAY = re.compile(r"\[\s*[{\]]")
MARKUP = re.compile(
    r"<(?:!doctype html|html|head|body|table|meta|style|\?xml)\b|MIME-Version:|Content-Type: multipart/|\{\\rtf",
    re.IGNORECASE,
)
TABLES = {"csv", "parquet", "xlsx", "arrow"}
JSON_NAMES = {".json", ".jsonl", ".ndjson"}


@dataclass(frozen=True)
class Source:
    """A file that can be read. `encoding` is empty for parquet and xlsx.

    inside: the keys that lead to the rows of a json file. messenger: whose export a text is. speakers: who talks in a
    text that is a talk line by line. sheet: the sheet of a
    workbook that was named. split: the part of a saved data set, where the path is its folder.
    """

    path: Path
    kind: str
    encoding: str
    size: int
    inside: tuple[str, ...] = ()
    messenger: str = ""
    speakers: tuple[str, ...] = ()
    sheet: str = ""
    split: Split | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the rows."""
        return self.split.shards if self.split else (self.path,)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All files that what is read depends on: with the names of people that lie beside an export of Slack's."""
        return (*self.files, *(lists_beside(self.path) if self.kind in ("json", "jsonl") else ()))


def open_source(path: Path, encoding: str = "auto") -> Source:
    """Recognise a file's kind and encoding. FILE.xlsx#SHEET names a sheet of a workbook.

    Raises NotFound, EnvironmentProblem (permission), DataError (empty, folder, not text).
    """
    path, sheet = _sheet_of(path)
    try:
        if path.is_dir():
            split = open_folder(path)
            return Source(path, "arrow", "", sum(shard.stat().st_size for shard in split.shards), split=split)
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
    if sheet and kind != "xlsx":
        raise DataError("data_no_sheets", path=path, sheet=sheet)
    if kind:
        return Source(path, kind, "", size, sheet=sheet)
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
    if markup := MARKUP.match(text):
        kind = "SpreadsheetML" if "Workbook" in text[:2000] else "HTML" if "html" in text[:2000].lower() else markup[0]
        if path.suffix.lower() != ".txt":
            raise DataError("data_markup", path=path, kind=kind)
    kind, inside = _text_kind(path, text), _inside(text)
    lines = (text.split("\n")[:-1] if size > HEAD else text.split("\n")) if kind == "txt" else []
    messenger = text_messenger(lines)
    return Source(path, "json" if inside and kind == "jsonl" else kind, text_encoding, size, inside, messenger,
                  () if messenger else tuple(speakers_of(lines)))  # fmt: skip


def _sheet_of(path: Path) -> tuple[Path, str]:
    """`FILE.xlsx#SHEET` -> the file and the sheet, where no file has that whole name."""
    base, mark, sheet = path.name.rpartition("#")
    if not mark or not base or path.exists() or not path.with_name(base).exists():
        return path, ""
    return path.with_name(base), sheet


def read_rows(
    source: Source,
    limit: int = LINE_LIMIT,
    notes: Notes | None = None,
    chats: bool = True,
    spoken: bool = False,
    asked: Sequence[str] = (),
) -> Rows:
    """The rows of a file; in place of a row that cannot be read, its Problem. `limit`: the longest line in bytes.

    What the reader guesses or passes over is added to `notes`. With `chats`, a messenger's export gives its messages,
    and with `spoken` a talk line by line too. asked: the columns of a table that the user named.
    """
    notes = notes or Notes()
    if source.kind in TABLES:
        return _read_table(source, limit, notes, asked)
    if source.kind == "txt" and source.messenger and chats:
        notes.tell("note_messenger", name=source.messenger)
        return read_text(source.messenger, read_lines(source.path, source.encoding, limit), notes)
    if source.kind == "txt" and spoken:
        return read_spoken(read_lines(source.path, source.encoding, limit))
    if source.kind == "txt":
        if source.speakers:
            notes.tell("note_speakers", names=", ".join(source.speakers))
        return _read_line_rows(source, limit)
    return _messages(source, limit, notes) if chats else _json_rows(source, limit, notes)


def _json_rows(source: Source, limit: int, notes: Notes) -> Rows:
    rows = _read_line_rows(source, limit)
    if source.kind == "json":
        rows = read_values(source.path, source.encoding, limit, source.inside, notes)
    return map(_unwrapped, rows)


def _messages(source: Source, limit: int, notes: Notes) -> Rows:
    """The messages of a messenger's export in JSON; all other rows as they are."""
    rows = _json_rows(source, limit, notes)
    first = next(rows, None)
    if first is None:
        return
    messenger = json_messenger(first.values) if isinstance(first, Row) else ""
    if messenger:
        notes.tell("note_messenger", name=messenger)
    names = None
    if messenger == "Slack":  # read once more, because a message may name whoever speaks later only
        names = {**names_within(_json_rows(source, limit, Notes())), **names_beside(source.path)}
    for row in chain([first], rows):
        if messenger and isinstance(row, Row):
            yield from read_json(row, names, notes)
        else:
            yield row


def _unwrapped(row: Row | Problem) -> Row | Problem:
    if isinstance(row, Problem):
        return row
    inner = row_inside(row.values)
    return row if inner is row.values else replace(row, values=inner)


def _inside(text: str) -> tuple[str, ...]:
    """The keys that lead to the rows; () for objects one after another."""
    first, _, more = text.partition("\n")
    several = first.rstrip().endswith("}") and more.lstrip().startswith("{")
    return () if several or not text.startswith("{") else path_to_rows(text)


def _read_table(source: Source, limit: int, notes: Notes, asked: Sequence[str]) -> Rows:
    """The rows of a table. The readers are imported here, because they take 30 MB that a run on JSON does not need."""
    read: Callable[..., Rows] = getattr(import_module("xiaozao.data.tables"), f"read_{source.kind}")
    if source.kind == "csv":
        return read(source.path, source.encoding, limit, notes, asked)
    if source.split is not None:
        for name, rows in source.split.others:
            notes.tell("note_split", read=source.split.name, other=name, count=rows, path=source.path / name)
    if source.kind == "arrow":
        return read(source.files, notes)
    return read(source.path, notes, source.sheet, asked) if source.kind == "xlsx" else read(source.path, notes)


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
    if head.startswith(b"ARROW1") or (head.startswith(b"\xff\xff\xff\xff") and path.suffix.lower() == ".arrow"):
        return "arrow"
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
