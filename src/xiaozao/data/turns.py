"""One message of a conversation, as OpenAI's, ShareGPT's and other files write it -> Turn.

{"role": "user", "content": "hi"}                                   a user turn
{"from": "gpt", "value": "hello"}                                   an assistant turn
"content": [{"type": "text", "text": "a"}, ...]                     text parts are joined
"content": [{"type": "thinking", "thinking": "..."}, ...]           reasoning before the answer
"reasoning_content" | "reasoning" | "thinking": "..."               the same
"tool_calls": [...] | {...} | JSON text, "function_call": {...}     calls of tools (calls.py)
"channel": "analysis"                                               the reasoning of the answer that follows
"weight": 0, "train": false, "loss": false                          the turn is context and is not learned
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from xiaozao.data.badfield import BadField
from xiaozao.data.calls import Call, read_calls, spoken_call
from xiaozao.data.strictjson import kind_of

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function", "function_response", "tool_response", "ipython"), "tool"),
}
CALLING = ("function_call", "tool_call")  # roles whose content is a call
REASONING = ("reasoning_content", "reasoning", "thinking", "thoughts", "reasoning_details")
THOUGHTS = {"thinking": ("thinking", "text"), "reasoning": ("reasoning", "text")}  # part type -> where its text is
LEARNED = ("train", "loss", "trainable")  # fields of a turn that say with true or false whether it is learned

TURNS = 2000  # in one row; each answer in it is rendered with all that was said before


@dataclass(frozen=True)
class Turn:
    """One message. `role` is system, user, assistant or tool.

    reasoning: what an assistant thinks before its answer. calls: the tools that it calls.
    learned: False for an answer that the data marks as context. call_id, name: of the call that a tool answers to.
    """

    role: str
    content: str
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    learned: bool = True
    call_id: str = ""
    name: str = ""

    @property
    def says(self) -> bool:
        """Whether the turn holds anything at all."""
        return bool(self.content.strip() or self.reasoning.strip() or self.calls)

    @property
    def spoken(self) -> str:
        """The content, with calls as a line of JSON each: what a template without calls is given."""
        return "\n".join(filter(None, [self.content, *(spoken_call(call) for call in self.calls)]))


def with_thoughts_joined(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns with an assistant's reasoning, where it is a turn of its own, in the answer that follows it."""
    joined: list[Turn] = []
    for turn in turns:
        before = joined[-1] if joined else None
        alone = before is not None and before.role == "assistant" and not before.content.strip() and not before.calls
        if before is not None and alone and before.reasoning.strip() and turn.role == "assistant":
            thought = "\n".join(filter(None, [before.reasoning, turn.reasoning]))
            joined[-1] = replace(turn, reasoning=thought)
        else:
            joined.append(turn)
    return tuple(joined)


def check_count(turns: Any, where: str) -> None:
    """Raise BadField for more turns than are read in one row."""
    if isinstance(turns, list) and len(turns) > TURNS:
        raise BadField("row_turns", where, count=len(turns), limit=TURNS)


def parse_turn(turn: Any, where: str, role_key: str, content_key: str) -> Turn:
    """A turn from {role_key: ..., content_key: ...}; `where` is its place in the row. Raises BadField."""
    if isinstance(turn, Turn):
        return turn  # of a preference row, which is read in two steps
    if not isinstance(turn, dict):
        raise BadField("row_not_a_turn", where, found=kind_of(turn))
    names = {name.lower(): value for name, value in turn.items()}
    said = names.get(role_key)
    if not isinstance(said, str):
        raise BadField("row_no_field", f"{where}.{role_key}", fields=", ".join(turn))
    said = said.strip().lower()
    role = ROLES.get(said)
    if role is None:
        raise BadField("row_role", f"{where}.{role_key}", found=said[:60], allowed="system, user, assistant, tool")
    learned = _learned(names, where)
    if role != "assistant":
        content, _ = _content(names, f"{where}.{content_key}", content_key, role)
        return Turn(role, content, call_id=_text_of(names, "tool_call_id"), name=_text_of(names, "name"))
    calls = read_calls(names, where)
    content, thought = _content(names, f"{where}.{content_key}", content_key, role)
    if said in CALLING and not calls and (parsed := read_calls({"tool_calls": content}, where, lenient=True)):
        calls, content = parsed, ""
    reasoning = _reasoning(names, thought, where)
    if str(names.get("channel")).lower() in ("analysis", "thinking") and not calls:
        content, reasoning = "", "\n".join(filter(None, [reasoning, content]))
    return Turn(role, content, reasoning, calls, learned)


def _content(turn: Mapping[str, Any], where: str, key: str, role: str) -> tuple[str, str]:
    """The text of a turn, and the reasoning that stands in parts of its content."""
    value, thought = turn.get(key), ""
    if isinstance(value, list):
        value, thought = _joined(value, where)
    if value is None and (role == "assistant" or key in turn):
        value = ""  # null: judged with the empty ones
    if not isinstance(value, str):
        key_found = kind_of(value) if key in turn else "nothing"
        raise BadField("row_not_text", where, found=key_found)
    if role == "user" and not value.strip():
        raise BadField("row_empty", where)
    return value, thought


def _joined(parts: list[Any], where: str) -> tuple[str, str]:
    texts, thoughts = [], []
    for index, part in enumerate(parts):
        kind = part.get("type", "text") if isinstance(part, dict) else ""
        if kind in THOUGHTS:
            thought = next((part[name] for name in THOUGHTS[kind] if isinstance(part.get(name), str)), None)
            if thought is None:
                raise BadField("row_not_text", f"{where}[{index}]", found=kind)
            thoughts.append(thought)
            continue
        text = part.get("text") if kind == "text" else part
        if not isinstance(text, str):
            raise BadField("row_not_text", f"{where}[{index}]", found=_part_kind(part))
        texts.append(text)
    return "".join(texts), "\n".join(thoughts)


def _part_kind(part: Any) -> str:
    return str(part.get("type")) if isinstance(part, dict) else kind_of(part)


def _reasoning(turn: Mapping[str, Any], thought: str, where: str) -> str:
    """What is thought before the answer; the fields repeat each other where there are several."""
    if thought:
        return thought
    for name in REASONING:
        value = turn.get(name)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, list) and value:
            parts = [part.get("text") or part.get("summary") if isinstance(part, dict) else part for part in value]
            texts = [part for part in parts if isinstance(part, str)]
            if len(texts) == len(parts):
                return "\n".join(texts)
        if value is not None and not isinstance(value, str | bool):
            raise BadField("row_not_text", f"{where}.{name}", found=kind_of(value))
    return ""


def _learned(turn: Mapping[str, Any], where: str) -> bool:
    """Whether a turn is learned: `weight` 1 or 0, or one of LEARNED. Raises BadField for anything else."""
    weight = turn.get("weight")
    if weight is not None:
        if isinstance(weight, str | list | dict) or weight not in (0, 1):
            raise BadField("row_weight", f"{where}.weight", found=repr(weight)[:60], allowed="0, 1")
        return bool(weight)
    for name in LEARNED:
        value = turn.get(name)
        if value is not None:
            if not isinstance(value, bool) and (isinstance(value, str | list | dict) or value not in (0, 1)):
                raise BadField("row_weight", f"{where}.{name}", found=repr(value)[:60], allowed="true, false")
            return bool(value)
    return True


def _text_of(turn: Mapping[str, Any], name: str) -> str:
    value = turn.get(name)
    return value if isinstance(value, str) else ""
