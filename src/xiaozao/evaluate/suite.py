"""What a standard test consists of: items, in suites. The probe ships with the product; others are read from files.

    kind         how an item is asked                                       what is measured
    generated    through the chat template, answered greedily               right or wrong, by a scorer
    choice       a context and several texts that may follow it             whether the right one is the likeliest
    text         a text, or a solution after its problem in the template    bits per byte: fewer are better

A line of a file of choices is one item, in one of these forms:

    {"question": "...", "choices": ["...", "..."], "answer": 0}      answer: place from 0, letter, or the text itself
    {"question": "...", "choices": {"text": [...], "label": ["A", ...]}, "answerKey": "A"}                      (ARC)
    {"goal": "...", "sol1": "...", "sol2": "...", "label": 0}                                                  (PIQA)
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal

from xiaozao.data.formats import Turn
from xiaozao.errors import DataError, NotFound

Kind = Literal["generated", "choice", "text"]
PROBE: dict[str, Kind] = {
    "arithmetic": "generated", "facts": "generated", "logic": "generated", "forms": "generated", "solutions": "text",
    "texts": "text",
}  # fmt: skip
OBEDIENCE = "obedience"
LANGUAGES = ("en", "zh")
LONGEST_LINE = 1 << 20  # bytes of one item
LONGEST_NUMBER = 9  # digits of a place
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Item:
    """One question. ask: what the user says, or the context of a choice; empty for a text that stands alone.

    answers: accepted answers, the texts to choose from, or the one text. check: the scorer's name. right: the place of
    the right choice. chance: the share of guesses that are right. turns: what is said instead of `ask` alone, with the
    tools that may be called and whether the model is asked to think first.
    """

    id: str
    ask: str
    answers: tuple[str, ...]
    check: str = ""
    right: int = 0
    chance: float = 0.0
    turns: tuple[Turn, ...] = ()
    tools: str = ""
    thinking: bool = False

    @property
    def asked(self) -> tuple[Turn, ...]:
        """The conversation that asks it."""
        return self.turns or (Turn("user", self.ask),)


@dataclass(frozen=True)
class Suite:
    """Items of one kind that are judged together."""

    name: str
    kind: Kind
    items: tuple[Item, ...]

    @property
    def chance(self) -> float:
        """The score of somebody who guesses."""
        return sum(item.chance for item in self.items) / len(self.items)

    @property
    def hash(self) -> str:
        """Changes with anything that is asked, accepted or compared."""
        document = [
            [self.kind],
            *([item.id, item.ask, item.answers, item.check, item.right, *_said(item)] for item in self.items),
        ]
        return hashlib.sha256(json.dumps(document, ensure_ascii=False).encode()).hexdigest()


def _said(item: Item) -> list[object]:
    """What a conversation adds to an item."""
    turns = [[turn.role, turn.content] for turn in item.turns]
    return [turns, item.tools, item.thinking] if turns else []


@cache
def probe() -> tuple[Suite, ...]:
    """The suites of the standard tests that ship with the product, by topic and language."""
    return tuple(suite for name, kind in PROBE.items() for suite in _shipped(name, kind))


@cache
def obedience() -> tuple[Suite, ...]:
    """Orders of form that hardly any training data has, by language: does a model still do as it is told?"""
    return tuple(_shipped(OBEDIENCE, "generated"))


def _shipped(name: str, kind: Kind) -> Iterator[Suite]:
    text = (files("xiaozao.evaluate") / "probe" / f"{name}.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    for language in LANGUAGES:
        items = tuple(
            Item(row["id"], row["ask"], tuple(row["answers"]), row["check"], 0, row.get("chance", 0.0))
            for row in rows
            if row["language"] == language
        )
        yield Suite(f"{name}.{language}", kind, items)


def read_choices(name: str, path: Path, limit: int | None = None) -> Suite:
    """The suite of a file of choices, its first `limit` items.

    Raises NotFound for a missing file, DataError for a line that is none of the forms above.
    """
    try:
        with path.open("rb") as file:
            lines = [line for line in _lines(path, file) if line[1].removeprefix(BOM).strip()][:limit]
    except FileNotFoundError:
        raise NotFound("file", name=name, path=path) from None
    except OSError as error:
        raise DataError("data_unreadable", path=path, detail=error.strerror) from None
    items = tuple(_choice(path, number, line) for number, line in lines)
    if not items:
        raise DataError("eval_no_items", path=path)
    return Suite(name, "choice", items)


def hash_of(suites: Sequence[Suite]) -> str:
    """Changes with anything that is asked, of any suite."""
    return hashlib.sha256("".join(f"{one.name} {one.hash}\n" for one in suites).encode()).hexdigest()


def cut(suite: Suite, limit: int | None) -> Suite:
    """The suite with `limit` items, evenly spread."""
    count = len(suite.items) if limit is None else min(limit, len(suite.items))
    return Suite(suite.name, suite.kind, tuple(suite.items[at * len(suite.items) // count] for at in range(count)))


def _lines(path: Path, file: Any) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise DataError("eval_long_line", path=path, line=number, most=LONGEST_LINE)
        yield number, line


def _choice(path: Path, number: int, line: bytes) -> Item:
    try:
        row = json.loads(line.removeprefix(BOM) if number == 1 else line)
        json.dumps(row, ensure_ascii=False).encode()  # half of a pair of surrogates is no character
    except (ValueError, RecursionError):
        raise DataError("eval_not_json", path=path, line=number) from None
    fields: dict[str, Any] = row if isinstance(row, dict) else {}
    choice = _read(fields)
    if choice is None:
        keys = ", ".join(map(str, fields))[:200] or type(row).__name__
        raise DataError("eval_no_choice", path=path, line=number, keys=keys)
    ask, choices, right = choice
    said = [text.strip() for text in choices]
    if twice := next((text for text in said if said.count(text) > 1), None):
        raise DataError("eval_same_choices", path=path, line=number, text=twice[:80])
    return Item(str(number), ask, choices, "", right, 1 / len(choices))


def _read(row: Mapping[str, Any]) -> tuple[str, tuple[str, ...], int] | None:
    """Question, choices and the place of the right one; None where the row has another form."""
    ask, given = row.get("question", row.get("goal")), row.get("choices")
    listed, labels = (given.get("text"), given.get("label")) if isinstance(given, dict) else (given, None)
    if listed is None and {"sol1", "sol2"} <= row.keys():
        listed = [row["sol1"], row["sol2"]]
    if not isinstance(ask, str) or not isinstance(listed, list) or len(listed) < 2:
        return None
    if not all(isinstance(text, str) and text.strip() for text in listed):
        return None
    answer = next((row[name] for name in ("answer", "answerKey", "label", "gold") if name in row), None)
    right = _place(answer, listed, labels if isinstance(labels, list) else None)
    return None if right is None else (ask, tuple(listed), right)


def _place(answer: object, choices: Sequence[str], labels: Sequence[object] | None) -> int | None:
    """The place of the right choice: by label, by text, by letter, or by number from 0."""
    known = [] if labels is None else [str(label) for label in labels]
    if known.count(str(answer)) == 1:
        place = known.index(str(answer))
    elif isinstance(answer, str) and answer in choices:
        place = choices.index(answer)
    elif labels is not None:
        return None
    elif isinstance(answer, str) and len(answer) == 1 and answer.upper() in ascii_uppercase:
        place = ascii_uppercase.index(answer.upper())
    elif isinstance(answer, int) and not isinstance(answer, bool):
        place = answer
    elif isinstance(answer, str) and answer.isdecimal() and len(answer) <= LONGEST_NUMBER:
        place = int(answer)
    else:
        return None
    return place if 0 <= place < len(choices) else None
