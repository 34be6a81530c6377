"""What is in a file, counted: turns, lengths, languages, the values of its fields, and what a length would cut.

Everything is counted in one pass. A row costs a few integers, so a large file stays cheap.
"""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xiaozao.data.conversations import open_conversations
from xiaozao.data.formats import Conversation
from xiaozao.data.quality.languages import language
from xiaozao.data.survey import survey
from xiaozao.data.tokenising import tokenise
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import Problem
from xiaozao.events import OnProgress
from xiaozao.spec.parts import DataSpec

PERCENTILES = (5, 25, 50, 75, 95, 99)
CUTS = (256, 512, 1024, 2048, 4096, 8192)  # tokens; lengths at which the share of cut rows is told
BINS = 12
STEPS = (1, 2, 5)  # a bin is as wide as one of these times a power of ten
VALUES = 1000  # of a field; one with more tells no kinds
REPEATS = 0.5  # distinct values by row, at most
TURNS, QUESTION, ANSWER, CHARACTERS = "turns", "question_characters", "answer_characters", "characters"
PROMPT_TOKENS, ANSWER_TOKENS, TOKENS = "prompt_tokens", "answer_tokens", "tokens"


@dataclass(frozen=True)
class Lengths:
    """The distribution of one number per row. percentiles: a value of the data for each of PERCENTILES."""

    total: int
    mean: float
    shortest: int
    longest: int
    percentiles: dict[int, int]


@dataclass(frozen=True)
class Bin:
    """How many rows have a length from `start` on and below `end`; the last bin has no end."""

    start: int
    end: int | None
    rows: int


@dataclass(frozen=True)
class Cut:
    """How many rows are longer than so many tokens."""

    length: int
    rows: int
    share: float


@dataclass(frozen=True)
class Census:
    """What was counted. lengths: by TURNS, QUESTION ...; those in tokens only with a model.

    histogram: of `measured`, which is TOKENS with a model and CHARACTERS without. untold: rows that the model's
    template refuses. fields: rows by value, the most frequent first, of each field whose values repeat.
    """

    path: str
    format: str
    encoding: str
    rows_read: int
    conversations: int
    dropped: dict[str, int]
    lengths: dict[str, Lengths]
    measured: str
    histogram: tuple[Bin, ...]
    cuts: tuple[Cut, ...]
    untold: int
    languages: dict[str, int]
    fields: dict[str, dict[str, int]]


def take_census(spec: DataSpec, model: Path | None, on_progress: OnProgress = lambda *_: None) -> Census:
    """Count spec.data, with the tokens of a model's tokenizer if its folder is given.

    Rows that cannot be used are counted under their reason. Raises DataError if the file as a whole cannot be read.
    """
    file = open_conversations(spec)
    counted = _Counting(spec, ChatTokenizer.from_folder(model, spec.template) if model else None)
    surveyed = survey(file, None, on_progress, counted.see)
    numbers = {name: np.array(of_it, dtype=np.int64) for name, of_it in counted.numbers.items() if len(of_it)}
    measured = TOKENS if TOKENS in numbers else CHARACTERS
    cuts = sorted({*CUTS, spec.length}) if TOKENS in numbers else []
    return Census(
        path=str(file.source.path), format=file.format, encoding=file.source.encoding, rows_read=surveyed.rows_read,
        conversations=len(surveyed.questions), dropped=dict(sorted(surveyed.dropped.items())),
        lengths={name: _lengths(of_it) for name, of_it in numbers.items()}, measured=measured,
        histogram=bins(numbers[measured]) if measured in numbers else (),
        cuts=tuple(_cut(numbers[TOKENS], length) for length in cuts), untold=counted.untold,
        languages=dict(counted.languages.most_common()), fields=counted.told_fields(len(surveyed.questions)),
    )  # fmt: skip


@dataclass
class _Counting:
    spec: DataSpec
    tokenizer: ChatTokenizer | None
    numbers: dict[str, "array[int]"] = field(default_factory=dict)
    languages: Counter[str] = field(default_factory=Counter)
    values: dict[str, Counter[str]] = field(default_factory=dict)
    untold: int = 0

    def see(self, conversation: Conversation) -> None:
        answers = [turn for turn in conversation.turns if turn.role == "assistant"]
        said = sum(len(turn.spoken) for turn in answers) + len(conversation.text)
        asked = sum(len(turn.content) for turn in conversation.turns if turn.role != "assistant")
        sizes = {TURNS: len(conversation.turns), QUESTION: asked, ANSWER: said, CHARACTERS: asked + said}
        if self.tokenizer is not None:
            sizes |= self._tokens(self.tokenizer, conversation)
        for name, size in sizes.items():
            self.numbers.setdefault(name, array("q")).append(size)
        self.languages[language_of(conversation.text + "\n".join(turn.content for turn in conversation.turns))] += 1
        for name, value in conversation.labels.items():
            counts = self.values.setdefault(name, Counter())
            if value in counts or len(counts) <= VALUES:
                counts[value] += 1

    def told_fields(self, rows: int) -> dict[str, dict[str, int]]:
        """The fields whose values repeat."""
        most = min(VALUES, REPEATS * rows)
        return {name: dict(counts.most_common()) for name, counts in self.values.items() if len(counts) <= most}

    def _tokens(self, tokenizer: ChatTokenizer, conversation: Conversation) -> dict[str, int]:
        samples = tokenise(tokenizer, conversation, self.spec)
        if isinstance(samples, Problem):
            self.untold += 1
            return {}
        sequences = [sequence for sample in samples for sequence in sample]
        tokens = max(len(sequence.ids) for sequence in sequences)
        learned = sum(int(sequence.targets.sum()) for sequence in sequences)
        return {PROMPT_TOKENS: max(0, tokens - learned), ANSWER_TOKENS: learned, TOKENS: tokens}


def language_of(text: str) -> str:
    """A guess at the language of a text as a code; `latin` for one in Latin letters, `other` for none or several."""
    return language(text) or "other"


def bins(values: NDArray[np.int64]) -> tuple[Bin, ...]:
    """At most BINS bins of one round width up to the 99th percentile, and one for what is longer, if anything is."""
    top = int(np.percentile(values, 99, method="higher"))
    width = next(
        step * 10**power for power in range(12) for step in STEPS if step * 10**power * BINS > top
    )  # fmt: skip
    count = top // width + 1
    edges = [index * width for index in range(count + 1)]
    rows = np.bincount(np.minimum(values // width, count), minlength=count + 1).tolist()
    regular = tuple(Bin(edges[index], edges[index + 1], rows[index]) for index in range(count))
    return (*regular, Bin(edges[count], None, rows[count])) if rows[count] else regular


def _lengths(values: NDArray[np.int64]) -> Lengths:
    percentiles = np.percentile(values, PERCENTILES, method="higher").tolist()
    return Lengths(
        int(values.sum()), float(values.mean()), int(values.min()), int(values.max()),
        {percent: int(value) for percent, value in zip(PERCENTILES, percentiles, strict=True)},
    )  # fmt: skip


def _cut(values: NDArray[np.int64], length: int) -> Cut:
    longer = int((values > length).sum())
    return Cut(length, longer, longer / len(values))


def shares(counts: Mapping[str, int]) -> Sequence[tuple[str, int, float]]:
    """Each value with its count and its share of all."""
    total = sum(counts.values())
    return [(value, count, count / total) for value, count in counts.items()]
