"""A file -> conversations, whatever its format. The one way in for training, checking and asking questions.

sources.read_rows -> format_of, one format per file -> formats.parse_row | chatlog.collect -> Verdict
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from xiaozao.data.chatlog import Chatlog, looks_like_chatlog
from xiaozao.data.encodings import LINE_LIMIT
from xiaozao.data.formats import DIALOGUE, Conversation, Turn, Verdict, format_of, parse_row
from xiaozao.data.rows import Row
from xiaozao.data.sources import open_source, read_rows
from xiaozao.errors import DataError, Problem
from xiaozao.spec.parts import DataSpec

OnBytes = Callable[[int, int], None]


class ConversationFile:
    """One file of a DataSpec. Iterating gives a verdict per row (per session of a chat log), each time anew.

    `format` is known after the first row that tells. Raises DataError where no row has a format we know, or two have
    different ones.
    """

    def __init__(self, path: Path, spec: DataSpec, limit: int = LINE_LIMIT) -> None:
        self.source = open_source(path, spec.encoding)
        self.format: str = "" if spec.format == "auto" else spec.format
        self._spec, self._limit = spec, limit
        self._told = 0  # the line that told the format
        if spec.columns:
            self.format = "chatlog"

    def __iter__(self) -> Iterator[Verdict]:
        return self.verdicts(lambda done, total: None)

    def verdicts(self, on_bytes: OnBytes) -> Iterator[Verdict]:
        """The verdicts; `on_bytes` hears how far in the file they are."""
        log: Chatlog | None = None
        unknown: Row | None = None
        for row in read_rows(self.source, self._limit):
            if isinstance(row, Problem):
                yield row
                continue
            on_bytes(row.offset, self.source.size)
            if self._is_chatlog(row):
                log = log or Chatlog(self.source.path, self._spec)
                said = log.add(row)
                if said is not None:
                    yield said
                continue
            yield self._verdict(row)
            unknown = unknown or (None if self.format else row)
        if not self.format and unknown is not None:
            fields = ", ".join(unknown.values)[:300]
            raise DataError("data_format", path=self.source.path, line=unknown.line, fields=fields)
        if log is not None:
            yield from log.sessions()

    def _is_chatlog(self, row: Row) -> bool:
        if self._spec.columns or self._spec.format == "chatlog":
            return True
        if self._spec.format != "auto" or not looks_like_chatlog(row.values):
            return False
        self._tell("chatlog", row)
        return True

    def _verdict(self, row: Row) -> Verdict:
        if self._spec.format != "auto":
            return parse_row(row, self._spec.format)
        found = format_of(row.values)
        if not found:
            fields = ", ".join(row.values)[:300]
            return Problem("row_format", {"line": row.line, "offset": row.offset, "fields": fields})
        if found != DIALOGUE:
            self._tell(found, row)
        return parse_row(row, found)

    def _tell(self, found: str, row: Row) -> None:
        if self.format and self.format != found:
            raise DataError("data_mixed", path=self.source.path, line=row.line, before=self.format,
                            first=self._told, found=found)  # fmt: skip
        if not self.format:
            self.format, self._told = found, row.line


def read_conversations(spec: DataSpec) -> Iterator[Conversation]:
    """The conversations of spec.data that can be used, with the spec's system text where they have none."""
    for verdict in ConversationFile(Path(spec.data), spec):
        if isinstance(verdict, Conversation):
            yield with_system(verdict, spec.system)


def with_system(conversation: Conversation, system: str | None) -> Conversation:
    """The conversation with a system text, if it has none of its own."""
    if not system or not conversation.turns or conversation.turns[0].role == "system":
        return conversation
    return replace(conversation, turns=(Turn("system", system), *conversation.turns))
