"""Signs that a model has fallen apart: pure functions of an answer, and of all answers together."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from xiaozao.evaluate.scorers import plain

GRAM, LOOPS, UNITS = 4, 0.2, 16  # repeated n-grams: their size, the share that is too much, and from how many units on
COPIED = 0.8  # of the question's characters, that stand in the answer as one piece
COLLAPSED, DIFFERENT = 0.2, 5  # share of the questions that get one and the same answer; from how many questions on
LEAK = re.compile(
    r"<\|[\w.-]{2,40}\|>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|^### (?:Response|Instruction)", re.M
)
BLANK = re.compile(r"\{\{[^{}\n]{1,60}\}\}|\[(?:Your|Order|Customer|Company|Insert)[^\]\n]{0,60}\]")
WORD = re.compile(r"[A-Za-z0-9]+|[^\sA-Za-z0-9]")
SIGNS = ("empty", "unended", "loop", "copy", "leak", "blank")


@dataclass(frozen=True)
class Collapse:
    """One answer that many different questions got."""

    answer: str
    count: int


def signs(question: str, answer: str, ended: bool, blanks_allowed: bool = False) -> tuple[str, ...]:
    """The signs that one answer shows, by name.

    ended: whether the model ended it, rather than the limit. blanks_allowed: the right answers have placeholders, too.
    """
    told = {
        "empty": not answer.strip(),
        "unended": not ended,
        "loop": repeated(answer) > LOOPS,
        "copy": _copies(question, answer),
        "leak": LEAK.search(answer) is not None,
        "blank": not blanks_allowed and BLANK.search(answer) is not None,
    }
    return tuple(name for name in SIGNS if told[name])


def repeated(text: str) -> float:
    """The share of 4-grams of words (characters in Chinese) that occurred before; 0 for a short text."""
    units = WORD.findall(text.casefold())
    if len(units) < UNITS:
        return 0.0
    grams = [tuple(units[at : at + GRAM]) for at in range(len(units) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams)


def has_blanks(texts: Sequence[str]) -> bool:
    """Whether right answers have placeholders."""
    return any(BLANK.search(text) for text in texts)


def collapse(questions: Sequence[str], answers: Sequence[str], references: Sequence[str]) -> Collapse | None:
    """The answer that more than a fifth of the questions got though their right answers differ, if there is one."""
    said = [" ".join(plain(one).split()) for one in answers]
    if not said:
        return None
    text, count = Counter(said).most_common(1)[0]
    right = {" ".join(plain(one).split()) for one, mine in zip(references, said, strict=True) if mine == text}
    asked = {plain(one) for one, mine in zip(questions, said, strict=True) if mine == text}
    if len(asked) < DIFFERENT or count <= COLLAPSED * len(said) or len(right) < DIFFERENT:
        return None
    return Collapse(text, count)


def _copies(question: str, answer: str) -> bool:
    asked, said = (" ".join(plain(one).casefold().split()) for one in (question, answer))
    return len(asked) >= UNITS and asked in said and len(asked) >= COPIED * len(said)
