"""Regular expressions that a user wrote, matched against what a model wrote, with a limit of time.

Some patterns take longer than the age of the world on some texts: (a+)+b on forty times a. Python's `re` cannot be
interrupted there; `regex` can. Patterns inside a JSON schema are matched here, too, and not by the schema's library.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import regex
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

SECONDS = 0.5  # for one pattern and one text; a sound pattern takes less than a thousandth of it
LONGEST = 2_000  # characters of a pattern


class SlowPattern(Exception):
    """A pattern took longer than SECONDS on one text."""

    def __init__(self, pattern: str) -> None:
        super().__init__(pattern)
        self.pattern = pattern


def compiles(pattern: str) -> bool:
    if len(pattern) > LONGEST:
        return False
    try:
        regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError, MemoryError):
        return False
    return True


def is_whole(pattern: str, text: str) -> bool:
    """Whether a text as a whole matches. Raises SlowPattern."""
    try:
        return regex.fullmatch(pattern, text, regex.DOTALL, timeout=SECONDS) is not None
    except TimeoutError:
        raise SlowPattern(pattern) from None


def occurs(pattern: str, text: str) -> bool:
    """Whether a part of a text matches. Raises SlowPattern."""
    try:
        return regex.search(pattern, text, timeout=SECONDS) is not None
    except TimeoutError:
        raise SlowPattern(pattern) from None


def patterns_in(schema: object) -> Iterator[str]:
    """All patterns of a JSON schema, those of names of keys among them."""
    parts: list[object] = []
    if isinstance(schema, list):
        parts = schema
    elif isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        if isinstance(schema.get("patternProperties"), dict):
            yield from schema["patternProperties"]
        parts = [part for name, part in schema.items() if name not in ("enum", "const", "default", "examples")]
    for part in parts:
        yield from patterns_in(part)


def _pattern(validator: Validator, pattern: str, given: object, schema: object) -> Iterator[ValidationError]:
    if isinstance(given, str) and not occurs(pattern, given):
        yield ValidationError(f"{given!r} does not match {pattern!r}")


def _keys(validator: Any, patterns: Mapping[str, Any], given: object, schema: object) -> Iterator[ValidationError]:
    if not isinstance(given, dict):
        return
    for pattern, part in patterns.items():
        for name, value in given.items():
            if occurs(pattern, name):
                yield from validator.descend(value, part, path=name, schema_path=pattern)


def _others(validator: Any, part: Any, given: object, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    """additionalProperties: what holds for keys that are neither named nor matched by a pattern."""
    if not isinstance(given, dict):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name in given:
        if name in named or any(occurs(pattern, name) for pattern in patterns):
            continue
        if part is False:
            yield ValidationError(f"{name!r} is not asked for")
        else:
            yield from validator.descend(given[name], part, path=name)


TIMED = extend(Draft202012Validator, {"pattern": _pattern, "patternProperties": _keys, "additionalProperties": _others})
