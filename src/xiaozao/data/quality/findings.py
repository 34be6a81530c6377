"""What checks of contents say: a hit in one row, and all hits of a kind together.

Texts of a kind are `finding.KIND` (what), `finding.KIND.why` and `finding.KIND.fix`. A kind that stands in SAFE is
repaired by `--fix` unasked; every other kind can be named in `--drop`, except those of the whole file (OF_FILE).
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from xiaozao.data.formats import Conversation
from xiaozao.data.rows import line_text
from xiaozao.data.turns import Turn
from xiaozao.texts.catalogue import Language, say

EXAMPLES = 3  # hits of a kind that are kept with their excerpt
LISTED = 1000  # rows of a kind that are named in JSON; all are counted
AROUND = 24  # characters on both sides of what an excerpt shows
EXCERPT = 100
WHOLE = {"too_few", "model_language"}
GRAVITY = ("serious", "warning", "note")


@dataclass(frozen=True)
class Hit:
    """One row with a fault. `turn` counts messages from 1; 0 where the row as a whole is meant. other: a second row,
    as a twin has. note: a number or a label that stands before the excerpt."""

    excerpt: str
    turn: int = 0
    other: int = 0
    note: str = ""


@dataclass(frozen=True)
class Example:
    """A hit with its row."""

    line: int
    hit: Hit

    def text(self, language: Language) -> str:
        """Where it is and what it shows, on one line."""
        key = "finding.place" if self.hit.turn else "finding.row"
        where = say(key, language, line=line_text(self.line), turn=self.hit.turn)
        if self.hit.other:
            where = say("finding.with", language, where=where, other=line_text(self.hit.other))
        shown = " · ".join(filter(None, (self.hit.note, self.hit.excerpt)))
        return say("finding.example", language, where=where, excerpt=shown) if shown else where


@dataclass
class Found:
    """All hits of a kind: the rows, and the first of them with excerpts. params: the numbers of its text."""

    kind: str
    gravity: str
    lines: "array[int]" = field(default_factory=lambda: array("q"))
    examples: list[Example] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)

    def add(self, line: int, hit: Hit) -> None:
        """Count a row, and keep its excerpt if it is among the first."""
        self.lines.append(line)
        if len(self.examples) < EXAMPLES:
            self.examples.append(Example(line, hit))

    @property
    def of_file(self) -> bool:
        """Whether the file as a whole is meant, and no row of it."""
        return self.kind in WHOLE

    @property
    def count(self) -> int:
        return len(self.lines)

    def what(self, language: Language) -> str:
        return say(f"finding.{self.kind}", language, **self.params)

    def why(self, language: Language) -> str:
        return say(f"finding.{self.kind}.why", language, **self.params)

    def fix(self, language: Language) -> str:
        return say(f"finding.{self.kind}.fix", language, **self.params)

    def to_json(self, language: Language) -> dict[str, Any]:
        """Plain values, with the texts in the reader's language."""
        return {
            "kind": self.kind, "severity": self.gravity, "count": self.count, "rows": [line_text(line) for line in
            self.lines[:LISTED]], "what": self.what(language), "why": self.why(language), "fix": self.fix(language),
            "examples": [
                {"row": line_text(one.line), "turn": one.hit.turn, "note": one.hit.note, "excerpt": one.hit.excerpt,
                 "other": line_text(one.hit.other) if one.hit.other else None}
                for one in self.examples
            ],
        }  # fmt: skip


Check = Callable[[Conversation], Hit | None]


def said(conversation: Conversation) -> Iterator[tuple[int, Turn]]:
    """The texts that people wrote, with the number of each message: turns but those of tools, or the plain text."""
    if conversation.text:
        yield 0, Turn("text", conversation.text)
    for number, turn in enumerate(conversation.turns, 1):
        if turn.role != "tool" and turn.content:
            yield number, turn
    for number, turn in enumerate(conversation.rejected[conversation.shared :], conversation.shared + 1):
        if turn.role != "tool" and turn.content:
            yield number, turn


def answers(conversation: Conversation) -> Iterator[tuple[int, Turn]]:
    """The answers that are learned and are not only calls of tools."""
    for number, turn in enumerate(conversation.turns, 1):
        if turn.role == "assistant" and turn.learned and not turn.calls:
            yield number, turn


def asked_before(conversation: Conversation, number: int) -> str:
    """What the user said last before message `number`."""
    before = conversation.turns[: number - 1]
    return next((turn.content for turn in reversed(before) if turn.role == "user"), "")


def holds(text: str, signs: Sequence[str]) -> bool:
    """Whether one of the signs stands in a text; quicker than any pattern."""
    for sign in signs:
        if sign in text:
            return True
    return False


def around(text: str, start: int, end: int) -> str:
    """A place in a text with a little of what stands on both sides, on one line."""
    end = min(end, start + EXCERPT)
    left, right = max(0, start - AROUND), min(len(text), end + AROUND)
    shown = " ".join(text[left:right].split())
    return f"{'…' if left else ''}{shown}{'…' if right < len(text) else ''}"


def head(text: str, length: int = EXCERPT) -> str:
    """The beginning of a text on one line."""
    shown = " ".join(text[: length + 1].split())
    return shown if len(text) <= length else f"{shown[:length]}…"


def tail(text: str, length: int = 60) -> str:
    """The end of a text on one line."""
    shown = " ".join(text[-length:].split())
    return shown if len(text) <= length else f"…{shown}"


def by_gravity(kinds: Sequence[Found]) -> list[Found]:
    """The gravest first, and of those the most frequent."""
    return sorted(kinds, key=lambda found: (GRAVITY.index(found.gravity), -found.count, found.kind))
