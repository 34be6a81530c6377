"""A file -> conversations, whatever its format. Training, checking and evaluation all read files through this module.

sources.read_rows -> layout, one per file -> formats.parse_row | chatlog.collect -> Verdict

What was guessed, ignored or left out on the way stands in `notes` (notes.py).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from xiaozao.data.chatlog import Chatlog
from xiaozao.data.encodings import LINE_LIMIT
from xiaozao.data.fieldtext import plain_name
from xiaozao.data.formats import DIALOGUE, VERDICT, Conversation, Dropped, Turn, Verdict, format_of, parse_row
from xiaozao.data.headers import asked_columns
from xiaozao.data.layout import FIRST, Layout, layout_of
from xiaozao.data.mojibake import ENCODINGS, note_encoding
from xiaozao.data.notes import Notes
from xiaozao.data.plainrows import read_plain
from xiaozao.data.rows import FILE_LINES, Row, Rows
from xiaozao.data.sources import Source, open_source, read_rows
from xiaozao.errors import DataError, Problem
from xiaozao.spec.parts import DataSpec, data_files

OnBytes = Callable[[int, int], None]
FIRST_BYTES = 4_000_000
VERDICTS = ("label", "kto_tag")
UNANSWERED = ("empty_answer", "no_answer", "empty_text")
REPEATED = 20  # texts from which a column that repeats itself is one of labels
FEW = 10  # rows of a class that are too few to learn it from
LISTED, MOST_CLASSES = 20, 10_000


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
        self._plain = ""
        self._chats = spec.format in ("auto", "chatlog") and not spec.columns
        self._spoken = spec.format == "chatlog" and not spec.columns
        self._layout, self._notes = Layout(), Notes()
        self._asked = asked_columns(spec.columns)

    @property
    def members(self) -> tuple["ConversationFile", ...]:
        """The files that are read."""
        return (self,)

    def placed(self, problem: Problem) -> Problem:
        """The problem of a row, with its line number as a text editor counts it."""
        return problem

    def __iter__(self) -> Iterator[Verdict]:
        return self.verdicts(lambda done, total: None)

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What was guessed, ignored or left out when the file was read last."""
        return self._notes.problems()

    @property
    def plain(self) -> str:
        """The format that reads the rows of answers with a verdict without their verdicts."""
        return self._plain or self.format

    def verdicts(self, on_bytes: OnBytes) -> Iterator[Verdict]:
        """The verdicts; `on_bytes` hears how far in the file they are."""
        self._notes = Notes()
        seen = _Seen(self._notes)
        rows = read_rows(self.source, self._limit, self._notes, self._chats, self._spoken, self._asked)
        first = _first(rows)
        known = [row for row in first if isinstance(row, Row)]
        self._layout = layout_of(known, self._spec, self.rows, self._notes)
        note_encoding([row.values for row in known], self.source.encoding, self._spec.encoding, self._notes)
        log = Chatlog(self.source.path, self._spec, self._notes) if self._layout.chatlog else None
        unknown: Row | None = None
        for row in chain(first, rows):
            if isinstance(row, Problem):
                if row.key == "row_encoding" and self._spec.encoding == "auto":
                    self._notes.tell("note_encoding_unknown", encodings=ENCODINGS)
                yield row
                continue
            on_bytes(row.offset, self.source.size)
            if log is not None:
                self._tell("chatlog", row)
                said = log.add(row)
                if said is not None:
                    yield said
                continue
            verdict = self._verdict(self._layout.row(row))
            seen.see(verdict, row, self._layout.column)
            yield verdict
            unknown = unknown or (None if self.format else row)
        if not self.format and unknown is not None:
            raise self._unknown(unknown)
        if log is not None:
            yield from log.sessions()
        seen.tell(self.format)

    def rows(self) -> Iterator[Row]:
        """The rows that can be read, from the beginning."""
        rows = read_rows(self.source, self._limit, chats=self._chats, spoken=self._spoken, asked=self._asked)
        return (row for row in rows if isinstance(row, Row))

    def _verdict(self, row: Row) -> Verdict:
        format = self._layout.format or ("" if self._spec.format == "auto" else self._spec.format)
        if format in ("", "messages") and not self._layout.judged and (plain := read_plain(row)) is not None:
            self._tell("messages", row)
            return plain
        if format:
            self._tell(format, row)
            return self._named(parse_row(row, format))
        recognised = format_of(row.values)
        if not recognised:
            fields = ", ".join(row.values)[:300]
            return Problem("row_format", {"line": row.line, "offset": row.offset, "fields": fields})
        if self._layout.judged and recognised not in (DIALOGUE, VERDICT):
            self._plain, recognised = recognised, VERDICT
        if recognised != DIALOGUE:
            self._tell(recognised, row)
        return self._named(parse_row(row, recognised))

    def _unknown(self, row: Row) -> DataError:
        """The error of a file whose format nobody knows, with what was noted while it was read."""
        path, notes = self.source.path, self.notes
        if not self._notes.columns:
            return DataError("data_format", notes, path=path, line=row.line, fields=", ".join(row.values)[:300])
        listed = ", ".join(f"{name} ({text})" for name, text in self._notes.columns.items())
        return DataError("data_format_table", notes, path=path, line=row.line, columns=listed[:600])

    def _named(self, verdict: Verdict) -> Verdict:
        """A problem with the name that the file has for its field."""
        if not isinstance(verdict, Problem) or not self._layout.renames:
            return verdict
        field = self._layout.column(str(verdict.params.get("field", "")))
        return Problem(verdict.key, {**verdict.params, "field": field}) if "field" in verdict.params else verdict

    def _tell(self, recognised: str, row: Row) -> None:
        if self.format and self.format != recognised:
            raise DataError("data_mixed", path=self.source.path, line=row.line, before=self.format,
                            first=self._told, found=recognised)  # fmt: skip
        if not self.format:
            self.format, self._told = recognised, row.line
        if recognised == VERDICT and not self._plain:
            self._plain = format_of({name: value for name, value in row.values.items() if not is_verdict(name)})


