"""A question and its answers where they are no plain texts: numbers, dates, several answers, several rounds.

{"answer": 42}                                           "42", as a table would read it
{"answers": ["a", "b"]} | {"answers": {"text": [...]}}   the first, which is noted if they differ
{"answers": [{"text": "a"}, ...]}                        the same
{"questions": ["q", "r"], "answers": ["a", "b"]}         rounds of one conversation
"""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, TypeGuard

from xiaozao.data.badfield import BadField
from xiaozao.data.fieldnames import ANSWERS, QUESTIONS, TEXTS
from xiaozao.data.fieldtext import listed_texts, plain_name

FLAT = (*QUESTIONS, *ANSWERS, *TEXTS, "input", "chosen", "rejected")  # fields that hold a text
PLURAL = ("answers", "responses", "outputs", "completions", "questions", "queries", "prompts", "instructions")
INSIDE = ("text", "input_text")  # of answers as data sets of questions write them
WITHIN = (*INSIDE, "answer", "response", "output", "completion")  # of one answer among several


def as_text(value: Any) -> Any:
    """A number, a true or a date as text; anything else as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int | float | Decimal):
        return str(value)
    if isinstance(value, date):
        return value.isoformat().replace("T", " ").removesuffix(" 00:00:00")
    return value


def with_plain_texts(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with numbers as text where a text stands, alone or in a list of answers."""
    for name in FLAT:
        if name in fields:
            fields[name] = _plain(listed_texts(fields[name]) if name in PLURAL else fields[name])
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        value = next((value[name] for name in INSIDE if isinstance(value.get(name), list)), value)
    return [as_text(_inner(part)) for part in value] if isinstance(value, list) else as_text(value)


def _inner(part: Any) -> Any:
    """The text of an answer that is an object of its own; anything else as it is."""
    if not isinstance(part, dict) or "role" in part or "from" in part:
        return part
    return next((part[name] for name in WITHIN if isinstance(part.get(name), str)), part)


def first_of(value: Any) -> Any:
    """The first of several answers that says anything; anything else as it is."""
    if not _are_texts(value):
        return value
    return next((text for text in value if text.strip()), "")


def rounds_of(fields: Mapping[str, Any], question: str, answer: str) -> list[tuple[Any, Any]]:
    """The questions of a row with their answers: one, unless both are lists. Raises BadField."""
    asked, answered = fields.get(question), fields.get(answer)
    if not _are_texts(asked):
        return [(asked, answered)]
    if not _are_texts(answered):
        raise BadField("row_rounds", answer, question=question, questions=len(asked), answers=1)
    if len(asked) != len(answered):
        raise BadField("row_rounds", answer, question=question, questions=len(asked), answers=len(answered))
    return list(zip(asked, answered, strict=True))


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def told_of(values: Mapping[str, Any], fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What is to be noted on a row: keys of notes, each with a field. values: as the file has them."""
    told = [
        ("note_number", str(name))
        for name, value in values.items()
        if plain_name(name) in FLAT and isinstance(value, bool | int | float | Decimal)
    ]
    asked = next((name for name in QUESTIONS if name in fields), "")
    answer = next((name for name in ANSWERS if name in fields), "")
    answers = fields.get(answer)
    if not _are_texts(answers):
        return tuple(told)
    if isinstance(fields.get(asked), list):
        return (*told, ("note_rounds", answer)) if len(answers) > 1 else tuple(told)
    several = len({text.strip() for text in answers if text.strip()}) > 1
    return (*told, ("note_first_answer", answer)) if several else tuple(told)
