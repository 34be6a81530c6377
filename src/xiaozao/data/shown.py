"""A row as the model sees it: its conversation, and its tokens in runs that are learned, masked or control tokens."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xiaozao.data.conversations import open_conversations
from xiaozao.data.formats import Conversation, Dropped
from xiaozao.data.prepare import check_kind, fit_row
from xiaozao.data.tokenising import tokenise
from xiaozao.data.tokens import ChatTokenizer, Encoded
from xiaozao.errors import DataError, Problem
from xiaozao.spec.parts import DataSpec


@dataclass(frozen=True)
class Run:
    """Consecutive tokens of one kind and their text. control: a control token, which is a run alone."""

    text: str
    tokens: int
    target: bool
    control: bool


@dataclass(frozen=True)
class ShownSample:
    """One sequence that the model is trained on: runs of its tokens, the tokens, and which of them are learned."""

    runs: tuple[Run, ...]
    ids: tuple[int, ...]
    targets: tuple[bool, ...]


@dataclass(frozen=True)
class ShownRow:
    """A row of a file. samples: empty without a model. left_out: why training does not use the row; None if it does.

    unreasoned: how many turns have reasoning that is in no sample.
    """

    line: int
    conversation: Conversation
    samples: tuple[ShownSample, ...]
    left_out: Problem | Dropped | None
    unreasoned: int = 0

    def to_json(self) -> dict[str, Any]:
        """The row for programs."""
        said = self.conversation
        samples = [
            {"ids": list(one.ids), "targets": list(one.targets), "runs": [asdict(run) for run in one.runs]}
            for one in self.samples
        ]
        left = self.left_out
        reason = left.key if isinstance(left, Problem) else left.reason if left else None
        return {
            "line": self.line, "turns": [asdict(turn) for turn in said.turns], "text": said.text, "tools": said.tools,
            "rejected": [asdict(turn) for turn in said.rejected], "labels": dict(said.labels), "samples": samples,
            "left_out": reason, "unreasoned": self.unreasoned,
        }  # fmt: skip


def show_row(spec: DataSpec, line: int | None, model_folder: Path | None, objective: str = "sft") -> ShownRow:
    """The row that begins at `line` of spec.data, or the first that can be used.

    Raises DataError where there is no such row, or where it cannot be read, with its problem.
    """
    file = open_conversations(spec)
    shown, last = None, 0
    for verdict in file:
        place = _line(verdict)
        last = max(last, place)
        if isinstance(verdict, Conversation) and (line is None or place == line):
            shown = verdict
            break
        if line is not None and place == line and isinstance(verdict, Problem):
            raise DataError("show_problem", [verdict], path=file.source.path, line=line)
        if line is not None and place == line and isinstance(verdict, Dropped):
            raise DataError("show_dropped", path=file.source.path, line=line, reasons={verdict.reason: verdict.rows})
    if shown is None:
        raise DataError("show_no_row", path=file.source.path, line=line or 1, last=last)
    check_kind(file, objective)
    if model_folder is None:
        return ShownRow(shown.line, shown, (), None)
    tokenizer = ChatTokenizer.from_folder(model_folder, spec.template)
    samples = tokenise(tokenizer, shown, spec)
    if isinstance(samples, Problem):
        return ShownRow(shown.line, shown, (), samples)
    fitting = fit_row(samples, shown, spec)
    if isinstance(fitting, Problem | Dropped):
        sequences = [one for sample in samples for one in sample]
        return ShownRow(shown.line, shown, tuple(_shown(tokenizer, one) for one in sequences), fitting)
    sequences = [one for sample in fitting.samples for one in sample]
    return ShownRow(shown.line, shown, tuple(_shown(tokenizer, one) for one in sequences), None, fitting.unreasoned)


def _line(verdict: Conversation | Dropped | Problem) -> int:
    line = verdict.params.get("line") if isinstance(verdict, Problem) else verdict.line
    return line if isinstance(line, int) else 0


def _shown(tokenizer: ChatTokenizer, sample: Encoded) -> ShownSample:
    return ShownSample(
        tuple(_runs(tokenizer, sample)), tuple(sample.ids.tolist()), tuple(map(bool, sample.targets.tolist()))
    )


def _runs(tokenizer: ChatTokenizer, sample: Encoded) -> Iterator[Run]:
    """Texts are decoded as the end of all that stands before them, because a token alone may lose its space."""
    ids, targets = sample.ids.tolist(), sample.targets.tolist()
    start, known = 0, ""
    while start < len(ids):
        control = tokenizer.is_control(ids[start])
        end = start + 1
        while not control and end < len(ids) and targets[end] == targets[start] and not tokenizer.is_control(ids[end]):
            end += 1
        whole = tokenizer.decode(ids[:end], skip_special=False)
        text = whole[len(known) :] if whole.startswith(known) else tokenizer.decode(ids[start:end], skip_special=False)
        yield Run(text, end - start, bool(targets[start]), control)
        start, known = end, whole
