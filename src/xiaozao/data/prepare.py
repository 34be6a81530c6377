"""From files to samples: the file to read first.

    DataSpec -> survey  every row is read once: problems, drops, the question and label of each conversation
             -> choose  a seeded sample of rows, and which of them validate
             -> write   the chosen ones are read again and become tokens, straight onto the disk
             -> PreparedData, mapped from a cache folder whose name is the fingerprint of all that went in

Reading twice keeps the memory flat. Every row that was read is accounted for, over both files:
rows_read == rows_used + rows_validation + the sum of dropped.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xiaozao.data.cache import Counts, PreparedData, fingerprint_of, open_or_make
from xiaozao.data.conversations import ConversationFile, open_conversations, read_conversations
from xiaozao.data.formats import Conversation, Dropped
from xiaozao.data.samples import Samples, SamplesWriter
from xiaozao.data.split import choose, hold_out
from xiaozao.data.survey import Survey, stop_at_problems, survey
from xiaozao.data.tokens import ChatTokenizer, Encoded
from xiaozao.errors import DataError, Problem
from xiaozao.events import OnProgress
from xiaozao.spec.objectives import FORMATS, KINDS, those_of
from xiaozao.spec.parts import DataSpec

__all__ = ["Counts", "PreparedData", "Samples", "prepare", "read_conversations"]

Sequences = tuple[Encoded, ...]  # of one sample: one, or of a preference pair the chosen and the rejected one
Encodings = tuple[Sequences, ...]  # of one row: one sample, and one more for each answer that needs its own
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
    tokenizer = ChatTokenizer.from_folder(model_folder)
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
            notes=file.notes,
            overlap=overlap,
            untrained=self.untrained,
            unreasoned=self.unreasoned,
        )
        if counts.rows_read != counts.rows_used + counts.rows_validation + sum(counts.dropped.values()):
            raise AssertionError(f"rows got lost: {counts}")
        return counts

    def _survey(self, file: ConversationFile, stratify: str | None) -> Survey:
        surveyed = survey(file, stratify, self.on_progress)
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
            held = hold_out([surveyed.questions[index] for index in chosen], self.spec.validation, self.seed)
            if not held.any():
                raise DataError("data_too_few", path=file.source.path, rows=len(chosen))
            parts[chosen[held]] = VALIDATION
        return [str(part) for part in parts]

    def _write(self, file: ConversationFile, surveyed: Survey, parts: list[str], names: list[str]) -> None:
        """Read a file again and write the tokens of its chosen conversations."""
        writers = {name: SamplesWriter(self.folder / name) for name in names}
        late = Survey(rows_read=surveyed.rows_read)
        seen = 0
        try:
            for conversation in (one for one in file if isinstance(one, Conversation)):
                if seen == len(parts):
                    raise DataError("data_changed", path=file.source.path)
                if seen % max(1, len(parts) // 100) == 0:
                    self.on_progress("data_tokens", seen, len(parts))
                if parts[seen] == NOT_SAMPLED:
                    self.dropped[NOT_SAMPLED] += conversation.rows
                else:
                    self._write_one(file, conversation, parts[seen], writers[parts[seen]], late)
                seen += 1
        finally:
            for writer in writers.values():
                writer.close()
        if seen != len(parts):
            raise DataError("data_changed", path=file.source.path)
        if self.spec.bad_rows == "stop" or "row_too_long" in late.dropped:
            stop_at_problems(file, late)
        surveyed.problems += late.problems
        self.dropped.update(late.dropped)
        for name, writer in writers.items():
            if not len(writer):
                raise _nothing_left(file, parts.count(name), self.lost[name], name)

    def _write_one(
        self, file: ConversationFile, conversation: Conversation, part: str, writer: SamplesWriter, late: Survey
    ) -> None:
        samples = tokenise(self.tokenizer, conversation, self.spec)
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


def tokenise(tokenizer: ChatTokenizer, conversation: Conversation, spec: DataSpec) -> Encodings | Problem:
    """A conversation as tokens of any length, or the reason why the template refuses it.

    Raises DataError if an id has no row in the model's embedding.
    """
    try:
        samples = tokenizer.encode_row(conversation, spec.system, spec.thinking)
    except DataError as error:
        if error.key == "template_place":
            return Problem("row_template_place", {"line": conversation.line, **error.params})
        key = "row_tokenizer" if error.key == "tokenizer_refused" else "row_template"
        return Problem(key, {"line": conversation.line, "detail": error.params["detail"]})
    highest = max(int(one.ids.max(initial=0)) for sample in samples for one in sample)
    if highest >= tokenizer.vocab_size:
        raise DataError("data_vocabulary", line=conversation.line, id=highest, rows=tokenizer.vocab_size)
    return samples


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
    return Encoded(sample.ids[kept], targets, sample.untrained, sample.unreasoned)


def _nothing_left(file: ConversationFile, rows: int, dropped: Counter[str], part: str = TRAIN) -> DataError:
    key = "data_nothing_left" if part == TRAIN else "data_nothing_validates"
    return DataError(key, path=file.source.path, rows=rows, reasons=dict(dropped.most_common()))
