"""A strict JSON reader: it refuses duplicate keys, NaN and lone surrogates, which Python's own reader accepts.

parse(text)           one value, or StrictError
read_values(path)     the elements of an array, or values one after another, from a file of any size
"""

import codecs
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xiaozao.data.encodings import BOMS, CHUNK, LINE_LIMIT
from xiaozao.data.notes import Notes
from xiaozao.data.rows import Row, Rows
from xiaozao.errors import DataError, Problem

DEPTH = 100
DIGITS = 100
HALF = re.compile("[\ud800-\udfff]")
SPACE = re.compile("[ \t\r\n\ufeff]*")  # a byte order mark within is left by files that were put together


class StrictError(ValueError):
    """The text is not strict JSON. Holds the key of `problem.<key>` and its parameters, without the line."""

    def __init__(self, key: str, **params: object) -> None:
        super().__init__(key)
        self.key = key
        self.params = params


def parse(text: str) -> Any:
    """One JSON value. Raises StrictError."""
    try:
        value = STRICT.decode(text)
    except json.JSONDecodeError as error:
        raise StrictError("row_json", column=error.colno, detail=error.msg) from None
    except RecursionError:
        raise StrictError("row_deep", limit=DEPTH) from None
    if text.count("[") + text.count("{") > DEPTH and _depth(value) > DEPTH:
        raise StrictError("row_deep", limit=DEPTH)
    if "\\u" in text and (place := _half_character(value)) is not None:
        raise StrictError("row_surrogate", field=place or ".")
    return value


def to_row(text: str, line: int, offset: int) -> Row | Problem:
    """One JSON object as a row, or what is wrong with it."""
    try:
        value = parse(text)
    except StrictError as error:
        return Problem(error.key, {"line": line, "offset": offset, **error.params})
    if not isinstance(value, dict):
        return Problem("row_not_object", {"line": line, "offset": offset, "found": kind_of(value)})
    return Row(value, line, offset)


def read_values(
    path: Path,
    encoding: str,
    limit: int = LINE_LIMIT,
    inside: tuple[str, ...] = (),
    notes: Notes | None = None,
    to_row: Callable[[str, int, int], Row | Problem] = to_row,
) -> Rows:
    """The objects in a .json file: an array's elements, or one object, or objects one after another.

    `inside` are the keys that lead to the array, where it is part of an object; arrays beside it are noted. If the
    structure itself is broken (a file cut off, a missing comma), the number of lost rows is unknown. That is a
    DataError for the whole file, even with bad_rows=drop. to_row: what makes a row of its text, line and offset.
    """
    text, notes = _Window(path, encoding, limit), notes or Notes()
    text.skip_space()
    for name in inside:
        _enter(text, name, notes)
    yield from _elements(text, to_row)
    for _ in inside:
        text.skip_space()
        if not text.at_end() and text.take(","):
            _enter(text, None, notes)
        elif not text.take("}"):
            raise text.broken("Expecting ',' or '}'")
    text.skip_space()
    if not text.at_end():
        raise text.broken("Extra data")


def _elements(text: "_Window", to_row: Callable[[str, int, int], Row | Problem] = to_row) -> Rows:
    in_array = text.take("[")
    text.skip_space()
    if in_array and text.take("]"):
        return
    while in_array or not text.at_end():
        line, offset = text.line, text.offset
        yield to_row(text.value(), line, offset)
        text.skip_space()
        if in_array and text.take("]"):
            break
        if in_array and not text.take(","):
            raise text.broken("Expecting ',' or ']'")
        text.skip_space()


def _enter(text: "_Window", wanted: str | None, notes: Notes) -> None:
    """Move to the value of an object's member, or behind the object if None is wanted; arrays on the way are noted."""
    text.take("{")
    while True:
        text.skip_space()
        if text.take("}"):
            return
        name = parse(text.value())
        text.skip_space()
        if not text.take(":"):
            raise text.broken("Expecting ':'")
        text.skip_space()
        if name == wanted:
            return
        if text.starts("["):
            count = sum(1 for row in _elements(text) if isinstance(row, Row))
            if count:
                notes.tell("note_beside", field=name, count=count)
        else:
            text.value()
        text.skip_space()
        text.take(",")


