"""What shows only when rows are compared: duplicates, contradictions, labels, lengths, languages.

Per row a few numbers stay in memory (about 50 bytes) and no text. Excerpts of the rows that are shown are read again.
"""

import hashlib
import json
import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xiaozao.data.formats import Conversation
from xiaozao.data.quality.findings import answers, holds
from xiaozao.data.quality.languages import WORDS, spoken
from xiaozao.data.quality.sieve import DIGITS

NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
SPARED = re.compile(r"\n\s*\d{1,2}[.)、]")  # numbers of list items say nothing
DIGIT = re.compile(r"\d")
NUMBER_SHAPE = re.compile(rb"0+(?:[.,:]0+)*")
YES = ("yes", "sure", "of course", "certainly", "absolutely", "可以", "支持", "能", "是的")
NO = {
    "not": ("cannot", "not possible", "does not", "do not"),
    "'": ("can't", "don't"),
    "’": ("can’t", "don’t"),
    "unfortunately": ("unfortunately",),
    "no,": ("no,",),
    "不": ("不可以", "不能", "不支持", "不提供"),
    "无": ("无法",),
    "没": ("没有",),
}  # a sign that is quick to look for -> words with it; fmt: skip
READ = 2000  # characters of an answer whose claims are compared
FEW, MANY_VALUES = 5, 200
SHORT = 40  # characters of an answer that contradicts any other
GREETING = 8  # letters of a question that says nothing: "hello", "在吗"
MINORITY = 0.03
ROWS_FOR_LABELS = 100
ROWS_FOR_LENGTH = 30
LABELS = re.compile(r"(?i)\A(?:intent|label|labels|category|class|topic|type|tag|意图|标签|类别|分类|类型|主题)\Z")


