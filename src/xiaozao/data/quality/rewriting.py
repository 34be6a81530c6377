"""What a repair does to the texts and the messages of one row. Each rule is a pure function; RULES keeps their order.

The safe ones are applied unasked: they change no word. The others have to be named (`--repair`).
"""

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from xiaozao.data.quality import leftovers
from xiaozao.data.turns import REASONING, ROLES

DIALOGUES = ("messages", "conversations", "conversation", "dialogue")
LISTS = (*DIALOGUES, "chosen", "rejected", "prompt")
MACHINES = {"tools", "functions", "tool_calls", "function_call", "function_calls", "arguments", "parameters"}
CONTENT = {"role": "content", "from": "value"}
BREAKS = re.compile(r"(?i)<br\s*/?>|</(?:p|div|li|tr|h[1-6])\s*>")
CDATA = re.compile(r"<!\[CDATA\[|\]\]>")
ESCAPES = {"\\r\\n": "\n", "\\n": "\n", "\\t": "\t", '\\"': '"'}


@dataclass(frozen=True)
class Change:
    """One thing that was changed in a row. A row that is left out has no `after`."""

    row: int
    rule: str
    field: str
    before: str
    after: str | None
    reason: str = ""


def control(text: str) -> str:
    return leftovers.CONTROL.sub("", text)


def invisible(text: str) -> str:
    return text if leftovers.RIGHT_TO_LEFT.search(text) else leftovers.INVISIBLE.sub("", text)


def white_space(text: str) -> str:
    """No blanks at both ends, one kind of line break, at most two empty lines together."""
    return re.sub(r"\n{4,}", "\n\n\n", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def markup(text: str) -> str:
    """Entities as characters, and tags as line breaks or nothing. Code stays."""
    if leftovers.is_code(text):
        return text
    plain = leftovers.TAG.sub("", CDATA.sub("", BREAKS.sub("\n", text)))
    return html.unescape(plain).replace("\u00a0", " ") if leftovers.ENTITY.search(plain) else plain


def escapes(text: str) -> str:
    """Backslash escapes as the characters they stand for. Code and JSON stay."""
    if "`" in text or leftovers.is_code(text) or text.lstrip()[:1] in ("{", "["):
        return text
    return leftovers.ESCAPE.sub(lambda match: ESCAPES.get(match[0]) or _character(match[0]), text)


def full_width(text: str) -> str:
    return leftovers.FULL.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)


def mojibake(text: str) -> str:
    return leftovers.HIGH.sub(lambda match: leftovers.mended(match[0]) or match[0], text)


def _character(escape: str) -> str:
    code = int(escape[2:], 16)
    return escape if 0xD800 <= code <= 0xDFFF else chr(code)


SAFE: dict[str, Callable[[str], str]] = {"control": control, "invisible": invisible, "white_space": white_space}
ASKED: dict[str, Callable[[str], str]] = {
    "mojibake": mojibake, "escapes": escapes, "markup": markup, "full_width": full_width,
}  # fmt: skip


def rewritten(
    values: dict[str, Any], line: int, rules: Iterable[tuple[str, Callable[[str], str]]]
) -> tuple[dict[str, Any], list[Change]]:
    """The row with the rules applied to every text that is read, and what changed."""
    changes: list[Change] = []
    rules = tuple(rules)

    def apply(text: str, place: str) -> str:
        for rule, function in rules:
            after = function(text)
            if after != text:
                changes.append(Change(line, rule, place, text, after))
            text = after
        return text

    return {name: _walk(value, str(name), apply) for name, value in values.items()}, changes


def _walk(value: Any, place: str, apply: Callable[[str, str], str]) -> Any:
    """Apply to all strings but those that machines read."""
    if isinstance(value, str):
        return apply(value, place)
    if isinstance(value, list):
        return [_walk(inner, f"{place}[{index}]", apply) for index, inner in enumerate(value)]
    if isinstance(value, dict):
        return {
            key: inner if str(key).lower() in MACHINES else _walk(inner, f"{place}.{key}", apply)
            for key, inner in value.items()
        }
    return value


def restructured(values: dict[str, Any], line: int, answers_end: bool) -> tuple[dict[str, Any], list[Change]]:
    """The row with neighbours of one speaker merged and, if answers end it, without messages after the last answer."""
    changes: list[Change] = []
    result = dict(values)
    for name, value in values.items():
        key = str(name).strip().lower()
        if key not in LISTS or not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
            continue
        turns = list(_merged(value, line, str(name), changes))
        if answers_end and key in DIALOGUES:
            turns = _cut(turns, line, str(name), changes)
        result[name] = turns
    return result, changes


def speaker(turn: dict[str, Any]) -> str:
    """Who speaks: system, user, assistant, tool, or "" where nobody knows."""
    names = {str(key).lower(): value for key, value in turn.items()}
    said = names.get("role", names.get("from"))
    return ROLES.get(said.strip().lower(), "") if isinstance(said, str) else ""


def _merged(turns: list[dict[str, Any]], line: int, place: str, changes: list[Change]) -> Iterator[dict[str, Any]]:
    waiting: dict[str, Any] | None = None
    for index, turn in enumerate(turns):
        key = waiting and _joint(waiting, turn)
        if waiting is None or not key:
            if waiting is not None:
                yield waiting
            waiting = turn
            continue
        before = waiting[key]
        after = before if before == turn[key] else f"{before}\n{turn[key]}"
        changes.append(Change(line, "same_role", f"{place}[{index}].{key}", str(turn[key]), after))
        waiting = {**waiting, **_thought(waiting, turn), key: after}
    if waiting is not None:
        yield waiting


def _thought(before: dict[str, Any], turn: dict[str, Any]) -> dict[str, str]:
    """The reasoning of two messages, one after the other."""
    thoughts = [(name, both.get(name)) for both in (before, turn) for name in REASONING if both.get(name)]
    return {thoughts[0][0]: "\n".join(str(text) for _, text in thoughts)} if thoughts else {}


def _joint(before: dict[str, Any], turn: dict[str, Any]) -> str:
    """The key of the texts of two messages that can be merged; "" where they cannot.

    They differ in their texts and their reasoning, and in nothing else.
    """
    role = speaker(turn)
    if role not in ("user", "assistant") or speaker(before) != role:
        return ""
    key = next((text for name, text in CONTENT.items() if name in turn and text in turn and text in before), "")
    said = str(turn.get("role", turn.get("from"))).strip().lower()
    if not key or said in ("function_call", "tool_call"):
        return ""
    texts = [both[name] for both in (before, turn) for name in (key, *REASONING) if both.get(name) is not None]
    others = [_besides(both, key) for both in (before, turn)]
    called = any(str(name).lower() in MACHINES for name in others[0])
    return key if all(isinstance(text, str) for text in texts) and others[0] == others[1] and not called else ""


def _besides(turn: dict[str, Any], key: str) -> dict[str, Any]:
    """What a message holds beside its speaker, its text and its reasoning."""
    own = {key, *REASONING, "role", "from"}
    return {name: value for name, value in turn.items() if name not in own and value not in (None, "", [])}


def _cut(turns: list[dict[str, Any]], line: int, place: str, changes: list[Change]) -> list[dict[str, Any]]:
    last = max((index for index, turn in enumerate(turns) if speaker(turn) == "assistant"), default=-1)
    if last < 0:
        return turns
    for index in range(last + 1, len(turns)):
        said = next((str(turns[index][key]) for key in CONTENT.values() if key in turns[index]), "")
        changes.append(Change(line, "trailing_turn", f"{place}[{index}]", said, None))
    return turns[: last + 1]
