"""A file -> conversations, whatever its format. Training, checking and evaluation all read files through this module.

sources.read_rows -> format_of, one format per file -> formats.parse_row | chatlog.collect -> Verdict
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from xiaozao.data.chatlog import Chatlog, looks_like_chatlog
from xiaozao.data.encodings import LINE_LIMIT
from xiaozao.data.formats import DIALOGUE, Conversation, Turn, Verdict, format_of, parse_row
from xiaozao.data.rows import FILE_LINES, Row
from xiaozao.data.sources import Source, open_source, read_rows
from xiaozao.errors import DataError, Problem
from xiaozao.spec.parts import DataSpec, data_files

OnBytes = Callable[[int, int], None]


class ConversationFile:
    """One file of a DataSpec. Each iteration reads it again and gives a verdict per row, or per session of a chat log.

    `format` is set by the first row whose format is clear. Raises DataError if no row has a known format, or if two
    rows have different ones.
    """

    def __init__(self, path: Path, spec: DataSpec, limit: int = LINE_LIMIT) -> None:
        self.source = open_source(path, spec.encoding)
        self.format: str = "" if spec.format == "auto" else spec.format
        self._spec, self._limit = spec, limit
        self._told = 0  # the line that told the format
        if spec.columns:
            self.format = "chatlog"

    @property
    def members(self) -> tuple["ConversationFile", ...]:
        """The files that are read."""
        return (self,)

    def placed(self, problem: Problem) -> Problem:
        """The problem of a row, with its line number as a text editor counts it."""
        return problem

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
        recognised = format_of(row.values)
        if not recognised:
            fields = ", ".join(row.values)[:300]
            return Problem("row_format", {"line": row.line, "offset": row.offset, "fields": fields})
        if recognised != DIALOGUE:
            self._tell(recognised, row)
        return parse_row(row, recognised)

    def _tell(self, recognised: str, row: Row) -> None:
        if self.format and self.format != recognised:
            raise DataError("data_mixed", path=self.source.path, line=row.line, before=self.format,
                            first=self._told, found=recognised)  # fmt: skip
        if not self.format:
            self.format, self._told = recognised, row.line


class ConversationFiles(ConversationFile):
    """Several files, one after the other, as if they were one.

    Line n of file k (counted from 0) has the number k * FILE_LINES + n, so that no two rows share a number. A problem
    names its file beside the line.
    """

    def __init__(self, paths: Sequence[Path], spec: DataSpec, limit: int = LINE_LIMIT) -> None:
        self.files = tuple(ConversationFile(path, spec, limit) for path in paths)
        sources = [one.source for one in self.files]
        self.format = ""
        self.source = Source(
            Path(",".join(str(one.path) for one in sources)), _joined(one.kind for one in sources),
            _joined(one.encoding for one in sources), sum(one.size for one in sources),
        )  # fmt: skip

    @property
    def members(self) -> tuple[ConversationFile, ...]:
        return self.files

    def placed(self, problem: Problem) -> Problem:
        line = problem.params.get("line")
        if not isinstance(line, int):
            return problem
        place, own = divmod(line, FILE_LINES)
        return Problem(problem.key, {**problem.params, "line": f"{self.files[place].source.path.name}:{own}"})

    def verdicts(self, on_bytes: OnBytes) -> Iterator[Verdict]:
        def hear(before: int, done: int, _: int) -> None:
            on_bytes(before + done, self.source.size)

        before = 0
        for place, file in enumerate(self.files):
            for verdict in file.verdicts(partial(hear, before)):
                yield self._numbered(verdict, place * FILE_LINES)
            before += file.source.size
        self.format = _joined(file.format for file in self.files)

    def _numbered(self, verdict: Verdict, above: int) -> Verdict:
        if isinstance(verdict, Problem):
            line = verdict.params.get("line")
            own = {**verdict.params, "line": line + above} if isinstance(line, int) else verdict.params
            return self.placed(Problem(verdict.key, own))
        return replace(verdict, line=verdict.line + above)


def open_conversations(spec: DataSpec) -> ConversationFile:
    """The file of spec.data, or its several files as one. Raises what open_source raises."""
    paths = [Path(name) for name in data_files(spec.data)]
    return ConversationFile(paths[0], spec) if len(paths) == 1 else ConversationFiles(paths, spec)


def _joined(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(filter(None, names)))


def read_conversations(spec: DataSpec) -> Iterator[Conversation]:
    """The conversations of spec.data that can be used, with the spec's system text where they have none."""
    for verdict in open_conversations(spec):
        if isinstance(verdict, Conversation):
            yield with_system(verdict, spec.system)


def with_system(conversation: Conversation, system: str | None) -> Conversation:
    """The conversation, with this system text added if it has none."""
    if not system or not conversation.turns or conversation.turns[0].role == "system":
        return conversation
    return replace(conversation, turns=(Turn("system", system), *conversation.turns))