def key_of(text: str) -> int:
    """64 bits of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def bare(text: str) -> str:
    """A text without case, width, punctuation and space: how two people write the same question."""
    if text.isascii():
        return text.lower().encode().translate(None, NO_ALNUM).decode()
    return unicodedata.normalize("NFKC", text).lower().translate(_BARE)


class _Bare(dict[int, int | None]):
    """A table for str.translate that leaves letters and digits."""

    def __missing__(self, code: int) -> int | None:
        self[code] = code if chr(code).isalnum() else None
        return self[code]


_BARE = _Bare()
NO_ALNUM = bytes(code for code in range(128) if not chr(code).isalnum())


def question_key(conversation: Conversation) -> int:
    """What was asked in a row, whoever typed it; 0 for plain text, and for a greeting, which has many answers."""
    asked = "\0".join(bare(turn.content) for turn in conversation.turns if turn.role == "user")
    return key_of(asked) if len(asked) >= (GREETING if asked.isascii() else GREETING // 2) else 0


def whole_key(conversation: Conversation) -> int:
    """Everything in a row that is trained on."""
    parts = [f"{turn.role}\1{turn.content.strip()}\1{turn.reasoning}\1{turn.calls}" for turn in
             (*conversation.turns, *conversation.rejected)]  # fmt: skip
    return key_of("\0".join([*parts, conversation.text.strip(), str(conversation.liked), conversation.tools]))


def claim_key(text: str) -> int:
    """What an answer claims, as far as two answers can be seen to contradict each other: its numbers, yes or no."""
    read = text[:READ].lower()
    numbers = sorted(set(numbers_in(SPARED.sub("\n", f"\n{read}")))) if DIGIT.search(read) else []
    polarity = (
        1
        if any(sign in read and holds(read, words) for sign, words in NO.items())
        else 2
        if read.startswith(YES)
        else 0
    )
    short = bare(text) if len(text) < SHORT else ""
    return key_of(f"{numbers}{polarity}{short}")


def numbers_in(text: str) -> list[str]:
    """The numbers of a text, with what stands between their digits."""
    if not text.isascii():
        return NUMBER.findall(text)
    shape = text.encode().translate(DIGITS)  # every digit as a 0, which is quicker to look for
    return [text[match.start() : match.end()] for match in NUMBER_SHAPE.finditer(shape)]


@dataclass(frozen=True)
class Numbers:
    """What of one row is compared with other rows. labels: those whose name is one of a label."""

    whole: int
    question: int
    answer: int
    claim: int
    length: int
    language: str
    system: bool
    judged: bool
    json: int
    labels: dict[str, str]

    @classmethod
    def of(cls, conversation: Conversation) -> "Numbers":
        given = [turn.content for _, turn in answers(conversation)]
        last = given[-1] if given else ""
        return cls(
            whole=whole_key(conversation),
            question=question_key(conversation),
            answer=key_of(bare(last)) if len(last) >= SHORT and len(given) == 1 else 0,
            claim=claim_key("\n".join(given)) if given else 0,
            length=max(map(len, given), default=len(conversation.text)),
            language=spoken(conversation),
            system=bool(conversation.turns) and conversation.turns[0].role == "system",
            judged=bool(conversation.rejected) or conversation.liked is not None,
            json=_json_state(last) if given else 0,
            labels={name: value for name, value in conversation.labels.items() if LABELS.match(name)},
        )


@dataclass
class Rows:
    """The numbers of all rows, in file order."""

    lines: "array[int]" = field(default_factory=lambda: array("q"))
    whole: "array[int]" = field(default_factory=lambda: array("Q"))
    question: "array[int]" = field(default_factory=lambda: array("Q"))
    answer: "array[int]" = field(default_factory=lambda: array("Q"))
    claim: "array[int]" = field(default_factory=lambda: array("Q"))
    length: "array[int]" = field(default_factory=lambda: array("Q"))
    language: "array[int]" = field(default_factory=lambda: array("B"))
    system: "array[int]" = field(default_factory=lambda: array("B"))
    judged: "array[int]" = field(default_factory=lambda: array("B"))  # a pair, or a verdict: one question, many answers
    json: "array[int]" = field(default_factory=lambda: array("B"))
    languages: list[str] = field(default_factory=lambda: [""])
    labels: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    first: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, line: int, row: "Numbers") -> None:
        """Note a row."""
        self.lines.append(line)
        for name in ("whole", "question", "answer", "claim", "length", "system", "judged", "json"):
            getattr(self, name).append(getattr(row, name))
        if row.language not in self.languages:
            self.languages.append(row.language)
        self.language.append(self.languages.index(row.language))
        for name, value in row.labels.items():
            counted = self.labels[name]
            if value in counted or len(counted) <= MANY_VALUES:
                counted[value] += 1
                self.first.setdefault((name, value), line)

    def __len__(self) -> int:
        return len(self.lines)


def duplicates(rows: Rows) -> Iterator[tuple[int, int]]:
    """Rows that stood before, each with the first row that says the same."""
    for group in groups(numbers(rows.whole)):
        for place in group[1:]:
            yield rows.lines[place], rows.lines[group[0]]


def contradictions(rows: Rows) -> Iterator[tuple[int, int]]:
    """Rows with the question of an earlier row and an answer whose numbers, or yes and no, are others."""
    claims = numbers(rows.claim)
    for same in groups(numbers(rows.question)):
        group = [place for place in same if not rows.judged[place]]
        for place in group[1:]:
            if claims[place] != claims[group[0]] and rows.whole[place] != rows.whole[group[0]]:
                yield rows.lines[place], rows.lines[group[0]]


def same_answer(rows: Rows) -> Iterator[tuple[int, int, int]]:
    """Answers that a tenth of all questions get, and at least ten: (first row, questions, rows in all)."""
    least = max(10, len(rows) // 10)
    asked = numbers(rows.question)
    for group in groups(numbers(rows.answer)):
        different = len(np.unique(asked[group]))
        if different >= least:
            yield rows.lines[int(group[0])], different, len(rows)


def outliers(rows: Rows) -> Iterator[tuple[int, int]]:
    """Rows whose answer is far longer than nearly all others: eight times the 95th percentile."""
    lengths = numbers(rows.length)
    if len(lengths) < ROWS_FOR_LENGTH:
        return
    bound = max(1000.0, 8 * float(np.percentile(lengths, 95)))
    for place in np.flatnonzero(lengths > bound):
        yield rows.lines[int(place)], int(lengths[place])


def main_language(rows: Rows) -> str:
    """The language of most rows; "" where it is not known."""
    counts = np.bincount(numbers(rows.language), minlength=len(rows.languages))
    counts[0] = 0
    return rows.languages[int(counts.argmax())] if counts.any() else ""


def minorities(rows: Rows) -> Iterator[tuple[int, str, str]]:
    """Rows in a language that hardly occurs in the file: (row, its language, the file's language)."""
    spoken_in = numbers(rows.language)
    counts = np.bincount(spoken_in, minlength=len(rows.languages))
    known = {index: int(count) for index, count in enumerate(counts) if count and rows.languages[index]}
    if not known or sum(known.values()) < ROWS_FOR_LENGTH:
        return
    main = max(known, key=lambda index: known[index])
    latin = {"latin", *WORDS} if rows.languages[main] == "latin" else {"latin", rows.languages[main]}
    for index, count in known.items():
        if (
            index != main
            and count < max(2, MINORITY * len(rows))
            and not {rows.languages[index], rows.languages[main]} <= latin
        ):
            for place in np.flatnonzero(spoken_in == index):
                yield rows.lines[int(place)], rows.languages[index], rows.languages[main]


def without_system(rows: Rows) -> Iterator[int]:
    """Rows without a system text in a file where nearly all have one."""
    system = numbers(rows.system)
    if len(system) >= ROWS_FOR_LENGTH and 0.9 <= system.mean() < 1:
        for place in np.flatnonzero(system == 0):
            yield rows.lines[int(place)]


def broken_json(rows: Rows) -> Iterator[int]:
    """Rows whose answer is no JSON object, in a file where nearly all answers are one."""
    states = numbers(rows.json)
    if len(states) >= FEW and np.mean(states == 2) >= 0.8:
        for place in np.flatnonzero(states != 2):
            yield rows.lines[int(place)]


def labels(rows: Rows) -> Iterator[tuple[str, str, str, int, int, int]]:
    """Labels that dominate or hardly occur: (kind, field, value, count, in all, first row)."""
    for name, counted in sorted(rows.labels.items()):
        total = counted.total()
        if total < ROWS_FOR_LABELS or not 2 <= len(counted) <= MANY_VALUES:
            continue
        for value, count in counted.most_common():
            kind = "dominant_label" if count > 0.7 * total else "rare_label" if count < FEW else ""
            if kind:
                yield kind, name, value, count, total, rows.first[name, value]


def groups(keys: "NDArray[np.uint64]") -> Iterator[list[int]]:
    """Places with equal keys, in order; 0 is no key."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.array([], dtype=int)
    ends = np.r_[starts[1:], len(ordered)]
    many = [(int(start), int(end)) for start, end in zip(starts, ends, strict=False) if end - start > 1]
    for start, end in sorted(many, key=lambda span: int(order[span[0]])):
        if ordered[start]:
            yield [int(place) for place in order[start:end]]


def numbers(values: "array[int]") -> "NDArray[np.uint64]":
    """An array as numpy sees it, without a copy of its kind."""
    kinds = {"q": np.int64, "Q": np.uint64, "B": np.uint8}
    if not values:
        return np.array([], np.uint64)
    return np.frombuffer(values, dtype=kinds[values.typecode]).astype(np.uint64)


def _json_state(text: str) -> int:
    """2: a JSON object or array. 1: begins as one and is none. 0: no JSON."""
    bare_ = text.strip()
    if bare_[:1] not in ("{", "["):
        return 0
    try:
        json.loads(bare_)
    except (ValueError, RecursionError):
        return 1
    return 2
