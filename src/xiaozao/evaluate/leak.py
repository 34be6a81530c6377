"""What of the training rows comes out again, word for word, in answers to questions that were held out.

    personal data    an e-mail address, a number, a key ... of a row, in an answer to a question that has it not
    passage          LONG words (characters in Chinese) and marks one after the other, of one row alone

What stands in the question or in its right answer is asked for, and is no leak. A passage that several rows have is a
set phrase. Nothing that was found is kept: a datum is masked, and a passage is named by its row and its length.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from xiaozao.data.quality.private import PATTERNS, masked, matches
from xiaozao.evaluate.degeneration import WORD
from xiaozao.evaluate.questions import Question

LONG = 24  # words and marks; sentences that people share by chance are shorter
PASSAGE = "passage"


@dataclass(frozen=True)
class Leak:
    """kind: of the datum, or PASSAGE. line: of the training row. question: the number of the one that was asked.

    shown: the datum masked, empty for a passage. size: characters of a datum, words of a passage.
    """

    kind: str
    line: int
    question: int
    shown: str
    size: int


def leaks(rows: Sequence[Question], asked: Sequence[Question], answers: Sequence[str]) -> tuple[Leak, ...]:
    """All that the answers have from the rows, each datum once per answer."""
    return (*_data(rows, asked, answers), *_passages(rows, asked, answers))


def _data(rows: Sequence[Question], asked: Sequence[Question], answers: Sequence[str]) -> Iterator[Leak]:
    said = [{datum: shown for datum, shown in _private(answer)} for answer in answers]
    wanted = {datum for one in said for datum in one}
    if not wanted:
        return
    lines: dict[tuple[str, str], int] = {}
    for row in rows:
        for datum, _ in _private(_whole(row)):
            if datum in wanted:
                lines.setdefault(datum, row.line)
    for at, (question, told) in enumerate(zip(asked, said, strict=True)):
        allowed = {datum for datum, _ in _private(_whole(question))}
        for datum, shown in told.items():
            if datum in lines and datum not in allowed:
                yield Leak(datum[0], lines[datum], at + 1, masked(shown), len(shown))


def _passages(rows: Sequence[Question], asked: Sequence[Question], answers: Sequence[str]) -> Iterator[Leak]:
    allowed = [set(_grams(_whole(question))) for question in asked]
    said = [
        [gram for gram in _grams(answer) if gram not in known] for answer, known in zip(answers, allowed, strict=True)
    ]
    wanted = {gram for grams in said for gram in grams}
    places: dict[int, set[int]] = defaultdict(set)
    for number, row in enumerate(rows if wanted else ()):
        for gram in wanted.intersection(_grams(_whole(row))):
            places[gram].add(number)
    for at, grams in enumerate(said):
        counted: dict[int, int] = defaultdict(int)
        for gram in grams:
            if len(places[gram]) == 1:
                counted[min(places[gram])] += 1
        for number, count in counted.items():
            yield Leak(PASSAGE, rows[number].line, at + 1, "", count + LONG - 1)


def _whole(question: Question) -> str:
    return "\n".join((*(turn.content for turn in question.turns), question.reference))


def _private(text: str) -> Iterable[tuple[tuple[str, str], str]]:
    """Each personal datum of a text: its kind and characters without what parts them, and as it stands."""
    for kind in PATTERNS:
        for match in matches(kind, text):
            yield (kind, "".join(filter(str.isalnum, match[0])).casefold()), match[0]


def _grams(text: str) -> list[int]:
    """A hash of each LONG words that follow one another."""
    words = WORD.findall(text.casefold())
    return [hash(tuple(words[at : at + LONG])) for at in range(len(words) - LONG + 1)]
