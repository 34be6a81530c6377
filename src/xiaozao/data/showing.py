"""One row of a file: its conversation, and the tokens that a model would see of it.

row -> Conversation -> encode_row, fit_row -> sequences of tokens
    -> runs: neighbours that are all learned, all context, or one special token each
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from xiaozao.data.conversations import open_conversations
from xiaozao.data.formats import Conversation, Dropped
from xiaozao.data.prepare import fit_row
from xiaozao.data.rows import FILE_LINES, line_text
from xiaozao.data.tokenising import tokenise
from xiaozao.data.tokens import ChatTokenizer, Encoded
from xiaozao.data.writing import to_messages
from xiaozao.errors import DataError, Problem
from xiaozao.spec.parts import DataSpec
from xiaozao.texts.catalogue import has


@dataclass(frozen=True)
class Run:
    """Neighbouring tokens of one kind, as text. learned: whether they carry loss. special: it is one such token."""

    text: str
    ids: tuple[int, ...]
    learned: bool
    special: bool


@dataclass(frozen=True)
class Sequence:
    """What is fed at once: the side of a pair ("chosen", "rejected"), or "" of any other row."""

    side: str
    ids: tuple[int, ...]
    targets: tuple[bool, ...]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Shown:
    """A row. samples: without a model none, else one or more, each of one or two sequences.

    tokens: of its longest sequence before any cut. outcome: why a run would not take it, or "".
    """

    line: int | str
    conversation: dict[str, Any]
    samples: tuple[tuple[Sequence, ...], ...]
    tokens: int
    outcome: str


def show_row(spec: DataSpec, line: int, model: Path | None) -> Shown:
    """The row that begins on a line, from 1; of several files FILE_LINES * file + line.

    Raises DataError: there is no such row, it cannot be used, or the model's template refuses it.
    """
    conversation = _find(spec, line)
    document = to_messages(conversation)
    if model is None:
        return Shown(line_text(line), document, (), 0, "")
    tokenizer = ChatTokenizer.from_folder(model, spec.template)
    samples = tokenise(tokenizer, conversation, spec)
    if isinstance(samples, Problem):
        raise _unusable(spec, samples)
    tokens = max(len(one.ids) for sample in samples for one in sample)
    fitting = fit_row(samples, conversation, spec)
    if isinstance(fitting, Problem):
        raise _unusable(spec, fitting)
    kept = samples if isinstance(fitting, Dropped) else fitting.samples
    shown = tuple(_sequences(tokenizer, sample) for sample in kept)
    return Shown(line_text(line), document, shown, tokens, fitting.reason if isinstance(fitting, Dropped) else "")


def _sequences(tokenizer: ChatTokenizer, sample: tuple[Encoded, ...]) -> tuple[Sequence, ...]:
    sides = ("chosen", "rejected") if len(sample) == 2 else ("",)
    return tuple(
        Sequence(side, tuple(one.ids.tolist()), tuple(one.targets.tolist()), tuple(runs(tokenizer, one)))
        for side, one in zip(sides, sample, strict=True)
    )


def runs(tokenizer: ChatTokenizer, encoded: Encoded) -> Iterator[Run]:
    """The tokens of a sequence as runs. A run is decoded as a whole, because a character may have several tokens."""
    ids, targets = encoded.ids.tolist(), encoded.targets.tolist()
    special = [_is_special(tokenizer, token) for token in ids]
    keys = [(targets[at], at if special[at] else -1) for at in range(len(ids))]
    start = 0
    for (learned, at), members in groupby(keys):
        end = start + len(list(members))
        own = tuple(ids[start:end])
        yield Run(tokenizer.decode(own, skip_special=False), own, learned, at >= 0)
        start = end


def _is_special(tokenizer: ChatTokenizer, token: int) -> bool:
    return tokenizer.decode([token], skip_special=False) != "" and tokenizer.decode([token]) == ""


def _find(spec: DataSpec, line: int) -> Conversation:
    file, last = open_conversations(spec), 0
    place, own = divmod(line, FILE_LINES)
    for verdict in file:
        if isinstance(verdict, Problem):
            number = verdict.params.get("line")
            name = file.members[place].source.path.name if place < len(file.members) else ""
            if number in (line, f"{name}:{own}"):
                raise _unusable(spec, verdict)
            continue
        if verdict.line == line and isinstance(verdict, Dropped):
            named = f"dropped.{verdict.reason}"
            reason = {"text": named} if has(named) else verdict.reason
            raise DataError("show_dropped", path=file.source.path, row=line_text(line), reason=reason)
        if isinstance(verdict, Conversation):
            if verdict.line == line:
                return verdict
            last = max(last, verdict.line)
    key = "show_no_row" if last else "show_nothing"
    raise DataError(key, path=file.source.path, row=line_text(line), last=line_text(last))


def _unusable(spec: DataSpec, problem: Problem) -> DataError:
    return DataError("show_unusable", [problem], path=spec.data, row=problem.params.get("line", "?"))
