"""`zao data check`: one report on a file before training: formats, lengths, problems and drops."""

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from xiaozao.data.conversations import ConversationFile, notes_in, open_conversations
from xiaozao.data.formats import Conversation, Dropped
from xiaozao.data.prepare import check_kind, fit_row
from xiaozao.data.quality.findings import Found, Hit
from xiaozao.data.quality.inspection import Inspection
from xiaozao.data.quality.looking import Looking
from xiaozao.data.survey import Survey, survey
from xiaozao.data.tokenising import tokenise
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import Problem
from xiaozao.events import OnProgress
from xiaozao.machine.hardware import cores
from xiaozao.spec.objectives import KINDS
from xiaozao.spec.parts import DataSpec
from xiaozao.texts.catalogue import Language

SAMPLES = 2
LONGEST_SHOWN = 2000  # characters of a turn in a sample row


@dataclass(frozen=True)
class TokenStatistics:
    """Lengths of the rows in tokens, before any cut; over_length is the share of rows longer than spec.length.

    A preference pair is as long as its longer side; in `total` and `targets` both count.
    """

    total: int
    targets: int
    p50: int
    p95: int
    longest: int
    over_length: float


@dataclass(frozen=True)
class DataReport:
    """What `check` found. rows_read == rows_used + sum(dropped); `problems` are the first of `problem_count`."""

    path: str
    kind: str
    format: str
    encoding: str
    size: int
    rows_read: int
    rows_used: int
    conversations: int
    dropped: dict[str, int]
    problem_count: int
    problems: tuple[Problem, ...]
    turns: float
    characters: float
    duplicates: int
    fields: tuple[str, ...]
    samples: tuple[dict[str, Any], ...]
    token_statistics: TokenStatistics | None = None
    bad_rows: str = "stop"
    blocks: tuple[Problem, ...] = ()  # what training would stop at, though every row is in order
    doubts: tuple[Problem, ...] = ()  # what training accepts and says: the default validation, what is not learned
    notes: tuple[Problem, ...] = ()  # what the reader guessed, ignored or left out

    findings: tuple[Found, ...] = ()  # of the contents, the gravest first; no obstacle to training
    compared: int = 0  # rows among which near duplicates were looked for

    @property
    def serious(self) -> int:
        """How many kinds of findings are serious."""
        return sum(found.gravity == "serious" for found in self.findings)

    @property
    def tokens(self) -> int:
        """All tokens; 0 where no model was given."""
        return self.token_statistics.total if self.token_statistics else 0

    @property
    def ok(self) -> bool:
        """Whether training could start on it: with bad_rows=drop problems of rows are no obstacle."""
        stops = self.problem_count > 0 and (self.bad_rows == "stop" or "row_too_long" in self.dropped)
        return not stops and not self.blocks and self.rows_used > 0

    def to_json(self, language: Language = "en") -> dict[str, Any]:
        """The report as plain values; problems with their text."""
        document = asdict(replace(self, findings=()))
        for name in ("problems", "blocks", "doubts", "notes"):
            document[name] = [
                {"key": one.key, "text": one.text(language), **{k: _plain(v) for k, v in one.params.items()}}
                for one in getattr(self, name)
            ]
        document["findings"] = [found.to_json(language) for found in self.findings]
        return {**document, "fields": list(self.fields), "samples": list(self.samples), "ok": self.ok}


def check(
    spec: DataSpec,
    model_folder: Path | None,
    on_progress: OnProgress = lambda *_: None,
    objective: str | None = None,
    questions: Path | None = None,
) -> DataReport:
    """Read spec.data and report on it; with `objective`, also whether that objective can learn from it.

    questions: the file of the questions that are held out, which no row of training may hold.

    A file that validates is read as well. Raises DataError only where a file as a whole cannot be read, or holds
    another kind of rows.
    """
    file = open_conversations(spec)
    tokenizer = ChatTokenizer.from_folder(model_folder, spec.template) if model_folder else None
    inspection = Inspection()
    with Looking(inspection, cores()) as looking:
        look = _Look(spec, tokenizer, inspection, looking, cut=objective is not None and KINDS[objective] == "texts")
        surveyed = survey(file, spec.stratify, on_progress, look.see, leave=inspection.leave)
    notes = file.notes  # of the whole file; the findings read parts of it again
    if objective is not None:
        check_kind(file, objective)
    for problem in look.problems:
        surveyed.add_problem(file.placed(problem))
    dropped = surveyed.dropped + look.dropped
    validated, theirs = _validated(spec, surveyed, objective)
    by_default = spec.validation == DataSpec.model_fields["validation"].default
    return DataReport(
        path=str(file.source.path),
        kind=file.source.kind,
        format=file.format,
        encoding=file.source.encoding,
        size=file.source.size,
        rows_read=surveyed.rows_read,
        rows_used=surveyed.rows_read - sum(dropped.values()),
        conversations=len(surveyed.questions),
        dropped=dict(sorted(dropped.items())),
        problem_count=surveyed.problem_count,
        problems=tuple(surveyed.problems),
        turns=look.turns / max(look.conversations, 1),
        characters=look.characters / max(look.conversations, 1),
        duplicates=look.inspection.duplicates,
        fields=tuple(sorted(surveyed.fields)),
        samples=tuple(look.samples),
        token_statistics=look.statistics(),
        bad_rows=spec.bad_rows,
        blocks=() if by_default else validated,
        findings=look.findings(file, judges(spec, questions), on_progress),
        compared=look.inspection.compared,
        doubts=(*look.doubts(), *(validated if by_default else ())),
        notes=(*notes, *theirs),
    )


