"""A file of any format that is read -> a file of a named one, and what could not be taken over."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xiaozao.data.conversations import ConversationFile, open_conversations
from xiaozao.data.formats import Conversation
from xiaozao.data.rows import line_text
from xiaozao.data.survey import Survey, stop_at_problems, survey
from xiaozao.data.writing import TARGETS, RowsFile, losses, refused
from xiaozao.errors import DataError
from xiaozao.events import OnProgress
from xiaozao.spec.parts import DataSpec

NAMED = 20  # rows that are named of each kind of loss; all are counted


@dataclass(frozen=True)
class Rows:
    """How many rows something happened to, and the lines of the first of them."""

    count: int
    lines: tuple[int | str, ...]


@dataclass(frozen=True)
class Converted:
    """What came of a conversion. rows_read == (rows of what was written) + rows left out + rows dropped.

    lost: written, but without some of what they held. left: the target has no place for them. dropped: nothing to
    learn in them, or unusable. rounds: rows whose earlier rounds are in Alpaca's `history`.
    """

    path: Path
    target: str
    format: str
    rows_read: int
    written: int
    lost: dict[str, Rows]
    left: dict[str, Rows]
    dropped: dict[str, int]
    rounds: int


def convert(spec: DataSpec, path: Path, target: str, on_progress: OnProgress) -> Converted:
    """Write the conversations of spec.data to `path` as rows of a format of TARGETS.

    Raises DataError (rows that cannot be used, listed, unless spec.bad_rows is drop; nothing to write).
    """
    file = open_conversations(spec)
    with RowsFile(path) as out:
        work = _Conversion(target, out)
        surveyed = survey(file, None, on_progress, work.see)
        if spec.bad_rows == "stop":
            stop_at_problems(file, surveyed)
        if not out.count:
            raise _nothing(file, surveyed, work)
    return Converted(
        path=path, target=target, format=file.format, rows_read=surveyed.rows_read, written=out.count,
        lost=_rows(work.lost), left=_rows(work.left), dropped=dict(sorted(surveyed.dropped.items())),
        rounds=work.rounds,
    )  # fmt: skip


@dataclass
class _Conversion:
    target: str
    out: RowsFile
    lost: dict[str, list[int]] = field(default_factory=dict)
    left: dict[str, list[int]] = field(default_factory=dict)
    rounds: int = 0

    def see(self, conversation: Conversation) -> None:
        reason = refused(conversation, self.target)
        row: dict[str, Any] = {} if reason else TARGETS[self.target](conversation)
        differ = [] if reason else losses(conversation, row)
        if "turns" in differ and self.target != "sharegpt":
            reason = "turns"
        if reason:
            self.left.setdefault(reason, []).append(conversation.line)
            return
        for name in differ:
            self.lost.setdefault(name, []).append(conversation.line)
        self.rounds += self.target == "alpaca" and "history" in row
        self.out.add(row)


def _rows(lines: dict[str, list[int]]) -> dict[str, Rows]:
    return {
        name: Rows(len(of_it), tuple(line_text(line) for line in of_it[:NAMED]))
        for name, of_it in sorted(lines.items())
    }


def _nothing(file: ConversationFile, surveyed: Survey, work: _Conversion) -> DataError:
    reasons = surveyed.dropped + Counter({f"left_{name}": len(lines) for name, lines in work.left.items()})
    return DataError("convert_nothing", path=file.source.path, rows=surveyed.rows_read, target=work.target,
                     reasons=dict(reasons.most_common()))  # fmt: skip
