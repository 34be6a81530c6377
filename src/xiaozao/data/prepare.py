"""From files to samples: the file to read first.

    DataSpec -> survey  every row is read once: problems, drops, the question and label of each conversation
             -> choose  a seeded sample of rows, and which of them validate
             -> write   the chosen ones are read again and become tokens, straight onto the disk
             -> PreparedData, mapped from a cache folder whose name is the fingerprint of all that went in

Reading twice keeps the memory flat. Every row that was read is accounted for, over both files:
rows_read == rows_used + rows_validation + the sum of dropped.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xiaozao.data.cache import Counts, PreparedData, fingerprint_of, open_or_make
from xiaozao.data.conversations import ConversationFile, notes_in, open_conversations, read_conversations
from xiaozao.data.formats import Conversation, Dropped
from xiaozao.data.samples import Samples, SamplesWriter
from xiaozao.data.split import choose, divide
from xiaozao.data.survey import Survey, stop_at_problems, survey
from xiaozao.data.tokenising import Encodings, tokenise_all
from xiaozao.data.tokens import ChatTokenizer, Encoded
from xiaozao.errors import DataError, Problem
from xiaozao.events import OnProgress
from xiaozao.machine.hardware import cores
from xiaozao.spec.objectives import FORMATS, KINDS, those_of
from xiaozao.spec.parts import DataSpec

__all__ = ["Counts", "PreparedData", "Samples", "prepare", "read_conversations"]

Sequences = tuple[Encoded, ...]  # of one sample: one, or of a preference pair the chosen and the rejected one
TRAIN, VALIDATION, NOT_SAMPLED = "train", "validation", "not_sampled"


def prepare(
    spec: DataSpec, model_folder: Path, seed: int, cache: Path, on_progress: OnProgress, objective: str = "sft"
) -> PreparedData:
    """The samples of a run, from the cache if they were prepared before.

    Raises DataError (data of another kind than the objective learns from; rows that cannot be used, listed; nothing
    left to train), NotFound, UnsupportedModel, EnvironmentProblem. on_progress: stage, done, total.
    """
    file = open_conversations(spec)
    other = None
    if isinstance(spec.validation, str) and spec.validation != "none":
        other = ConversationFile(Path(spec.validation), spec)
    tokenizer = ChatTokenizer.from_folder(model_folder, spec.template)
    files = [*file.members, *([other] if other else [])]
    fingerprint = fingerprint_of(spec, KINDS[objective], seed, tokenizer.fingerprint, files)

    def make(folder: Path) -> Counts:
        return _Preparation(spec, objective, seed, tokenizer, folder, on_progress).run(file, other)

    return open_or_make(cache / "data" / fingerprint, fingerprint, make)


@dataclass
class _Preparation:
    """The work on one cache folder."""

    spec: DataSpec
    objective: str
    seed: int
    tokenizer: ChatTokenizer
    folder: Path
    on_progress: OnProgress
    dropped: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    untrained: int = 0
    unreasoned: int = 0
    reasoned: int = 0
    alike: int = 0
    lost: dict[str, Counter[str]] = field(default_factory=lambda: {TRAIN: Counter(), VALIDATION: Counter()})

    def run(self, file: ConversationFile, other: ConversationFile | None) -> Counts:
        """Survey, choose, write."""
        surveyed = self._survey(file, self.spec.stratify)
        theirs = self._survey(other, None) if other is not None else None
        parts = self._parts(file, surveyed)
        self._write(file, surveyed, parts, [TRAIN, *([VALIDATION] if VALIDATION in parts else [])])
        overlap = 0
        if other is not None and theirs is not None:
            self._write(other, theirs, [VALIDATION] * len(theirs.questions), [VALIDATION])
            asked = set(theirs.questions)
            trained = zip(surveyed.questions, parts, strict=True)
            overlap = sum(part == TRAIN and question in asked for question, part in trained)
        surveys = [surveyed, *([theirs] if theirs else [])]
        counts = Counts(
            rows_read=sum(one.rows_read for one in surveys),
            rows_used=self.used[TRAIN],
            rows_validation=self.used[VALIDATION],
            dropped=dict(sorted((sum((one.dropped for one in surveys), Counter()) + self.dropped).items())),
            problems=tuple(problem for one in surveys for problem in one.problems),
            notes=(*file.notes, *(notes_in(other) if other is not None else ())),
            overlap=overlap,
            untrained=self.untrained,
            unreasoned=self.unreasoned,
            reasoned=self.reasoned,
            alike=self.alike,
        )
        if counts.rows_read != counts.rows_used + counts.rows_validation + sum(counts.dropped.values()):
            raise AssertionError(f"rows got lost: {counts}")
        return counts

    def _survey(self, file: ConversationFile, stratify: str | None) -> Survey:
        grouped = isinstance(self.spec.validation, int | float)  # only then is this file divided
        surveyed = survey(file, stratify, self.on_progress, grouped=grouped)
        check_kind(file, self.objective)
        if self.spec.bad_rows == "stop":
            stop_at_problems(file, surveyed)
        if not surveyed.questions:
            raise _nothing_left(file, surveyed.rows_read, surveyed.dropped)
        return surveyed

    def _parts(self, file: ConversationFile, surveyed: Survey) -> list[str]:
        """For each conversation: TRAIN, VALIDATION or NOT_SAMPLED."""
        count = len(surveyed.questions)
        chosen = choose(count, self.spec.rows or count, self.seed, surveyed.labels or None)
        parts = np.full(count, NOT_SAMPLED, dtype=object)
        parts[chosen] = TRAIN
        if isinstance(self.spec.validation, int) and self.spec.validation >= len(chosen):
            asked = self.spec.validation
            raise DataError("data_validation_rows", path=file.source.path, validation=asked, rows=len(chosen))
        if isinstance(self.spec.validation, int | float):
            held = self._held(surveyed, chosen, self.spec.validation)
            if not held.any():
                raise DataError("data_too_few", path=file.source.path, rows=len(chosen))
            parts[chosen[held]] = VALIDATION
        return [str(part) for part in parts]

    def _held(self, surveyed: Survey, chosen: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
        """Which of the chosen rows validate. Near duplicates stay together where the file allows it; `alike` counts the
        held-out rows that have one in training."""
        groups, strata = surveyed.groups(), surveyed.strata()
        keys, questions, components = (
            [names[index] for index in chosen] for names in (groups.keys, surveyed.questions, groups.components)
        )
        held = divide((keys, questions), share, self.seed, [strata[index] for index in chosen] if strata else None)
        trained = {component for component, is_held in zip(components, held, strict=True) if not is_held}
        self.alike = sum(components[index] in trained for index in np.flatnonzero(held))
        return held

    def _write(self, file: ConversationFile, surveyed: Survey, parts: list[str], names: list[str]) -> None:
        """Read a file again and write the tokens of its chosen conversations."""
        writers = {name: SamplesWriter(self.folder / name) for name in names}
        late = Survey(rows_read=surveyed.rows_read)
        chosen = _Chosen(file, parts, self.on_progress)
        try:
            for conversation, samples in tokenise_all(self.tokenizer, chosen.rows(), self.spec, cores()):
                part = chosen.parts.popleft()
                self._write_one(file, conversation, samples, part, writers[part], late)
        finally:
            for writer in writers.values():
                writer.close()
        if chosen.seen != len(parts):
            raise DataError("data_changed", path=file.source.path)
        if chosen.left_out:
            self.dropped[NOT_SAMPLED] += chosen.left_out
        if self.spec.bad_rows == "stop" or "row_too_long" in late.dropped:
            stop_at_problems(file, late)
        surveyed.problems += late.problems
        self.dropped.update(late.dropped)
        for name, writer in writers.items():
            if not len(writer):
                raise _nothing_left(file, parts.count(name), self.lost[name], name)

    def _write_one(
        self, file: ConversationFile, conversation: Conversation, samples: Encodings | Problem, part: str,
        writer: SamplesWriter, late: Survey,
    ) -> None:  # fmt: skip
        if not isinstance(samples, Problem) and KINDS[self.objective] == "texts":
            for piece in pieces(samples[0][0], self.spec.length):
                writer.add((piece,), conversation.line)
            self.used[part] += conversation.rows
            return
        fitting = samples if isinstance(samples, Problem) else fit_row(samples, conversation, self.spec)
        if isinstance(fitting, Problem):
            late.add_problem(file.placed(fitting))
            late.dropped[fitting.key] += conversation.rows - 1
            self.lost[part][fitting.key] += conversation.rows
        elif isinstance(fitting, Dropped):
            self.dropped[fitting.reason] += fitting.rows
            self.lost[part][fitting.reason] += fitting.rows
        else:
            for sample in fitting.samples:
                writer.add(sample, conversation.line, conversation.liked)
            self.used[part] += conversation.rows
            self.untrained += fitting.untrained
            self.unreasoned += fitting.unreasoned
            self.reasoned += fitting.samples[0][0].thinks


class _Chosen:
    """The chosen rows of a file as they are read again. parts: those of the rows that were given and not yet written.

    seen: rows that were read; left_out: rows of the file that were not sampled. Raises DataError for a file that has
    more rows than before.
    """

    def __init__(self, file: ConversationFile, parts: list[str], on_progress: OnProgress) -> None:
        self._file, self._all, self._on_progress = file, parts, on_progress
        self.parts: deque[str] = deque()
        self.seen = self.left_out = 0

    def rows(self) -> Iterator[Conversation]:
        for conversation in (one for one in self._file if isinstance(one, Conversation)):
            if self.seen == len(self._all):
                raise DataError("data_changed", path=self._file.source.path)
            if self.seen % max(1, len(self._all) // 100) == 0:
                self._on_progress("data_tokens", self.seen, len(self._all))
            part = self._all[self.seen]
            self.seen += 1
            if part == NOT_SAMPLED:
                self.left_out += conversation.rows
            else:
                self.parts.append(part)
                yield conversation


def check_kind(file: ConversationFile, objective: str) -> None:
    """Raise DataError if a file holds another kind of data than the objective learns from."""
    for member in file.members:
        kind, wanted = FORMATS.get(member.format, "answers"), KINDS[objective]
        plain = wanted == "answers" and kind == "texts"  # conversations or texts: both are sft's
        if member.format and kind != wanted and not plain:
            raise DataError(
                f"data_{kind}", path=member.source.path, format=member.format, objective=objective,
                wanted=those_of(wanted), fitting=those_of(kind), plain=member.plain,
            )  # fmt: skip


@dataclass(frozen=True)
class Fitting:
    """The samples of a row that can be used. untrained: answers that are in none; unreasoned: turns without their
    reasoning."""

    samples: Encodings
    untrained: int
    unreasoned: int


def fit_row(samples: Encodings, conversation: Conversation, spec: DataSpec) -> Fitting | Dropped | Problem:
    """The samples of a row, each cut or left out as spec.truncation says, or why none of them can be used."""
    verdicts = [fit(sample, conversation, spec) for sample in samples]
    kept = tuple(verdict for verdict in verdicts if isinstance(verdict, tuple))
    problem = next((verdict for verdict in verdicts if isinstance(verdict, Problem)), None)
    if problem is not None:
        return problem
    if not kept:
        return next(verdict for verdict in verdicts if isinstance(verdict, Dropped))
    whole = samples[0][0]
    return Fitting(kept, len(verdicts) - len(kept), max(one.unreasoned for one in (whole, *samples[-1])))


def fit(sample: Sequences, conversation: Conversation, spec: DataSpec) -> Sequences | Dropped | Problem:
    """The sample with at most spec.length tokens per sequence, as spec.truncation says, or why it cannot be used.

    A cut leaves whole tokens; on the left both answers of a pair lose the same part of their prompt. The first token
    of a sequence is never a target, because nothing stands before it.
    """
    line, tokens, length = conversation.line, max(len(one.ids) for one in sample), spec.length
    if tokens > length:
        if spec.truncation == "error":
            return Problem("row_too_long", {"line": line, "tokens": tokens, "length": length})
        if spec.truncation == "drop":
            return Dropped("too_long", line, conversation.rows)
        kept = slice(length) if spec.truncation == "right" else slice(tokens - length, None)
        sample = tuple(_part(one, kept) for one in sample)
    learned = all(one.targets.any() for one in sample)
    return sample if learned else Dropped("no_target", line, conversation.rows)


def pieces(text: Encoded, length: int) -> list[Encoded]:
    """Cut a text of any length into consecutive pieces of at most `length` tokens.

    A piece begins with the last token of the piece before, so that each token but the text's first is learned once.
    """
    starts = range(0, max(1, len(text.ids) - 1), length - 1)
    return [_part(text, slice(start, start + length)) for start in starts]


def _part(sample: Encoded, kept: slice) -> Encoded:
    targets = sample.targets[kept].copy()
    targets[:1] = False
    return replace(sample, ids=sample.ids[kept], targets=targets)


def _nothing_left(file: ConversationFile, rows: int, dropped: Counter[str], part: str = TRAIN) -> DataError:
    key = "data_nothing_left" if part == TRAIN else "data_nothing_validates"
    return DataError(key, path=file.source.path, rows=rows, reasons=dict(dropped.most_common()))
