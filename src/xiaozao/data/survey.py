"""The first pass over a file: the counts, the problems, and a hash of each conversation's question.

Per conversation only a hash of its question and a label stay in memory, so a large file costs little; where near
duplicates are wanted, also what twins.py keeps of the question.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from sys import intern

from xiaozao.data.conversations import ConversationFile
from xiaozao.data.formats import Conversation, Dropped
from xiaozao.data.groups import FIELDS, Groups, asked, group, kinds_field
from xiaozao.data.twins import Twins
from xiaozao.errors import DataError, Problem
from xiaozao.events import OnProgress

SHOWN = 20  # problems that are listed; all are counted


@dataclass
class Survey:
    """The result of a pass over a file.

    `questions` and `labels` have an entry per usable conversation, in file order. twins: the texts of the questions,
    where near duplicates are wanted; `kinds` has the values of the fields that may tell kinds of rows.
    """

    questions: list[bytes] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    rows_read: int = 0
    rows_usable: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    twins: Twins | None = None
    kinds: dict[str, list[str]] = field(default_factory=dict)

    def groups(self) -> Groups:
        """Which conversations ask nearly the same; only the same if near duplicates were not wanted."""
        if self.twins is None:
            return Groups(self.questions, self.questions)
        return group(self.twins, self.questions)

    @property
    def kinds_name(self) -> str | None:
        """The field that tells kinds of rows, such as an intent, where nobody named one."""
        return kinds_field(self.kinds, len(self.questions))

    def strata(self) -> list[str] | None:
        """The label of each conversation by which a split keeps the shares; None where there is none."""
        return self.labels or (self.kinds[self.kinds_name] if self.kinds_name else None)

    def add(self, conversation: Conversation, stratify: str | None) -> None:
        """Record a usable conversation."""
        self.rows_usable += conversation.rows
        self.questions.append(hashlib.sha256(conversation.question().encode()).digest()[:16])
        self.fields.update(conversation.labels.keys())
        if stratify is not None:
            self.labels.append(conversation.labels.get(stratify, ""))
        if self.twins is not None:
            self.twins.add(asked(conversation))
            for name in FIELDS:
                if name in conversation.labels:
                    self.kinds.setdefault(name, []).append(intern(conversation.labels[name]))

    def add_problem(self, problem: Problem) -> None:
        """Record a row that cannot be used: counted under its key, and listed if it is among the first."""
        self.problem_count += 1
        self.dropped[problem.key] += 1
        if len(self.problems) < SHOWN:
            self.problems.append(problem)


def _ignore(row: Conversation | Dropped) -> None:
    pass


def survey(
    file: ConversationFile,
    stratify: str | None,
    on_progress: OnProgress,
    see: Callable[[Conversation], None] = _ignore,
    grouped: bool = False,
    leave: Callable[[Dropped], None] = _ignore,
) -> Survey:
    """Read a file once and call `see` with every usable conversation, `leave` with every row that teaches nothing.

    grouped: whether near duplicates are looked for.

    Raises DataError if the file as a whole is unusable.
    """  # fmt: skip
    counted = Survey(twins=Twins() if grouped else None)
    for verdict in file.verdicts(_every_percent("data_read", on_progress)):
        counted.rows_read += 1 if isinstance(verdict, Problem) else verdict.rows
        if isinstance(verdict, Problem):
            counted.add_problem(verdict)
        elif isinstance(verdict, Dropped):
            counted.dropped[verdict.reason] += verdict.rows
            leave(verdict)
        else:
            counted.add(verdict, stratify)
            see(verdict)
    if stratify is not None and counted.questions and stratify not in counted.fields:
        known = ", ".join(sorted(counted.fields)) or "-"
        raise DataError("data_stratify", path=file.source.path, field=stratify, fields=known)
    return counted


def stop_at_problems(file: ConversationFile, surveyed: Survey) -> None:
    """Raise DataError that lists the problems, if there are any."""
    if surveyed.problem_count:
        raise DataError(
            "data_rows", surveyed.problems, path=file.source.path, count=surveyed.problem_count,
            shown=len(surveyed.problems), rows=surveyed.rows_read,
        )  # fmt: skip


def _every_percent(stage: str, on_progress: OnProgress) -> Callable[[int, int], None]:
    """A progress callback that passes on at most a hundred calls."""
    told = -1

    def hear(done: int, total: int) -> None:
        nonlocal told
        percent = done * 100 // max(total, 1)
        if percent > told:
            told = percent
            on_progress(stage, done, total)

    return hear
