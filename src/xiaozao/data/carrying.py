"""Conversations on their way to a process of its own: as JSON, and back."""

from dataclasses import asdict
from typing import Any

from xiaozao.data.calls import Call
from xiaozao.data.formats import Conversation
from xiaozao.data.turns import Turn
from xiaozao.machine.apart import Json

USUAL: tuple[object, ...] = ("", [], True, "", "")  # reasoning, calls, learned, call_id and name of most turns


def written(conversation: Conversation) -> Json:
    """What of a conversation decides its tokens and its faults."""
    values: Json = {"line": conversation.line, "turns": [_written_turn(turn) for turn in conversation.turns]}
    if conversation.text:
        values["text"] = conversation.text
    if conversation.rejected:
        values["rejected"] = [_written_turn(turn) for turn in conversation.rejected]
    if conversation.shared:
        values["shared"] = conversation.shared
    if conversation.tools:
        values["tools"] = conversation.tools
    if conversation.liked is not None:
        values["liked"] = conversation.liked
    if conversation.labels:
        values["labels"] = dict(conversation.labels)
    return values


def read(values: Json) -> Conversation:
    """The conversation that was written."""
    return Conversation(
        turns=tuple(map(_read_turn, values["turns"])), line=values["line"], text=values.get("text", ""),
        labels=values.get("labels", {}), rejected=tuple(map(_read_turn, values.get("rejected", ()))),
        shared=values.get("shared", 0), liked=values.get("liked"), tools=values.get("tools", ""),
    )  # fmt: skip


def _written_turn(turn: Turn) -> list[Any]:
    """The fields of a turn. Most turns are a role and a content."""
    rest = (turn.reasoning, [asdict(call) for call in turn.calls], turn.learned, turn.call_id, turn.name)
    return [turn.role, turn.content] if rest == USUAL else [turn.role, turn.content, *rest]


def _read_turn(values: list[Any]) -> Turn:
    if len(values) == 2:
        return Turn(*values)
    role, content, reasoning, calls, learned, call_id, name = values
    named = tuple(Call(one["name"], one["arguments"], one["id"]) for one in calls)
    return Turn(role, content, reasoning, named, learned, call_id, name)
