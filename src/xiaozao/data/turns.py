"""One message of a conversation, as OpenAI's and ShareGPT's files write it -> Turn."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xiaozao.data.strictjson import StrictError, kind_of, parse

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function", "function_response", "tool_response"), "tool"),
}

TURNS = 2000  # in one row; each answer in it is rendered with all that was said before


@dataclass(frozen=True)
class Turn:
    """One message. `role` is system, user, assistant or tool."""

    role: str
    content: str


class BadField(Exception):
    """A problem of a row: the key `problem.<key>`, the field, and the parameters."""

    def __init__(self, key: str, where: str, **params: object) -> None:
        super().__init__(key)
        self.key = key
        self.params = {"field": where, **params}


def check_count(turns: Any, where: str) -> None:
    """Raise BadField for more turns than are read in one row."""
    if isinstance(turns, list) and len(turns) > TURNS:
        raise BadField("row_turns", where, count=len(turns), limit=TURNS)


def parse_turn(turn: Any, where: str, role_key: str, content_key: str) -> Turn:
    """A turn from {role_key: ..., content_key: ...}; `where` is its place in the row. Raises BadField."""
    if not isinstance(turn, dict):
        raise BadField("row_not_a_turn", where, found=kind_of(turn))
    names = {name.lower(): value for name, value in turn.items()}
    role = names.get(role_key)
    if not isinstance(role, str):
        raise BadField("row_no_field", f"{where}.{role_key}", fields=", ".join(turn))
    known = ROLES.get(role.strip().lower())
    if known is None:
        raise BadField("row_role", f"{where}.{role_key}", found=role[:60], allowed="system, user, assistant, tool")
    return Turn(known, _content(names, f"{where}.{content_key}", content_key, known))


def _content(turn: Mapping[str, Any], where: str, key: str, role: str) -> str:
    value = turn.get(key)
    if isinstance(value, list):
        value = _joined(value, where)
    calls = turn.get("tool_calls")
    if role == "assistant" and isinstance(calls, list) and calls and (value is None or isinstance(value, str)):
        place = where.rpartition(".")[0]
        texts = [_call(call, f"{place}.tool_calls[{index}]") for index, call in enumerate(calls)]
        value = "\n".join(filter(None, [value or "", *texts]))
    if value is None and (role == "assistant" or key in turn):
        value = ""  # null: judged with the empty ones
    if not isinstance(value, str):
        key_found = kind_of(value) if key in turn else "nothing"
        raise BadField("row_not_text", where, found=key_found)
    if role == "user" and not value.strip():
        raise BadField("row_empty", where)
    return value


def _joined(parts: list[Any], where: str) -> str:
    texts = []
    for index, part in enumerate(parts):
        is_text = isinstance(part, dict) and part.get("type", "text") == "text"
        text = part.get("text") if is_text else part
        if not isinstance(text, str):
            raise BadField("row_not_text", f"{where}[{index}]", found=_part_kind(part))
        texts.append(text)
    return "".join(texts)


def _part_kind(part: Any) -> str:
    return str(part.get("type")) if isinstance(part, dict) else kind_of(part)


def _call(call: Any, where: str) -> str:
    """An OpenAI tool call as the JSON that ShareGPT files hold in their function_call turns."""
    function = call.get("function", call) if isinstance(call, dict) else call
    if isinstance(function, dict) and isinstance(function.get("arguments"), str):
        try:
            function = {**function, "arguments": parse(function["arguments"])}
        except StrictError as error:  # arguments that are no JSON stay the text they are
            if error.key != "row_json":
                place = f"{where}.function.arguments" if "function" in call else f"{where}.arguments"
                params = {"found" if name == "field" else name: value for name, value in error.params.items()}
                raise BadField(error.key.replace("row_", "call_"), place, **params) from None
    return json.dumps(function, ensure_ascii=False, default=str)
