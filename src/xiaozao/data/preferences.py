"""Preference rows -> ordinary rows, so that they may use every format that a conversation may have.

    a pair, `chosen` and `rejected` being texts, turns, or lists of turns, beside
        messages | conversations | prompt as turns       what was said before
        prompt | question | instruction (+ input) ...    the question as text
        nothing                                          each is a whole conversation; they begin alike
    OpenAI's pair: `input` with messages and tools, `preferred_output`, `non_preferred_output`
    a verdict, `label` (or `kto_tag`) true or false      beside any conversation, or `prompt` and `completion` as
                                                         turns: whether the last answer is a good one

A pair becomes two ordinary rows that differ in the answer; a verdict becomes the row without its label.
"""

from collections.abc import Mapping
from typing import Any

from xiaozao.data.badfield import BadField
from xiaozao.data.calls import TOOLS
from xiaozao.data.strictjson import kind_of
from xiaozao.data.turns import Turn, check_count, parse_turn

Fields = Mapping[str, Any]
SIDES = ("chosen", "rejected")
OPENAI = {"preferred_output": "chosen", "non_preferred_output": "rejected"}
LABELS = ("label", "kto_tag")
GOOD = ("true", "1", "1.0", "yes", "y", "good", "desirable", "chosen", "thumbs_up", "是", "好", "对", "👍")
BAD = ("false", "0", "0.0", "-1", "no", "n", "bad", "undesirable", "rejected", "thumbs_down", "否", "坏", "错", "👎")
WORDS = {**dict.fromkeys(GOOD, True), **dict.fromkeys(BAD, False)}  # how tables write it
STYLES = (("role", "content"), ("from", "value"))


def with_plain_sides(fields: dict[str, Any]) -> dict[str, Any]:
    """Rename the fields of OpenAI's preference files to our names. Other rows come back unchanged."""
    if not OPENAI.keys() <= fields.keys():
        return fields
    asked = fields.get("input")
    inner = asked if isinstance(asked, dict) else {"messages": asked} if isinstance(asked, list) else {}
    rest = {OPENAI.get(name, name): value for name, value in fields.items() if name != "input" or not inner}
    return {**inner, **rest}


def is_pair(fields: Fields) -> bool:
    """Whether a row holds two answers."""
    return set(SIDES) <= fields.keys()


def has_verdict(fields: Fields) -> bool:
    """Whether a row has a verdict on its answer.

    A `label` that is not true or false is an ordinary field of the user's.
    """
    return any(
        isinstance(fields.get(name), bool) or str(fields.get(name)).strip().lower() in ("true", "false")
        for name in LABELS
    )


def has_plain_verdict(fields: Fields) -> bool:
    """Whether a row's label can be read as a verdict: 1 or 0, yes or no. Only the whole file says that it is one."""
    return any(name in fields and str(fields[name]).strip().lower() in WORDS for name in LABELS)


def verdict(fields: Fields) -> tuple[bool, dict[str, Any]]:
    """The verdict on the row's answer, and the row without it. Raises BadField."""
    name = next((name for name in LABELS if name in fields), "")
    if not name:
        raise BadField("row_no_field", LABELS[0], fields=", ".join(fields))
    value = fields[name]
    if not isinstance(value, bool):
        value = WORDS.get(str(value).strip().lower())
    if value is None:
        raise BadField("row_not_verdict", name, found=str(fields[name])[:60])
    rest = {key: one for key, one in fields.items() if key not in LABELS}
    if isinstance(rest.get("prompt"), list):
        check_count(rest["prompt"], "prompt")
        before = [_turn(turn, f"prompt[{index}]") for index, turn in enumerate(rest["prompt"])]
        rest["messages"] = [*before, *_answer(rest.get("completion"), "completion")]
    return value, rest


def sides(fields: Fields, dialogues: tuple[str, ...], questions: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    """The row with the chosen and with the rejected answer, as ordinary rows. Raises BadField."""
    rest = {name: value for name, value in fields.items() if name not in SIDES}
    listed = next((name for name in (*dialogues, "prompt") if isinstance(rest.get(name), list)), "")
    asked = next((name for name in ("instruction", *questions) if isinstance(rest.get(name), str)), "")
    return tuple(_side(fields, rest, side, listed, asked) for side in SIDES)


def _side(fields: Fields, rest: dict[str, Any], side: str, listed: str, asked: str) -> dict[str, Any]:
    answer = _answer(fields[side], side)
    kept = {name: value for name, value in rest.items() if name in ("system", *TOOLS)}
    if any(turn.role == "user" for turn in answer) and answer[0].role != "assistant":
        return {**kept, "messages": answer}
    if listed:
        check_count(rest[listed], listed)
        before = [_turn(turn, f"{listed}[{index}]") for index, turn in enumerate(rest[listed])]
        return {**kept, "messages": [*before, *answer]}
    if not asked:
        raise BadField("row_no_field", "prompt", fields=", ".join(fields))
    if len(answer) != 1:
        raise BadField("row_answer_turns", side, count=len(answer))
    text = answer[0].spoken
    answered = {"output": text} if asked == "instruction" else {"completion": text}
    return {**rest, **answered}


def _answer(value: Any, side: str) -> list[Turn]:
    """The contents of `chosen` or `rejected`, as turns."""
    if isinstance(value, str) or value is None:
        return [Turn("assistant", value or "")]
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list):
        raise BadField("row_not_text", side, found=kind_of(value))
    if not turns:
        raise BadField("row_no_turns", side)
    check_count(turns, side)
    places = [side] if isinstance(value, dict) else [f"{side}[{index}]" for index in range(len(turns))]
    turns_read = [_turn(turn, place) for turn, place in zip(turns, places, strict=True)]
    if len(turns_read) == 1 and turns_read[0].role != "assistant":
        raise BadField("row_role", f"{places[0]}.role", found=turns_read[0].role, allowed="assistant")
    return turns_read


def _turn(turn: Any, place: str) -> Turn:
    names = {str(name).lower() for name in turn} if isinstance(turn, dict) else set()
    role, content = next((style for style in STYLES if names & set(style)), STYLES[0])
    return parse_turn(turn, place, role, content)
