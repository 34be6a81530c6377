"""JSON files of a model folder, read with a limit on everything: bytes, depth, entries, digits. No value is trusted.

read_object(path)                       a JSON object, or ArtefactError naming the file and what is wrong
number(path, values, "r", 1, 1024)      a field of the type and in the range that it must have, or ArtefactError
"""

import json
import math
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from xiaozao.errors import ArtefactError, Problem

JSON_LIMIT = 32 * 2**20  # bytes; the longest known index has 20 MB
DEPTH_LIMIT = 50
SHOWN = 60  # characters of a value in a message


class DuplicateKey(ValueError):
    """A JSON object has the same key twice; readers disagree which value counts."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file that must be a plain one; never waits on a pipe or a device that stands in its place."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise ArtefactError("artefact_unreadable", path=path, detail=error.strerror or error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArtefactError("not_a_plain_file", path=path)
    return os.fdopen(descriptor, "rb")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ArtefactError naming the file and what is wrong in it."""
    with open_regular(path) as file:
        text = file.read(JSON_LIMIT + 1)
    if len(text) > JSON_LIMIT:
        raise wrong(path, "json_too_long", limit=JSON_LIMIT)
    try:
        read = strict_json(text)
    except ValueError as error:
        raise wrong(path, "json", detail=str(error)) from None
    if not isinstance(read, dict):
        raise wrong(path, "json_object")
    return read


def strict_json(text: bytes) -> Any:
    """JSON. A key twice, a number that is not finite or a nesting that would exhaust the stack is a ValueError."""
    try:
        read = json.loads(
            text.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_real
        )
    except RecursionError:
        raise ValueError(f"nested more than {DEPTH_LIMIT} deep") from None
    _check_depth(read, DEPTH_LIMIT)
    return read


def number(path: Path, values: Mapping[str, Any], field: str, low: float, high: float, whole: bool = True) -> Any:
    """A number that must be there, within its bounds; `whole`: without a fraction. Raises ArtefactError."""
    value: Any = values.get(field)
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and not whole)):
        raise mistyped(path, field, value if field in values else ..., kinds)
    if not low <= value <= high:
        raise wrong(path, "field_range", field=field, value=shown(value), low=low, high=high)
    return value


def typed(path: Path, values: Mapping[str, Any], fields: Mapping[str, tuple[type, ...]]) -> None:
    """Raise ArtefactError for a field that is there, is not null, and is of none of its types."""
    for field, kinds in fields.items():
        value = values.get(field)
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise mistyped(path, field, value, kinds)


def mistyped(path: Path, field: str, value: object, kinds: Iterable[type]) -> ArtefactError:
    """The error for a value of the wrong type; `...` stands for a missing value."""
    words = " | ".join(WORDS[kind] for kind in kinds)
    return wrong(path, "field_type", field=field, value=shown(value), wanted=words)


def wrong(path: Path, key: str, /, **params: object) -> ArtefactError:
    """The error for a file with the problem `problem.<key>`."""
    return ArtefactError("artefact_damaged", [Problem(key, params)], path=path)


def shown(value: object) -> str:
    """A value as a message shows it: JSON of at most SHOWN characters; `-` for none."""
    if value is ...:
        return "-"
    if isinstance(value, dict | list) and len(value) > SHOWN:
        return f"{WORDS[type(value)]}({len(value)})"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


# JSON's own words, the same in every language.
WORDS: dict[type, str] = {
    str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object",
}  # fmt: skip


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for name, value in pairs:
        if name in names:
            raise DuplicateKey(f"key {name[:200]!r} occurs twice")
        names[name] = value
    return names


def _check_depth(value: Any, levels: int) -> None:
    if levels == 0:
        raise ValueError(f"nested more than {DEPTH_LIMIT} deep")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, dict | list):
                _check_depth(inner, levels - 1)


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is no finite number")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
