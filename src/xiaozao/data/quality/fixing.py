"""`zao data check FILE --fix OUT`: a repaired copy in JSON lines, and OUT.changes.jsonl with every change.

    mended_rows -> texts rewritten -> messages merged -> usable? -> seen before? -> OUT
                                                                       then, with --drop, OUT is checked and thinned

The original is only read. Both files are written beside their final names and renamed when they are whole.
"""

import contextlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from xiaozao.data.chatlog import looks_like_chatlog
from xiaozao.data.conversations import ConversationFile, open_conversations
from xiaozao.data.formats import DIALOGUE, Dropped, format_of, parse_row
from xiaozao.data.headers import asked_columns
from xiaozao.data.quality import across, inspection
from xiaozao.data.quality.findings import Found
from xiaozao.data.quality.mending import Mended, mended_rows
from xiaozao.data.quality.pseudonyms import Pseudonyms, replaced
from xiaozao.data.quality.rewriting import ASKED, SAFE, Change, restructured, rewritten
from xiaozao.data.rows import Row
from xiaozao.data.sources import open_source
from xiaozao.data.survey import survey
from xiaozao.errors import DataError, EnvironmentProblem, Problem, UsageError
from xiaozao.events import OnProgress
from xiaozao.spec.parts import DataSpec, data_files
from xiaozao.texts.catalogue import Language, counted

CHANGES = ".changes.jsonl"
PART = ".part"
DROPPABLE = sorted(
    ({*inspection.CHECKS, *inspection.ACROSS} - inspection.SAFE - inspection.OF_FILE) - {"cut_at_length"}
)
ANSWERED = ("messages", "sharegpt", DIALOGUE)


@dataclass(frozen=True)
class Wanted:
    """What was asked for beside the safe rules."""

    drop: frozenset[str] = frozenset()
    repair: frozenset[str] = frozenset()
    pseudonymise: bool = False
    language: Language = "en"  # of the reasons in the list of changes


@dataclass
class Fixed:
    """What was written. rules counts changes by their rule; changed and left_out count rows of the original."""

    path: str
    changes: str
    rows: int = 0
    changed: int = 0
    left_out: int = 0
    rules: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "changes": self.changes, "rows": self.rows, "changed": self.changed,
                "left_out": self.left_out, "rules": dict(self.rules)}  # fmt: skip


def wanted(drop: str | None, repair: str | None, pseudonymise: bool) -> Wanted:
    """The flags of a command as what is wanted. `near-duplicates` is `near_duplicate`. Raises UsageError."""
    return Wanted(_named("--drop", drop, DROPPABLE), _named("--repair", repair, sorted(ASKED)), pseudonymise)


def _named(option: str, given: str | None, known: Sequence[str]) -> frozenset[str]:
    names = [name.strip().lower().replace("-", "_") for name in (given or "").replace("，", ",").split(",")]
    chosen = {name: next((kind for kind in known if name in _spellings(kind)), "") for name in names if name}
    if unknown := [name for name, kind in chosen.items() if not kind]:
        raise UsageError("fix_kinds", option=option, names=", ".join(unknown), known=", ".join(known))
    return frozenset(chosen.values())


def _spellings(kind: str) -> tuple[str, ...]:
    return kind, f"{kind}s", f"{kind}es", f"{kind.removesuffix('y')}ies"


def fix(spec: DataSpec, out: Path, asked: Wanted, overwrite: bool, on_progress: OnProgress,
        judges: Mapping[str, ConversationFile]) -> Fixed:  # fmt: skip
    """Write the repaired copy of spec.data and the list of changes.

    judges: the validation and question files, for rows that leak. Raises UsageError, DataError where the file as a
    whole cannot be read or no row is left, EnvironmentProblem where OUT cannot be written.
    """
    files = data_files(spec.data)
    if len(files) > 1:
        raise UsageError("fix_many", count=len(files))
    source = Path(files[0])
    check_target(source, out, overwrite)
    fixed = Fixed(str(out), str(out) + CHANGES)
    try:
        with contextlib.ExitStack() as stack:
            for name in (fixed.path, fixed.changes):
                stack.callback(Path(name + PART).unlink, missing_ok=True)
            _write(source, spec, asked, fixed, on_progress, judges)
            Path(fixed.changes + PART).replace(fixed.changes)
            if not fixed.rows:
                raise DataError("fix_nothing", path=source, changes=fixed.changes)
            Path(fixed.path + PART).replace(fixed.path)
    except OSError as error:
        raise EnvironmentProblem("fix_write", path=out, detail=error.strerror or str(error)) from None
    return fixed


def check_target(source: Path, out: Path, overwrite: bool) -> None:
    """Raise UsageError if the copy would replace the original, or a file that nobody said may go."""
    for path in (out, Path(str(out) + CHANGES)):
        if path.exists() and path.resolve() == source.resolve():
            raise UsageError("fix_same", path=path)
        if path.exists() and not overwrite:
            raise UsageError("fix_exists", path=path)


def _write(source: Path, spec: DataSpec, asked: Wanted, fixed: Fixed, on_progress: OnProgress,
           judges: Mapping[str, ConversationFile]) -> None:  # fmt: skip
    with open(fixed.changes + PART, "w", encoding="utf-8", newline="\n") as changes:
        with open(fixed.path + PART, "w", encoding="utf-8", newline="\n") as rows:
            origins = _Repair(spec, asked, fixed, rows, changes).run(source, on_progress)
        if asked.drop and fixed.rows:
            _thin(spec, asked, fixed, origins, changes, judges, on_progress)


