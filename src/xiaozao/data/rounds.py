"""Rounds of a conversation, a question and its answer in one element, as some files list them -> turns.

{"system": "...", "input": "...", "output": "..."}     {"human": "...", "assistant": "..."}     ["question", "answer"]
"""

from collections.abc import Iterator
from typing import Any

from xiaozao.data.fieldtext import plain_name

SIDES = (
    ("system", "system"),
    *((name, "user") for name in ("input", "human", "user", "question", "prompt", "query", "问", "问题")),
    *((name, "assistant") for name in ("output", "assistant", "answer", "response", "bot", "gpt", "答", "回答")),
)
STYLED = {"role", "content", "from", "value"}  # names that turns have, and rounds have not


def is_round(element: Any) -> bool:
    """Whether an element of a list of turns is a question and its answer."""
    if isinstance(element, list):
        return len(element) == 2 and all(isinstance(text, str) for text in element)
    if not isinstance(element, dict) or any(plain_name(name) in STYLED for name in element):
        return False
    roles = {role for name, role in SIDES if isinstance(_value(element, name), str)}
    return {"user", "assistant"} <= roles


def turns_of(element: Any) -> Iterator[Any]:
    """The turns of a round, as objects with role and content; anything else as it is."""
    if not is_round(element):
        yield element
    elif isinstance(element, list):
        yield {"role": "user", "content": element[0]}
        yield {"role": "assistant", "content": element[1]}
    else:
        for name, role in SIDES:
            text = _value(element, name)
            if isinstance(text, str) and (text.strip() or role == "assistant"):
                yield {"role": role, "content": text}


def _value(element: dict[str, Any], wanted: str) -> Any:
    return next((value for name, value in element.items() if plain_name(name) == wanted), None)