def is_verdict(name: str) -> bool:
    """Whether a column may hold verdicts, by its name."""
    return plain_name(name) in VERDICTS


def _first(rows: Rows) -> list[Row | Problem]:
    """The first rows of a file, as many as its layout is told from."""
    first: list[Row | Problem] = []
    begun = None
    for row in rows:
        first.append(row)
        if isinstance(row, Row):
            begun = row.offset if begun is None else begun
            if row.offset - begun > FIRST_BYTES:
                break
        if len(first) >= FIRST:
            break
    return first


class _Seen:
    """Counts the texts that are used nowhere, and the classes of a classification."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self.ignored: Counter[str] = Counter()
        self.texts: dict[str, set[int]] = {}
        self.classes: Counter[str] = Counter()
        self.unanswered: list[int] = []

    def see(self, verdict: Verdict, row: Row, column: Callable[[str], str]) -> None:
        if isinstance(verdict, Dropped) and verdict.reason in UNANSWERED:
            self.unanswered.append(verdict.line)
        if not isinstance(verdict, Conversation):
            return
        for key, name in verdict.told:
            self._notes.count(key, verdict.line, field=column(name))
        for name in verdict.ignored:
            self.ignored[name] += 1
            texts = self.texts.setdefault(name, set())
            if len(texts) < REPEATED:
                texts.add(hash(row.values.get(name)))
        if verdict.turns and len(self.classes) < MOST_CLASSES:
            self.classes[verdict.turns[-1].content] += 1

    def tell(self, format: str) -> None:
        """Note what was seen. A column of few texts that repeat is a label, whatever its length."""
        notes = self._notes
        for name, count in self.ignored.items():
            if len(self.texts[name]) * 5 > count or count < REPEATED:
                asked = format in ("prompt", "alpaca", "kto")
                notes.tell("note_unused" if asked else "note_unused_beside", field=name, count=count)
        if self.unanswered:
            lines = ", ".join(map(str, self.unanswered[:LISTED])) + (" …" if len(self.unanswered) > LISTED else "")
            notes.tell("note_unanswered", count=len(self.unanswered), lines=lines)
        if format != "classification":
            return
        listed = ", ".join(f"{name} ({count})" for name, count in self.classes.most_common(LISTED))
        notes.tell("note_classes", count=len(self.classes), classes=listed)
        few = [f"{name} ({count})" for name, count in self.classes.items() if count < FEW]
        if few:
            notes.tell("note_few", count=len(few), few=FEW, classes=", ".join(few[:LISTED]))


def notes_in(file: ConversationFile) -> tuple[Problem, ...]:
    """The notes on a file, with its name: for a report on several."""
    name = file.source.path.name
    return tuple(
        Problem("note_in", {"file": name, "note": {"text": f"problem.{note.key}", **note.params}})
        for note in file.notes
    )


class ConversationFiles(ConversationFile):
    """Several files, one after the other, as if they were one.

    Line n of file k (counted from 0) has the number k * FILE_LINES + n, so that no two rows share a number. A problem
    names its file beside the line.
    """

    def __init__(self, paths: Sequence[Path], spec: DataSpec, limit: int = LINE_LIMIT) -> None:
        self.files = tuple(ConversationFile(path, spec, limit) for path in paths)
        sources = [one.source for one in self.files]
        self.format = self._plain = ""
        self.source = Source(
            Path(",".join(str(one.path) for one in sources)), _joined(one.kind for one in sources),
            _joined(one.encoding for one in sources), sum(one.size for one in sources),
        )  # fmt: skip

    @property
    def members(self) -> tuple[ConversationFile, ...]:
        return self.files

    @property
    def notes(self) -> tuple[Problem, ...]:
        return tuple(note for file in self.files for note in notes_in(file))

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
