"""Bytes -> lines of text, in bounded memory: encoding, byte order mark, and lines that never end.

Records end at \\n or \\r\\n and nowhere else: U+2028 and U+0085 inside a string are text, though `str.splitlines` would
cut there. A line that cannot be decoded or is longer than the limit carries its problem, and reading goes on behind it.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xiaozao.data.detection import detect
from xiaozao.data.sevenbit import seven_bit
from xiaozao.errors import DataError, Problem

LINE_LIMIT = 32_000_000  # bytes; longer than any sample that could be trained, short enough to hold in memory
CHUNK = 1 << 20
BOMS = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
NEWLINES = {"utf-16-le": b"\n\0", "utf-16-be": b"\0\n"}


@dataclass(frozen=True)
class Line:
    """One line without its end. `problem` is set where `text` is not what the file says."""

    text: str
    number: int
    offset: int
    problem: Problem | None = None


def resolve_encoding(path: Path, asked: str) -> str:
    """The encoding of a text file by its name in Python. `asked` is an option's value or "auto".

    A byte order mark decides; then what was asked for; then NUL bytes (UTF-16), then whether the text is UTF-8 or, if
    not, which encoding makes it likely text (detection.py). What is none of them is read as UTF-8, so that each bad
    line is named.
    """
    with path.open("rb") as file:
        head = file.read(CHUNK)
        if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
            raise DataError("data_utf32", path=path)
        for name, mark in BOMS.items():
            if head.startswith(mark):
                return name
        if asked.startswith("utf-32"):
            raise DataError("data_utf32", path=path)
        if asked != "auto":
            return "utf-16-le" if asked == "utf-16" else asked
        if wide := _utf16_without_mark(head):
            return wide
        if head.isascii() and (seven := seven_bit(head)):
            if seven == "utf-7":
                raise DataError("data_utf7", path=path)
            return seven
        while head.isascii() and (more := file.read(CHUNK)):
            head = more
    return _legacy(head)


def _legacy(head: bytes) -> str:
    """The encoding of bytes without a mark. One broken byte must not turn UTF-8 into something else, so lines vote."""
    lines = [line for line in head.split(b"\n") if not line.isascii()]
    strange = [line for line in lines if not _decodes(line, "utf-8")]
    if len(strange) * 2 <= len(lines):
        return "utf-8"
    reading = detect(strange)
    return reading.encoding if reading is not None else "utf-8"


def read_lines(path: Path, encoding: str, limit: int = LINE_LIMIT) -> Iterator[Line]:
    """The lines of a file, one at a time. `limit` is the longest line in bytes."""
    with path.open("rb") as file:
        mark = BOMS.get(encoding, b"")
        offset = len(mark) if mark and file.read(len(mark)) == mark else 0
        file.seek(offset)
        number = 0
        while raw := _read_line(file, encoding, limit):
            number += 1
            if len(raw) > limit:
                yield Line("", number, offset, _too_long(number, offset, limit))
                _skip_line(file, raw, encoding)
            else:
                yield _decode(raw, encoding, number, offset)
            offset = file.tell()


def _decode(raw: bytes, encoding: str, number: int, offset: int) -> Line:
    problem = None
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        where = offset + error.start
        problem = Problem("row_encoding", {"line": number, "offset": where, "encoding": encoding.upper()})
        text = raw.decode(encoding, errors="replace")
    text = text.removesuffix("\n").removesuffix("\r").lstrip("\ufeff")  # left by files that were put together
    if problem is None and "\0" in text:
        problem = Problem("row_nul", {"line": number, "offset": offset})
    return Line(text, number, offset, problem)


def _too_long(number: int, offset: int, limit: int) -> Problem:
    return Problem("row_line_too_long", {"line": number, "offset": offset, "limit": limit})


def _read_line(file: BinaryIO, encoding: str, limit: int) -> bytes:
    """At most limit + 2 bytes up to and with the newline. In UTF-16 a newline is a code unit, not a byte."""
    newline = NEWLINES.get(encoding)
    if newline is None:
        return file.readline(limit + 1)
    line = bytearray()
    while len(line) <= limit and (piece := file.readline(limit + 2 - len(line))):
        line += piece
        if len(line) % 2:
            line += file.read(1)
        if line.endswith(newline):
            break
    return bytes(line)


def _skip_line(file: BinaryIO, start: bytes, encoding: str) -> None:
    piece = start
    newline = NEWLINES.get(encoding, b"\n")
    while piece and not piece.endswith(newline):
        piece = _read_line(file, encoding, CHUNK)


def _utf16_without_mark(head: bytes) -> str:
    """JSON and CSV are full of ASCII signs, whose high byte is NUL in UTF-16; UTF-8 and GB18030 text has no NUL."""
    even, odd = head[0:4096:2].count(0), head[1:4096:2].count(0)
    if max(even, odd) * 20 < min(len(head), 4096) or min(even, odd) * 4 > max(even, odd):
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _decodes(line: bytes, encoding: str) -> bool:
    """Not to the very end: the last line of a chunk may be cut within a character."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(line)
    except UnicodeDecodeError:
        return False
    return True
