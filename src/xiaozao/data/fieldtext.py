"""What a field of a row holds: prose or a label, and lists that stand as text."""

import ast
import re
from functools import lru_cache
from typing import Any

from xiaozao.data.strictjson import DEPTH, StrictError, parse

WORDS = 3  # words from which a text is prose and no label
SIGNS = 6  # the same in Chinese, Japanese or Korean characters
WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
NO_PROSE = re.compile(r"\s*(?:https?://\S+|[\w.+-]+@[\w.-]+|[\d\s:./,+\-TZ年月日时分秒]+|[0-9a-fA-F-]{16,})\s*")
LITERAL = 1_000_000  # characters of a Python list that are read


@lru_cache(maxsize=4096, typed=True)
def plain_name(name: object) -> str:
    """The name of a column in small letters, without spaces around it."""
    return str(name).strip().lower()


def is_prose(value: object) -> bool:
    """Whether a value is text that somebody wrote to be read, not a label, name, number, date or address."""
    if not isinstance(value, str) or NO_PROSE.fullmatch(value[:500]):
        return False
    start = value[:2000]
    return len(start.split(None, WORDS)) >= WORDS or sum(1 for _ in WIDE.finditer(start)) >= SIGNS


def listed_texts(value: Any) -> Any:
    """A list of texts that stands as text, as the list; anything else as it is."""
    read = _read_list(value) if isinstance(value, str) else None
    return read if read and all(isinstance(part, str) for part in read) else value


def listed_text(value: Any) -> Any:
    """A list of objects that stands as text, in JSON or as Python prints it, as the list; anything else as it is.

    A table of lists {"role": [...], "content": [...]} becomes a list of objects too.
    """
    if isinstance(value, dict):
        return _turned(value)
    read = _read_list(value) if isinstance(value, str) else None
    return read if read and all(isinstance(part, dict | list) for part in read) else value


def _read_list(text: str) -> list[Any] | None:
    """A list from its text in JSON, or as Python prints it."""
    if not text.lstrip().startswith("["):
        return None
    try:
        read = parse(text)
    except StrictError:
        read = _literal(text)
    return read if isinstance(read, list) else None


def _literal(text: str) -> Any:
    """A list as Python prints it, with single quotes and None. Only constants are read, nothing is executed."""
    if len(text) > LITERAL or text.count("[") + text.count("{") > 20 * DEPTH:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _turned(table: dict[str, Any]) -> Any:
    columns = list(table.values())
    lengths = {len(column) for column in columns if isinstance(column, list)}
    if len(lengths) != 1 or not all(isinstance(column, list) for column in columns):
        return table
    return [dict(zip(table, values, strict=True)) for values in zip(*columns, strict=True)]