def judges(spec: DataSpec, questions: Path | None) -> dict[str, ConversationFile]:
    """The files that judge the model, by the kind of a leak: the validation file and the questions."""
    named = {"leak_validation": Path(spec.validation) if isinstance(spec.validation, str) else None}
    if spec.validation == "none":
        named = {}
    files = {**named, "leak_questions": questions}
    return {kind: ConversationFile(path, spec) for kind, path in files.items() if path is not None}


def _validated(
    spec: DataSpec, training: Survey, objective: str | None
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """The problems of the validation data: those of its file, or too few rows to hold any out. And the file's notes.

    Problems of its rows are added to those of the training rows. Raises DataError if the file holds another kind.
    """
    if spec.validation == "none":
        return (), ()
    if isinstance(spec.validation, str):
        file = ConversationFile(Path(spec.validation), spec)
        theirs = survey(file, None, lambda *_: None)
        if objective is not None:
            check_kind(file, objective)
        for problem in theirs.problems:
            named = f"{file.source.path.name}:{problem.params.get('line')}"
            training.add_problem(Problem(problem.key, {**problem.params, "line": named}))
        training.problem_count += theirs.problem_count - len(theirs.problems)
        problems = () if theirs.questions else (Problem("validation_empty", {"path": file.source.path}),)
        return problems, notes_in(file)
    count = min(spec.rows or len(training.questions), len(training.questions))
    if isinstance(spec.validation, int) and spec.validation >= count:
        return (Problem("validation_rows", {"validation": spec.validation, "rows": count}),), ()
    if len(set(training.questions)) < 2:
        return (Problem("too_few", {"rows": count}),), ()
    return (), ()


@dataclass
class _Look:
    """Collects from each conversation what the report needs."""

    spec: DataSpec
    tokenizer: ChatTokenizer | None
    inspection: Inspection
    looking: Looking
    cut: bool = False  # long texts are cut into pieces
    conversations: int = 0
    turns: int = 0
    characters: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)
    lengths: "array[int]" = field(default_factory=lambda: array("q"))
    total: int = 0
    targets: int = 0
    untrained: int = 0
    unreasoned: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def see(self, conversation: Conversation) -> None:
        self.looking.see(conversation)
        self.conversations += 1
        self.turns += len(conversation.turns)
        self.characters += len(conversation.text) + sum(len(turn.content) for turn in conversation.turns)
        if len(self.samples) < SAMPLES:
            self.samples.append(_sample(conversation))
        if self.tokenizer is not None:
            self._count(conversation, self.tokenizer)

    def statistics(self) -> TokenStatistics | None:
        if not self.lengths:
            return None
        p50, p95 = np.percentile(self.lengths, (50, 95), method="higher")
        over = sum(length > self.spec.length for length in self.lengths) / len(self.lengths)
        return TokenStatistics(self.total, self.targets, int(p50), int(p95), max(self.lengths), over)

    def findings(
        self, file: ConversationFile, judges: Mapping[str, ConversationFile], on_progress: OnProgress
    ) -> tuple[Found, ...]:
        """What was found in the contents, with what the tokens tell of the model."""
        if self.lengths:
            self.inspection.measured(max(self.lengths), self.total, self.characters)
        return self.inspection.finish(file, judges, on_progress)

    def doubts(self) -> tuple[Problem, ...]:
        """What is not learned of rows that are used."""
        told = []
        if self.untrained:
            told.append(Problem("untrained_answers", {"count": self.untrained, "length": self.spec.length}))
        if self.unreasoned:
            why = "off" if self.spec.thinking == "off" else "template"
            told.append(Problem(f"unreasoned_{why}", {"count": self.unreasoned}))
        return tuple(told)

    def _count(self, conversation: Conversation, tokenizer: ChatTokenizer) -> None:
        samples = tokenise(tokenizer, conversation, self.spec)
        if not isinstance(samples, Problem):
            sequences = [one for sample in samples for one in sample]
            self.lengths.append(max(len(one.ids) for one in sequences))
            if self.lengths[-1] > self.spec.length and not self.cut:
                excerpt = f"{self.lengths[-1]:,} > {self.spec.length:,}"
                self.inspection.add("cut_at_length", conversation.line, Hit(excerpt), length=self.spec.length)
            self.total += sum(len(one.ids) for one in sequences)
            self.targets += sum(int(one.targets.sum()) for one in sequences)
            if self.cut:
                return
        verdict = samples if isinstance(samples, Problem) else fit_row(samples, conversation, self.spec)
        if isinstance(verdict, Problem):
            self.problems.append(verdict)
            self.dropped[verdict.key] += conversation.rows - 1
        elif isinstance(verdict, Dropped):
            self.dropped[verdict.reason] += verdict.rows
        else:
            self.untrained += verdict.untrained
            self.unreasoned += verdict.unreasoned


def _sample(conversation: Conversation) -> dict[str, Any]:
    turns = [{"role": turn.role, "content": turn.spoken[:LONGEST_SHOWN]} for turn in conversation.turns]
    turns += [
        {"role": f"{turn.role} (rejected)", "content": turn.spoken[:LONGEST_SHOWN]}
        for turn in conversation.rejected[conversation.shared :]
    ]
    return {"line": conversation.line, "turns": turns, "text": conversation.text[:LONGEST_SHOWN]}


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | str) else str(value)
