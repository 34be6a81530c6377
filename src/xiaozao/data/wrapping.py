"""JSON whose rows stand inside an object: {"data": [...]}, {"version": 1, "rows": [...]}, {"result": {"items": [...]}}.

Only the beginning of the file is looked at, so that a file of any size can be read as a stream of the array's elements.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from xiaozao.data.formats import format_of

NAMES = {
    *("data", "rows", "examples", "items", "records", "train", "instances", "samples", "dataset", "results", "result"),
    *("questions", "conversations", "dialogues", "dialogs", "list", "entries", "documents", "response", "value", "qa"),
    *("数据", "列表", "对话", "messages", "chats"),
}
AROUND = ("row", "data", "example", "record", "item", "sample", "instance")  # the name of one row
DEEP = 4
SPACE = re.compile(r"[\s\ufeff]*")
READER = json.JSONDecoder(strict=False)


def path_to_rows(head: str) -> tuple[str, ...]:
    """The keys that lead to the array of rows, from the beginning of a file; () where the file is the rows itself."""
    try:
        return _path(head, _space(head, 0), 0)
    except (IndexError, ValueError, RecursionError):
        return ()  # cut off, or no JSON: what is wrong is said by the reader


def row_inside(values: dict[str, Any]) -> dict[str, Any]:
    """The row where an element wraps it once more, as {"row_idx": 0, "row": {...}} and {"data": {...}} do."""
    if len(values) > 1 and "row_idx" not in values:
        return values
    inner = next((values[name] for name in AROUND if isinstance(values.get(name), dict)), None)
    return values if inner is None else inner


def _path(text: str, at: int, depth: int) -> tuple[str, ...]:
    if depth == DEEP or text[at] != "{":
        return ()
    for name, start in _members(text, at):
        if name not in NAMES:
            if text[start] == "[" and _is_known(text, _space(text, start + 1)):
                return (name,)
            continue
        if text[start] == "{" and (inner := _path(text, start, depth + 1)):
            return (name, *inner)
        if text[start] == "[" and _holds_rows(text, _space(text, start + 1)):
            return (name,)
    return ()


def _holds_rows(text: str, at: int) -> bool:
    """Whether the first element of an array is an object that is no turn of a conversation."""
    if text[at] != "{":
        return False
    names = {name.lower() for name, _ in _members(text, at, whole=False)}
    turn = {"role", "content"} <= names or {"from", "value"} <= names or {"role", "parts"} <= names
    return not turn and bool(names)


def _is_known(text: str, at: int) -> bool:
    """Whether the first element of an array with any name is a row whose format is known."""
    if not _holds_rows(text, at):
        return False
    try:
        first, _ = READER.raw_decode(text, at)
    except ValueError:
        return False
    return format_of(first) not in ("", "text")


def _members(text: str, at: int, whole: bool = True) -> Iterator[tuple[str, int]]:
    """The names of an object's members, each with the place where its value begins. Raises where the text ends.

    With `whole` false, an object that is cut off just ends.
    """
    try:
        at = _space(text, at + 1)
        while text[at] != "}":
            name, at = READER.raw_decode(text, at)
            if not isinstance(name, str):
                raise ValueError(name)
            at = _space(text, _space(text, at) + 1)
            yield name, at
            at = _space(text, READER.raw_decode(text, at)[1])
            at = _space(text, at + 1) if text[at] == "," else at
    except (IndexError, ValueError):
        if whole:
            raise


def _space(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    return match.end() if match else at