def kind_of(value: object) -> str:
    """The name that JSON has for the type of a value."""
    words = {str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object"}
    return "null" if value is None else words.get(type(value), type(value).__name__)


class _Window:
    """A moving window on the decoded text of a file: at most one value and one chunk are in memory."""

    def __init__(self, path: Path, encoding: str, limit: int) -> None:
        self.line = 1
        self.offset = 0
        self._path, self._encoding, self._limit = path, encoding, limit
        self._buffer, self._at = "", 0
        self._chunks = _decoded(path, encoding)
        self._grow()
        mark = BOMS.get(encoding, b"")
        if mark and self._buffer.startswith("\ufeff"):
            self._at, self.offset = 1, len(mark)

    def at_end(self) -> bool:
        return self._at >= len(self._buffer) and not self._grow()

    def skip_space(self) -> None:
        while not self.at_end():
            space = SPACE.match(self._buffer, self._at)
            self._move(space.end() if space else self._at)
            if self._at < len(self._buffer):
                return

    def starts(self, sign: str) -> bool:
        return not self.at_end() and self._buffer[self._at] == sign

    def take(self, sign: str) -> bool:
        if not self.starts(sign):
            return False
        self._move(self._at + 1)
        return True

    def value(self) -> str:
        """The text of the next value. A lenient reader finds its end, so that an invalid value can be skipped."""
        while True:
            try:
                end = LENIENT.raw_decode(self._buffer, self._at)[1]
                if end < len(self._buffer) or not self._grow():
                    break
            except json.JSONDecodeError as error:
                if len(self._buffer) - self._at > self._limit or not self._grow():
                    self._move(min(error.pos, len(self._buffer)))
                    raise self.broken(error.msg) from None
            except RecursionError:
                raise self.broken(f"nested more than {DEPTH} deep") from None
        text = self._buffer[self._at : end]
        self._move(end)
        return text

    def broken(self, detail: str) -> DataError:
        start = self._buffer.rfind("\n", 0, self._at)
        return DataError("data_json", path=self._path, line=self.line, column=self._at - start, detail=detail)

    def _move(self, end: int) -> None:
        passed = self._buffer[self._at : end]
        self.line += passed.count("\n")
        self.offset += len(passed.encode(self._encoding, errors="replace"))
        self._at = end

    def _grow(self) -> bool:
        """At least double the buffered text, so that a value of n chunks is scanned log n times and not n times."""
        rest = self._buffer[self._at :]
        pieces, size = [rest], 0
        while size <= len(rest) and (piece := next(self._chunks, "")):
            pieces.append(piece)
            size += len(piece)
        self._buffer, self._at = "".join(pieces), 0
        return size > 0


def _decoded(path: Path, encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    position = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            try:
                text = decoder.decode(chunk)
            except UnicodeDecodeError as error:
                raise _undecodable(path, encoding, position + error.start) from None
            position = file.tell() - len(decoder.getstate()[0])
            if text:
                yield text
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise _undecodable(path, encoding, position) from None


def _undecodable(path: Path, encoding: str, offset: int) -> DataError:
    with path.open("rb") as file:
        line, left = 1, offset
        while left and (chunk := file.read(min(CHUNK, left))):
            line += chunk.count(b"\n")
            left -= len(chunk)
    problem = Problem("row_encoding", {"line": line, "offset": offset, "encoding": encoding.upper()})
    return DataError("data_encoding", [problem], path=path, line=line, offset=offset, encoding=encoding.upper())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise StrictError("row_duplicate_key", field=twice)
    return unique


def _constant(name: str) -> None:
    raise StrictError("row_not_a_number", found=name)


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise StrictError("row_huge_number", digits=len(digits), limit=DIGITS)
    return int(digits)


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise StrictError("row_not_a_number", found=text[:40])
    return value


def _depth(value: Any) -> int:
    deepest, todo = 0, [(value, 1)]
    while todo:
        element, depth = todo.pop()
        deepest = max(deepest, depth)
        inner = element.values() if isinstance(element, dict) else element if isinstance(element, list) else ()
        todo += [(child, depth + 1) for child in inner]
    return deepest


def _half_character(value: Any) -> str | None:
    """The place of a lone surrogate (half an emoji). It is a legal JSON escape, but cannot be encoded as UTF-8."""
    todo = [(value, "")]
    while todo:
        element, place = todo.pop()
        if isinstance(element, str) and HALF.search(element):
            return place
        if isinstance(element, dict):
            if any(HALF.search(key) for key in element):
                return place
            todo += [(inner, f"{place}.{key}" if place else key) for key, inner in element.items()]
        elif isinstance(element, list):
            todo += [(inner, f"{place}[{index}]") for index, inner in enumerate(element)]
    return None


STRICT = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_constant, parse_int=_integer, parse_float=_real, strict=True
)
LENIENT = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=len, strict=False)
