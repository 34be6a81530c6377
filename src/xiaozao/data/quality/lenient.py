"""JSON that strict readers refuse and that says what it means all the same: a repair that guesses nothing.

NaN, Infinity, 1e999      null                           not_a_number
007, -01.50               "007": the zeros are kept      leading_zero
"a": 1, "a": 1            one of the two                 double_key
"a": 1, "a": 2            refused: nobody knows which is meant
"""

import json
import math
import re
from collections import Counter
from typing import Any

from xiaozao.data.strictjson import DIGITS, StrictError

STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
ZEROS = re.compile(r"(?<![\w.+\-])(-?0\d[\d.]*)(?=\s*(?:[,}\]]|\Z))")
KEY = re.compile(r"""(?<!\\)(["'])((?:(?!\1)[^\\\n]){1,80})\1\s*:""")


def read(text: str) -> tuple[Any, tuple[str, ...]]:
    """A value, and the rules by which it was repaired. Raises StrictError, JSONDecodeError, RecursionError."""
    rules: list[str] = []
    quoted = with_zeros_quoted(text)
    if quoted != text:
        rules.append("leading_zero")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for name, value in pairs:
            if name in read and not _same(read[name], value):
                raise StrictError("row_duplicate_key", field=name)
            if name in read:
                rules.append("double_key")
            read[name] = value
        return read

    def nothing(_: str) -> None:
        rules.append("not_a_number")

    def real(digits: str) -> float | None:
        value = float(digits)
        if math.isfinite(value):
            return value
        rules.append("not_a_number")
        return None

    value = json.JSONDecoder(
        object_pairs_hook=unique, parse_constant=nothing, parse_float=real, parse_int=_integer
    ).decode(quoted)
    return value, tuple(dict.fromkeys(rules))


def with_zeros_quoted(text: str) -> str:
    """The text with numbers that begin with a zero as texts, outside of strings."""
    if not ZEROS.search(text):
        return text
    parts, at = list[str](), 0
    for string in STRING.finditer(text):
        parts += [ZEROS.sub(r'"\1"', text[at : string.start()] + "\0").replace("\0", ""), string[0]]
        at = string.end()
    return "".join([*parts, ZEROS.sub(r'"\1"', text[at:])])


def loses_a_key(text: str, value: Any) -> bool:
    """Whether a key stands in a text more often than in the value that was made of it."""
    written = Counter(match[2] for match in KEY.finditer(text))
    read: Counter[str] = Counter()
    todo = [value]
    while todo:
        element = todo.pop()
        if isinstance(element, dict):
            read.update(map(str, element))
            todo += element.values()
        elif isinstance(element, list):
            todo += element
        elif isinstance(element, str):
            read.update(match[2] for match in KEY.finditer(element))
    return any(written[name] > count for name, count in read.items())


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and json.dumps(value) == json.dumps(other)


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise StrictError("row_huge_number", digits=len(digits), limit=DIGITS)
    return int(digits)
