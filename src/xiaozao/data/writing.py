"""Conversations -> rows of a named format: messages, ShareGPT, Alpaca or OpenAI's.

What a format cannot hold is not guessed: the row is read again, and what differs is named (`losses`).
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TextIO
from uuid import uuid4

from xiaozao.data.calls import Call, plain, spoken_call
from xiaozao.data.formats import Conversation, Turn, format_of, parse_row
from xiaozao.data.preferences import LABELS as VERDICTS
from xiaozao.data.rows import Row

Fields = dict[str, Any]
SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def to_messages(conversation: Conversation) -> Fields:
    """Roles and contents, with reasoning, calls, weights, tools and labels beside them. It holds everything."""
    return _dialogue(conversation, [_message(turn, False) for turn in conversation.turns],
                     [_message(turn, False) for turn in conversation.rejected])  # fmt: skip


def to_openai(conversation: Conversation) -> Fields:
    """The same as OpenAI's fine-tuning files have it: arguments of calls as text, and pairs with an `input`."""
    if conversation.rejected:
        return _preference(conversation)
    return _dialogue(conversation, [_message(turn, True) for turn in conversation.turns],
                     [_message(turn, True) for turn in conversation.rejected])  # fmt: skip


def _preference(conversation: Conversation) -> Fields:
    """A pair as OpenAI's preference files have it."""
    sides = [[_message(turn, True) for turn in side] for side in (conversation.turns, conversation.rejected)]
    shared = conversation.shared
    asked: Fields = {"messages": sides[0][:shared]}
    if conversation.tools:
        asked["tools"] = json.loads(conversation.tools)
    answers = {"preferred_output": sides[0][shared:], "non_preferred_output": sides[1][shared:]}
    return {**_labels(conversation), "input": asked, **answers}


def _dialogue(conversation: Conversation, turns: list[Fields], rejected: list[Fields]) -> Fields:
    row = _labels(conversation)
    if conversation.text:
        return {**row, "text": conversation.text}
    shared = conversation.shared if rejected else len(turns)
    row["messages"] = turns[:shared]
    if rejected:
        row |= {"chosen": turns[shared:], "rejected": rejected[shared:]}
    if conversation.liked is not None:
        row["label"] = conversation.liked
    return row | ({"tools": json.loads(conversation.tools)} if conversation.tools else {})


def _message(turn: Turn, texts: bool) -> Fields:
    """A turn. texts: whether the arguments of calls are JSON text in any case."""
    message: Fields = {"role": turn.role, "content": turn.content}
    if turn.reasoning:
        message["reasoning_content"] = turn.reasoning
    if turn.calls:
        message["tool_calls"] = [_call(call, texts) for call in turn.calls]
    if not turn.learned:
        message["weight"] = 0
    return message | {
        name: text for name, text in (("tool_call_id", turn.call_id), ("name", turn.name)) if text
    }  # fmt: skip


def _call(call: Call, texts: bool) -> Fields:
    arguments = call.arguments if texts or not isinstance(call.values, dict) else call.values
    named = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return {"id": call.id, **named} if call.id else named


def to_sharegpt(conversation: Conversation) -> Fields:
    """Turns `from` and `value`; calls are turns of their own, as LLaMA-Factory reads them."""
    row = _labels(conversation)
    if conversation.text:
        return {**row, "text": conversation.text}
    shared = conversation.shared if conversation.rejected else len(conversation.turns)
    row["conversations"] = _spoken(conversation.turns[:shared])
    if conversation.rejected:
        sides = {"chosen": conversation.turns[shared:], "rejected": conversation.rejected[shared:]}
        row |= {name: _alone(_spoken(turns)) for name, turns in sides.items()}
    if conversation.liked is not None:
        row["kto_tag"] = conversation.liked
    return row | ({"tools": conversation.tools} if conversation.tools else {})


def _alone(turns: list[Fields]) -> Fields | list[Fields]:
    return turns[0] if len(turns) == 1 else turns


def _spoken(turns: Sequence[Turn]) -> list[Fields]:
    return [said for turn in turns for said in _sayings(turn)]


def _sayings(turn: Turn) -> Iterator[Fields]:
    if turn.content or not turn.calls:
        yield {"from": SPEAKERS[turn.role], "value": turn.content}
    if turn.calls:
        calls = [spoken_call(call) for call in turn.calls]
        yield {"from": "function_call", "value": calls[0] if len(calls) == 1 else f"[{', '.join(calls)}]"}


