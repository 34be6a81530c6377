"""One file -> train, validation and questions, by near duplicates, and how near the parts still are.

    survey -> groups of rows that ask nearly the same -> questions first, then validation, the rest trains
           -> the file is read again, and each row is written as it was, as a line of JSON

The messages of a chat log are no rows; there the conversations are written.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from xiaozao.data.conversations import ConversationFile, open_conversations
from xiaozao.data.formats import Conversation
from xiaozao.data.rows import FILE_LINES
from xiaozao.data.split import divide, hold_out
from xiaozao.data.survey import Survey, stop_at_problems, survey
from xiaozao.data.twins import TWIN, Twins
from xiaozao.data.writing import RowsFile, to_messages
from xiaozao.errors import DataError
from xiaozao.events import OnProgress
from xiaozao.spec.parts import DataSpec

TRAIN, VALIDATION, QUESTIONS, UNUSED = PARTS = ("train", "validation", "questions", "unused")
WRITTEN = PARTS[:3]
QUESTION_ROWS, QUESTION_SHARE = 50, 0.1  # by default; of a small file no more than this share


@dataclass(frozen=True)
class Shares:
    """How much each part gets: a share of the rows, or a number of them (an int); 0 for none.

    train: None for all that is left. questions: None for QUESTION_ROWS. by: the field whose values keep their shares;
    None to look for one.
    """

    train: float | None = None
    validation: float = 0.1
    questions: int | float | None = None
    by: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Between:
    """How near two parts are: rows of `part` that have a twin in `other` (cosine >= TWIN), or something like it
    (cosine >= COMPONENT), and the greatest cosine.

    `most` is None below COMPONENT, where it is not looked for.
    """

    part: str
    other: str
    twins: int
    alike: int
    most: float | None


@dataclass(frozen=True)
class Division:
    """The result of splitting one file. rows_read == sum(rows) + sum(dropped).

    rows, conversations: by part; rows that went into no part count under `unused`. groups: the number of groups of near
    duplicates. divided: rows whose group was too large to stay in one part. by: the field whose proportions every part
    keeps, or None. guessed: whether that field was found rather than named.
    """

    path: str
    format: str
    encoding: str
    rows_read: int
    rows: dict[str, int]
    conversations: dict[str, int]
    dropped: dict[str, int]
    groups: int
    divided: int
    by: str | None
    guessed: bool
    between: tuple[Between, ...]
    files: dict[str, Path]
    as_conversations: bool


def divide_file(spec: DataSpec, shares: Shares, files: Mapping[str, Path], on_progress: OnProgress) -> Division:
    """Divide spec.data; `files` says where each part is written.

    Raises DataError (rows that cannot be used, listed, unless spec.bad_rows is drop; shares that leave no row).
    """
    file = open_conversations(spec)
    lines, sizes = array("q"), array("q")

    def see(conversation: Conversation) -> None:
        lines.append(conversation.line)
        sizes.append(conversation.rows)

    surveyed = survey(file, shares.by, on_progress, see, grouped=True)
    if spec.bad_rows == "stop":
        stop_at_problems(file, surveyed)
    parts, divided = assign(surveyed, shares, file.source.path)
    chatlog = "chatlog" in file.format
    wanted = {name: files[name] for name in WRITTEN if name in parts}
    _write(_conversations(file) if chatlog else _rows(file, lines), parts, wanted, file, on_progress)
    counted = Counter(dict.fromkeys(wanted, 0))
    for part, size in zip(parts, sizes, strict=True):
        counted[part] += size
    twins = surveyed.twins or Twins()
    return Division(
        path=str(file.source.path), format=file.format, encoding=file.source.encoding, rows_read=surveyed.rows_read,
        rows=dict(counted), conversations=dict(Counter(parts)), dropped=dict(sorted(surveyed.dropped.items())),
        groups=len(set(surveyed.groups().components)), divided=divided, by=shares.by or surveyed.kinds_name,
        guessed=shares.by is None, between=tuple(nearness(twins, parts)), files=wanted, as_conversations=chatlog,
    )  # fmt: skip


def assign(surveyed: Survey, shares: Shares, path: Path) -> tuple[list[str], int]:
    """The part of each conversation, and how many are in groups that had to be divided. Raises DataError."""
    count = len(surveyed.questions)
    wanted = _wanted(count, shares)
    held_back = wanted[QUESTIONS] + wanted[VALIDATION]
    if count - held_back < max(1, wanted[TRAIN]):
        raise DataError(
            "split_shares", path=path, rows=count, train=wanted[TRAIN], validation=wanted[VALIDATION],
            questions=wanted[QUESTIONS],
        )  # fmt: skip
    groups, strata = surveyed.groups(), surveyed.strata()
    parts = [TRAIN] * count
    for name in (QUESTIONS, VALIDATION):
        free = [index for index, part in enumerate(parts) if part == TRAIN]
        if wanted[name]:
            _take(parts, free, name, wanted[name], (groups.keys, surveyed.questions), strata, shares.seed)
    free = [index for index, part in enumerate(parts) if part == TRAIN]
    surplus = len(free) - wanted[TRAIN] if shares.train is not None else 0
    if surplus > 0:
        _take(parts, free, UNUSED, surplus, (surveyed.questions,), strata, shares.seed)
    return parts, groups.divided


def _wanted(count: int, shares: Shares) -> dict[str, int]:
    """How many conversations each part wants."""
    questions = shares.questions
    if questions is None:
        questions = min(QUESTION_ROWS, int(QUESTION_SHARE * count))
    wanted = {TRAIN: shares.train or 0, VALIDATION: shares.validation, QUESTIONS: questions}
    return {name: of_it if isinstance(of_it, int) else max(1, round(of_it * count)) for name, of_it in wanted.items()}


def _take(
    parts: list[str],
    free: Sequence[int],
    name: str,
    rows: int,
    levels: Sequence[Sequence[bytes]],
    strata: Sequence[str] | None,
    seed: int,
) -> None:
    """Give `rows` of the free rows to a part."""  # fmt: skip
    own = [[groups[index] for index in free] for groups in levels]
    labels = [strata[index] for index in free] if strata else None
    held = divide(own, rows, seed, labels) if len(own) > 1 else hold_out(own[0], rows, seed, labels)
    for place in np.flatnonzero(held).tolist():
        parts[free[place]] = name


def nearness(twins: Twins, parts: Sequence[str]) -> Iterator[Between]:
    """How near each two parts are. parts: of each text in `twins`."""
    forms = twins.forms()
    holders: dict[int, set[str]] = {}
    for form, part in zip(forms, parts, strict=True):
        holders.setdefault(form, set()).add(part)
    near: dict[tuple[str, str], dict[int, float]] = {}  # (part, other) -> form in part -> cosine

    def note(form: int, part: str, other: str, cosine: float) -> None:
        known = near.setdefault((part, other), {})
        known[form] = max(known.get(form, 0.0), cosine)

    for form, held in holders.items():
        for part, other in combinations(sorted(held), 2):
            note(form, part, other, 1.0)
            note(form, other, part, 1.0)
    for left, right, cosine in twins.pairs():
        for part in holders[forms[left]]:
            for other in holders[forms[right]] - {part}:
                note(forms[left], part, other, cosine)
                note(forms[right], other, part, cosine)
    named = [name for name in WRITTEN if name in parts]
    for other, part in combinations(named, 2):
        cosines = near.get((part, other), {})
        nearest = [cosines[form] for form, of in zip(forms, parts, strict=True) if of == part and form in cosines]
        twins_there = sum(cosine >= TWIN for cosine in nearest)
        yield Between(part, other, twins_there, len(nearest), max(nearest, default=None))


def _rows(file: ConversationFile, lines: Sequence[int]) -> Iterator[Mapping[str, Any]]:
    """The rows on these lines, in order."""
    wanted = iter(lines)
    line = next(wanted, None)
    for place, member in enumerate(file.members):
        for row in member.rows():
            if row.line + place * FILE_LINES == line:
                yield row.values
                line = next(wanted, None)


def _conversations(file: ConversationFile) -> Iterator[Mapping[str, Any]]:
    return (to_messages(verdict) for verdict in file if isinstance(verdict, Conversation))


def _write(
    rows: Iterator[Mapping[str, Any]],
    parts: Sequence[str],
    files: Mapping[str, Path],
    file: ConversationFile,
    on_progress: OnProgress,
) -> None:
    """Write each row to the file of its part; all files get their names when all are complete."""  # fmt: skip
    with ExitStack() as stack:
        outs = {name: stack.enter_context(RowsFile(path)) for name, path in files.items()}
        seen = 0
        for values in rows:
            if seen == len(parts):
                break
            if parts[seen] in outs:
                outs[parts[seen]].add(values)
            seen += 1
            if seen % max(1, len(parts) // 100) == 0:
                on_progress("data_split", seen, len(parts))
        if seen != len(parts):
            raise DataError("data_changed", path=file.source.path)
