"""A file -> rows, as far as they can be read at all: JSON made by hand is repaired, and what was lost is told.

Valid rows pass as they are. A line that is no JSON goes through json-repair (missing or trailing commas, single or
full-width quotes, full-width punctuation, line breaks within a string, comments). A repair that would lose words is no
repair, and neither is a guess at the end of a row that was cut: such rows are left out, with the reason.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import json_repair

from xiaozao.data.encodings import LINE_LIMIT, Line, read_lines
from xiaozao.data.quality import lenient
from xiaozao.data.quality.leftovers import garbled
from xiaozao.data.rows import Row
from xiaozao.data.sources import Source, read_rows
from xiaozao.data.strictjson import StrictError, parse, read_values, to_row
from xiaozao.data.wrapping import row_inside
from xiaozao.errors import DataError, Problem

JOINED = 50  # lines that one row may be broken into
WHOLE = 64_000_000  # bytes of a broken .json file that is repaired in memory
ESCAPED = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|//[^\n]*|/\*.*?\*/", re.DOTALL)
HALF = re.compile("[\ud800-\udfff]")
LOST = 2  # letters and digits that a repair may lose: quotes typed as letters, a stray mark
CLOSED = ("}", "},", "｝", "｝，", "｝,")
WIDE = dict(zip("｛｝［］：，", "{}[]:,", strict=True))
QUOTES = {'"': '"', "“": "”", "＂": "＂"}  # of a string: how it begins and how it ends
NO_ROW = {"", "[", "]", ",", "],", "[,"}


@dataclass(frozen=True)
class Mended:
    """A row. values is None where it cannot be used, and problem says why. rules: of the repairs, if there were any."""

    line: int
    values: dict[str, Any] | None
    rules: tuple[str, ...] = ()
    before: str = ""
    problem: Problem | None = None


def mended_rows(source: Source, asked: Sequence[str] = ()) -> Iterator[tuple[Mended, int]]:
    """The rows of a file and the byte that each begins at. asked: the columns of a table that the user named."""
    if source.kind == "jsonl":
        yield from _lines(source)
    elif source.kind == "json":
        yield from _document(source)
    else:
        for row in read_rows(source, asked=asked):
            yield (_unusable(row), 0) if isinstance(row, Problem) else (Mended(row.line, row.values), row.offset)


def mend(text: str) -> dict[str, Any] | None:
    """An object from text that is no JSON; None where words would be lost."""
    bare = lenient.with_zeros_quoted(narrowed(text)).strip().rstrip(",").strip()
    if not bare or bare[-1] not in "}]" or "{" not in bare:
        return None
    try:
        value = json_repair.loads(bare)
    except (ValueError, RecursionError, IndexError, TypeError):
        return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict) or not value:
        return None
    clean = _without_halves(value)
    written = json.dumps(clean, ensure_ascii=False)
    kept = sum(map(str.isalnum, ESCAPED.sub("", written)))
    given = sum(map(str.isalnum, ESCAPED.sub("", bare)))
    if given - kept > LOST + given // 200 or lenient.loses_a_key(bare, value):
        return None
    try:
        parsed = parse(written)
    except StrictError:
        return None
    return parsed if isinstance(parsed, dict) else None


def narrowed(text: str) -> str:
    """The text with full-width signs of JSON as JSON has them, outside of strings; what strings say stays."""
    out, closing, escaped = list[str](), "", False
    for character in text:
        if closing:
            ends = character == closing and not escaped
            escaped = character == "\\" and not escaped
            out.append('"' if ends else character)
            closing = "" if ends else closing
        else:
            closing = QUOTES.get(character, "")
            out.append('"' if closing else WIDE.get(character, character))
    return "".join(out)


def _lines(source: Source) -> Iterator[tuple[Mended, int]]:
    """Rows of JSON lines; a row that is broken into several lines is put together again."""
    open_: list[Line] = []
    for line in read_lines(source.path, source.encoding):
        text = line.text.strip()
        if open_:
            if not text.startswith("{") and len(open_) < JOINED:
                open_.append(line)
                joined = "\n".join(one.text for one in open_)
                if text.rstrip(",").endswith("}") and (values := mend(joined)) is not None:
                    yield Mended(open_[0].number, values, ("json",), joined), open_[0].offset
                    open_ = []
                continue
            yield from _given_up(open_)
            open_ = []
        if text in NO_ROW and line.problem is None:
            continue
        row = _line(line, source)
        if row.values is None and line.problem is None and text.startswith(("{", "｛")) and not text.endswith(CLOSED):
            open_ = [line]
        else:
            yield row, line.offset
    yield from _given_up(open_)


def _given_up(lines: list[Line]) -> Iterator[tuple[Mended, int]]:
    for line in lines:
        problem = Problem("row_json", {"line": line.number, "column": len(line.text), "detail": "Unterminated row"})
        yield Mended(line.number, None, ("unusable",), line.text, problem), line.offset


def _line(line: Line, source: Source) -> Mended:
    text, rules, problem = line.text, tuple[str, ...](), line.problem
    if problem is not None:
        again = _decoded_again(line, source) if problem.key == "row_encoding" else text.replace("\0", "")
        if again is None or problem.key not in ("row_encoding", "row_nul"):
            return Mended(line.number, None, ("unusable",), text, problem)
        text, rules = again, ("encoding" if problem.key == "row_encoding" else "control",)
    mended = _repaired(text, line.number)
    before = line.text if rules or mended.rules else ""
    return Mended(line.number, mended.values, (*rules, *mended.rules), before, mended.problem)


def _repaired(text: str, line: int) -> Mended:
    """One row from its text: as it is, or repaired by the first way that guesses nothing."""
    try:
        value = parse(text)
        if isinstance(value, dict):
            return Mended(line, value)
        problem = Problem("row_not_object", {"line": line, "found": type(value).__name__})
    except StrictError as error:
        problem = Problem(error.key, {"line": line, **error.params})
    try:
        value, rules = lenient.read(text)
        if rules and isinstance(value, dict) and (strict := _strictly(value)) is not None:
            return Mended(line, strict, rules, text)
    except StrictError as error:
        return Mended(line, None, ("unusable",), text, Problem(error.key, {"line": line, **error.params}))
    except (ValueError, RecursionError):
        pass  # no JSON at all
    values = mend(text)
    return Mended(line, values, ("unusable",) if values is None else ("json",), text, problem)


def _strictly(value: dict[str, Any]) -> dict[str, Any] | None:
    """A value as strict JSON reads it; None where it does not."""
    try:
        read = parse(json.dumps(_without_halves(value), ensure_ascii=False))
    except StrictError:
        return None
    return read if isinstance(read, dict) else None


def _decoded_again(line: Line, source: Source) -> str | None:
    """A line in another encoding than the rest of the file; None where no other one gives plain text."""
    with source.path.open("rb") as file:
        file.seek(line.offset)
        raw = file.readline(LINE_LIMIT).rstrip(b"\r\n")
    for encoding in ("gb18030", "cp1252"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        han = sum("\u4e00" <= character <= "\u9fff" for character in text)
        if (encoding != "gb18030" or han >= 2) and garbled(text) is None:
            return text
    return None


def _document(source: Source) -> Iterator[tuple[Mended, int]]:
    """Rows of a .json file; a file whose structure is broken is repaired as a whole."""
    try:
        keys = {row.key for row in read_rows(source) if isinstance(row, Problem)}
    except DataError as broken:
        if source.size > WHOLE:
            raise
        yield from _whole(source, broken)
        return
    if keys:
        texts: dict[int, str] = {}  # of the row that was read last
        for row in read_values(source.path, source.encoding, inside=source.inside, to_row=_keeping(texts)):
            yield _of_document(row, texts), 0 if isinstance(row, Problem) else row.offset
        return
    for row in read_rows(source):
        yield (_unusable(row), 0) if isinstance(row, Problem) else (Mended(row.line, row.values), row.offset)


def _keeping(texts: dict[int, str]) -> Callable[[str, int, int], Row | Problem]:
    """A reader of rows that keeps the text of the last one."""

    def read(text: str, line: int, offset: int) -> Row | Problem:
        texts.clear()
        texts[line] = text
        return to_row(text, line, offset)

    return read


def _of_document(row: Row | Problem, texts: dict[int, str]) -> Mended:
    if isinstance(row, Row):
        return Mended(row.line, row_inside(row.values))
    line = row.params.get("line")
    mended = _repaired(texts[line], line) if isinstance(line, int) and line in texts else _unusable(row)
    return mended if mended.values is None else replace(mended, values=row_inside(mended.values))


def _whole(source: Source, broken: DataError) -> Iterator[tuple[Mended, int]]:
    """The rows of a file that is repaired as a whole. Raises the error if that would lose something."""
    text = source.path.read_bytes().decode(source.encoding, errors="replace").removeprefix("\ufeff")
    quoted = lenient.with_zeros_quoted(text)
    try:
        values, rules = lenient.read(quoted)
        rules = (*(("leading_zero",) if quoted != text else ()), *rules)
    except StrictError:
        raise broken from None
    except (ValueError, RecursionError):
        values, rules = json_repair.loads(quoted), ("json",)
        if lenient.loses_a_key(quoted, values):
            raise broken from None
    for name in source.inside:
        values = values.get(name, values) if isinstance(values, dict) else values
    rows = values if isinstance(values, list) else [values]
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict) and row:
            yield Mended(number, row_inside(_without_halves(row)), rules), 0
        else:
            problem = Problem("row_not_object", {"line": number, "found": type(row).__name__})
            yield Mended(number, None, ("unusable",), str(row), problem), 0


def _unusable(problem: Problem) -> Mended:
    line = problem.params.get("line")
    return Mended(line if isinstance(line, int) else 0, None, ("unusable",), "", problem)


def _without_halves(value: Any) -> Any:
    """The same without halves of characters, which no encoding can write."""
    if isinstance(value, str):
        return HALF.sub("", value)
    if isinstance(value, dict):
        return {HALF.sub("", str(key)): _without_halves(inner) for key, inner in value.items()}
    return [_without_halves(inner) for inner in value] if isinstance(value, list) else value