class _Repair:
    """Repairs row after row."""

    def __init__(self, spec: DataSpec, asked: Wanted, fixed: Fixed, rows: IO[str], changes: IO[str]) -> None:
        self._spec, self._fixed, self._rows, self._changes = spec, fixed, rows, changes
        self._rules = (*SAFE.items(), *((name, rule) for name, rule in ASKED.items() if name in asked.repair))
        # What is turned into characters may leave blanks at the ends.
        self._rules += tuple(SAFE.items()) if asked.repair else ()
        self._pseudonyms = Pseudonyms(tuple(spec.assistant)) if asked.pseudonymise else None
        self._language = asked.language
        self._seen: set[int] = set()
        self._origins = array("q")

    def run(self, source: Path, on_progress: OnProgress) -> "array[int]":
        """Write the repaired rows, without those that are left out.

        Returns, for each line written, the number of its line in the original file.
        """
        opened, told = open_source(source, self._spec.encoding), -1
        for mended, offset in mended_rows(opened, asked_columns(self._spec.columns)):
            percent = offset * 100 // max(opened.size, 1)
            if percent > told:
                told = percent
                on_progress("data_fix", offset, opened.size)
            values, changes = self._row(mended)
            _note(self._fixed, self._changes, changes)
            if values is None:
                self._fixed.left_out += 1
                continue
            self._fixed.rows += 1
            self._fixed.changed += bool(changes)
            self._origins.append(mended.line)
            self._rows.write(json.dumps(values, ensure_ascii=False, default=str) + "\n")
        on_progress("data_fix", opened.size, opened.size)
        return self._origins

    def _row(self, mended: Mended) -> tuple[dict[str, Any] | None, list[Change]]:
        line = mended.line
        if mended.values is None:
            why = mended.problem.text(self._language) if mended.problem else ""
            return None, [Change(line, "unusable", "", mended.before, None, why)]
        repaired = json.dumps(mended.values, ensure_ascii=False, default=str) if mended.rules else ""
        changes = [Change(line, rule, "", mended.before, repaired) for rule in mended.rules]
        original = mended.before or json.dumps(mended.values, ensure_ascii=False, default=str)
        values, more = rewritten(mended.values, line, self._rules)
        changes += more
        if self._pseudonyms is not None and (pairs := self._pseudonyms.of_row(values)):
            values, more = rewritten(values, line, [("pseudonym", lambda text: replaced(text, pairs))])
            changes += more
        if self._spec.columns or self._spec.format == "chatlog" or looks_like_chatlog(values):
            return values, changes  # a message of a chat log is no conversation by itself
        format = self._spec.format if self._spec.format != "auto" else format_of(values)
        values, more = restructured(values, line, format in ANSWERED)
        reason = self._refused(Row(values, line, 0), format)
        if reason is not None:
            return None, [replace(reason, before=original)]
        return values, changes + more

    def _refused(self, row: Row, format: str) -> Change | None:
        """Why a row is left out: training could not use it, or it stood before."""
        if not format:
            fields = ", ".join(row.values)[:300]
            problem = Problem("row_format", {"line": row.line, "offset": 0, "fields": fields})
            return Change(row.line, "unusable", "", "", None, problem.text(self._language))
        verdict = parse_row(row, format)
        if isinstance(verdict, Problem):
            return Change(row.line, "unusable", "", "", None, verdict.text(self._language))
        if isinstance(verdict, Dropped):
            return Change(row.line, "empty_answer", "", "", None, counted({verdict.reason: 1}, self._language))
        key = across.whole_key(verdict)
        if key in self._seen:
            return Change(row.line, "duplicate", "", "", None)
        self._seen.add(key)
        return None


def _thin(spec: DataSpec, asked: Wanted, fixed: Fixed, origins: "array[int]", changes: IO[str],
          judges: Mapping[str, ConversationFile], on_progress: OnProgress) -> None:  # fmt: skip
    """Check the copy, and leave out the rows with the findings that were named."""
    part = Path(fixed.path + PART)
    copy = spec.model_copy(update={"data": str(part), "encoding": "utf-8"})
    file, checks = open_conversations(copy), inspection.Inspection()
    survey(file, None, on_progress, checks.see)
    kinds = [found for found in checks.finish(file, judges, on_progress) if found.kind in asked.drop]
    gone: dict[int, Found] = {}
    for kind in kinds:
        for line in kind.lines:
            gone.setdefault(line, kind)
    thinner = Path(fixed.path + PART + PART)
    with thinner.open("w", encoding="utf-8", newline="\n") as kept:
        for number, text in _numbered(part):
            if number in gone:
                what = gone[number].what(asked.language)
                change = Change(origins[number - 1], "drop", "", text, None, what)
                _note(fixed, changes, [change])
            else:
                kept.write(f"{text}\n")
    fixed.rows -= len(gone)
    fixed.left_out += len(gone)
    thinner.replace(part)


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            yield number, line.removesuffix("\n")


def _note(fixed: Fixed, file: IO[str], changes: Sequence[Change]) -> None:
    for change in changes:
        fixed.rules[change.rule] += 1
        record = {"row": change.row, "rule": change.rule, "field": change.field, "before": change.before,
                  "after": change.after, **({"reason": change.reason} if change.reason else {})}  # fmt: skip
        file.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8") + "\n")