def to_alpaca(conversation: Conversation) -> Fields:
    """Instruction and output; earlier rounds go into `history`, which LLaMA-Factory and Xiaozao read."""
    turns = list(conversation.turns)
    row = _labels(conversation)
    if turns and turns[0].role == "system":
        row["system"] = turns.pop(0).content
    asked = next((turn.content for turn in reversed(turns) if turn.role == "user"), conversation.text)
    row |= {"instruction": asked, "input": ""}
    if conversation.rejected:
        row |= {"chosen": conversation.turns[-1].content, "rejected": conversation.rejected[-1].content}
    else:
        row["output"] = turns[-1].content if turns else ""
    if len(turns) > 2:
        rounds = zip(turns[:-2:2], turns[1:-2:2], strict=False)
        row["history"] = [[question.content, answer.content] for question, answer in rounds]
    learned = [turn.learned for turn in turns if turn.role == "assistant"]
    if len(learned) > 1 and not any(learned[:-1]):
        row["mask_history"] = True
    if conversation.liked is not None:
        row["kto_tag"] = conversation.liked
    return row | ({"tools": conversation.tools} if conversation.tools else {})


TARGETS: dict[str, Callable[[Conversation], Fields]] = {
    "messages": to_messages,
    "sharegpt": to_sharegpt,
    "alpaca": to_alpaca,
    "openai": to_openai,
}
NO_PLACE = {"sharegpt": (), "messages": (), "alpaca": ("texts",), "openai": ("texts",)}


def refused(conversation: Conversation, target: str) -> str:
    """Why a format has no place for a conversation at all, as a key of `convert.left.*`; "" where it has one."""
    return "texts" if conversation.text and "texts" in NO_PLACE[target] else ""


def losses(conversation: Conversation, row: Fields) -> list[str]:
    """What of a conversation is not in a row, as keys of `convert.lost.*`; `turns` if the row reads as another one."""
    read = parse_row(Row(row, conversation.line, 0), format_of(row)) if format_of(row) else None
    if not isinstance(read, Conversation):
        return ["turns"]
    if any(len(one) != len(other) for one, other in _sides(conversation, read)):
        return ["turns"]
    pairs = [pair for one, other in _sides(conversation, read) for pair in zip(one, other, strict=True)]
    if read.text != conversation.text or any(_said(one) != _said(other) for one, other in pairs):
        return ["turns"]
    differ = {
        "reasoning": any(one.reasoning != other.reasoning for one, other in pairs),
        "calls": any(_called(one) != _called(other) for one, other in pairs),
        "call_ids": any(_ids(one) != _ids(other) for one, other in pairs),
        "weights": any(one.learned != other.learned for one, other in pairs if one.role == "assistant"),
        "tools": read.tools != conversation.tools,
        "labels": _labels(read) != _labels(conversation),
        "verdict": (read.liked, read.shared) != (conversation.liked, conversation.shared),
    }
    return [name for name, is_lost in differ.items() if is_lost]


def _labels(conversation: Conversation) -> Fields:
    """The row's other fields. A verdict is not among them, though it is a short field, too."""
    verdicts = () if conversation.liked is None else VERDICTS
    return {name: value for name, value in conversation.labels.items() if name.strip().lower() not in verdicts}


def _sides(conversation: Conversation, read: Conversation) -> list[tuple[tuple[Turn, ...], tuple[Turn, ...]]]:
    return [(conversation.turns, read.turns), (conversation.rejected, read.rejected)]


def _said(turn: Turn) -> tuple[str, str]:
    return turn.role, turn.content


def _called(turn: Turn) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in turn.calls]


def _ids(turn: Turn) -> tuple[str, ...]:
    return (turn.call_id, turn.name, *(call.id for call in turn.calls))


def json_line(values: Mapping[str, Any]) -> str:
    """A row as one line of JSON. Numbers that JSON does not know become null, and text that UTF-8 cannot hold is
    written as escapes."""
    try:
        line = json.dumps(plain(values), ensure_ascii=False, allow_nan=False)
    except ValueError:
        line = json.dumps(_finite(plain(values)), ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(json.loads(line))
    return line


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class RowsFile:
    """A file that rows are written to: an array for a name that ends in .json, else a row per line.

    It has its name only when it is complete; a file of that name is replaced then.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
        self._file: TextIO = self._part.open("x", encoding="utf-8", newline="\n")
        self._array = path.suffix.lower() == ".json"

    def add(self, values: Mapping[str, Any]) -> None:
        """Write a row."""
        before = ("[\n" if not self.count else ",\n") if self._array else ""
        self._file.write(before + json_line(values) + ("" if self._array else "\n"))
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if self._array:
                self._file.write("\n]\n" if self.count else "[]\n")
            self._file.close()
            if error is None:
                self._part.replace(self.path)
        finally:
            self._file.close()
            self._part.unlink(missing_ok=True)
