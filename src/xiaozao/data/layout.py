"""How the rows of one file are to be read, decided once, by the names and the contents of its first rows.

The row's own format decides where it has one (formats.format_of). What only a file can tell is decided here:

    columns=question=A,answer=B,system=C    the columns that the user named
    headers such as 客户问题, 客服回答            a question and an answer, by parts of their names and what they hold
    text and label                          a classification: the label is the answer
    label 1 and 0 beside an answer          verdicts, if all rows have one
    <|im_start|>user ... in `text`          ready-made marks, read as turns if every row has them (marks.py)
    time, sender and text                   a chat log, unless the rows hold messages or questions and answers
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xiaozao.data.chatlog import HEADERS, looks_like_chatlog
from xiaozao.data.fieldnames import CLASSIFIED, LABELS, TEXTS
from xiaozao.data.fieldtext import is_prose, plain_name
from xiaozao.data.formats import format_of
from xiaozao.data.marks import has_marks, read_marks
from xiaozao.data.notes import Notes
from xiaozao.data.preferences import has_plain_verdict, has_verdict
from xiaozao.data.rows import Row
from xiaozao.errors import UsageError
from xiaozao.spec.parts import DataSpec

WORDS = re.compile(r"[\W_]+")
FIRST = 200  # rows that are looked at
LABEL_LENGTH = 60  # characters of a class's name
CLASSES = 10  # so many may stand in a small file, else at most half as many as rows
MENTIONED = ("question", "answer", "system", "context", "label")  # roles of columns=, beside those of a chat log
NAMES = {
    **dict.fromkeys(("question", "prompt", "问题", "提问"), "prompt"),
    **dict.fromkeys(("answer", "completion", "response", "答案", "回答"), "completion"),
    **dict.fromkeys(("context", "input", "上下文"), "context"),
    **dict.fromkeys(("system", "系统"), "system"),
    "label": "label",
}
CONTEXT_FIELDS = ("context", "passage", "paragraph", "contexts", "passages")  # of several columns with context
ASKED = (
    *(
        "question",
        "query",
        "prompt",
        "user",
        "customer",
        "title",
        "ask",
        "source",
        "src",
        "input",
        "human",
        "article",
        "document",
    ),
    *("问题", "提问", "问句", "标准问", "咨询", "客户", "顾客", "买家", "用户", "标题"),
)
ANSWERED = (
    *(
        "answer",
        "reply",
        "response",
        "solution",
        "assistant",
        "agent",
        "content",
        "body",
        "target",
        "tgt",
        "output",
        "bot",
    ),
    *("答案", "回答", "回复", "答复", "解答", "标准答", "话术", "客服", "内容"),
)
CERTAIN = (
    "question",
    "query",
    "问题",
    "提问",
    "问句",
    "标准问",
    "answer",
    "reply",
    "答案",
    "回答",
    "回复",
    "答复",
    "解答",
)


@dataclass(frozen=True)
class Layout:
    """renames: a column of the file -> the field it is. format: "" where each row's own format decides.

    judged: labels 1 and 0 are verdicts. marked: the column whose texts hold the marks of turns. chatlog: one message a
    row.
    """

    renames: Mapping[str, str] = field(default_factory=dict)
    format: str = ""
    judged: bool = False
    marked: str = ""
    chatlog: bool = False

    def row(self, row: Row) -> Row:
        """The row with its fields under the names that formats.py knows."""
        values = row.values
        if self.renames:
            values = {self.renames.get(name, name): value for name, value in values.items()}
        if self.marked and isinstance(values.get(self.marked), str):
            turns = read_marks(values[self.marked])
            values = {**{name: value for name, value in values.items() if name != self.marked}, "messages": list(turns)}
        return Row(values, row.line, row.offset) if values is not row.values else row

    def column(self, name: str) -> str:
        """The name in the file of a field, for a message."""
        return next((column for column, role in self.renames.items() if role == name), name)


def layout_of(first: Sequence[Row], spec: DataSpec, everything: Callable[[], Iterable[Row]], notes: Notes) -> Layout:
    """The layout of a file whose first rows these are; `everything` reads all. Raises UsageError for columns=."""
    if spec.columns and (layout := _mapped(spec.columns, first)):
        return layout
    if spec.columns or spec.format == "chatlog":
        return Layout(chatlog=True)
    if spec.format != "auto":
        return Layout()
    rows = [row.values for row in first]
    formats = Counter(format_of(values) for values in rows)
    if not rows or set(formats) - {"", "text"}:
        judged = [values for values in rows if any(plain_name(name) in ("label", "kto_tag") for name in values)]
        plain = set(formats) <= {"prompt", "alpaca", "messages", "sharegpt", "kto"}
        return Layout(judged=plain and bool(judged) and all(map(_has_verdict, judged)) and len(judged) == len(rows))
    if all(map(looks_like_chatlog, rows)):
        return Layout(chatlog=True)
    if _is_classification(rows):
        return Layout(format="classification")
    if "text" in formats:
        return _marked(rows, everything, notes)
    return _by_name(rows, notes)


def _has_verdict(values: Mapping[str, Any]) -> bool:
    fields = {plain_name(name): value for name, value in values.items()}
    return has_verdict(fields) or has_plain_verdict(fields)


def _mapped(columns: str, first: Sequence[Row]) -> Layout | None:
    """The layout that `columns=` describes, or None where it names the roles of a chat log. Raises UsageError."""
    pairs = [tuple(part.strip() for part in pair.partition("=")[::2]) for pair in columns.split(",") if pair.strip()]
    roles = [role for role, _ in pairs]
    if not any(role in NAMES for role in roles) and not (set(roles) == {"text", "label"} or set(roles) == {"text"}):
        return None
    known = {name: None for row in first for name in row.values}
    renames: dict[str, str] = {}
    for role, name in pairs:
        if role not in NAMES and role != "text":
            raise UsageError("chatlog_role", given=f"{role}={name}", roles=", ".join([*MENTIONED, "text", *HEADERS]))
        if known and name not in known:
            raise UsageError("chatlog_column", given=f"{role}={name}", name=name, columns=", ".join(known))
        field_name = NAMES.get(role, role)
        if field_name == "context":
            field_name = next((spare for spare in CONTEXT_FIELDS if spare not in renames.values()), field_name)
        renames[name] = field_name
    kind = "classification" if set(roles) == {"text", "label"} else "text" if set(roles) == {"text"} else ""
    for needed in () if kind else ("prompt", "completion"):
        taken = {renames.get(name, plain_name(name)) for name in known}
        if needed not in taken and not format_of({renames.get(name, name): "" for name in known}):
            role = {"prompt": "question", "completion": "answer"}[needed]
            raise UsageError("columns_missing", role=role, columns=", ".join(known))
    return Layout(_out_of_the_way(renames, known), format=kind)


def _out_of_the_way(renames: Mapping[str, str], known: Iterable[str]) -> dict[str, str]:
    """The renames, and other names for columns that are called like a field and were not named."""
    taken = set(renames.values())
    hidden = {name: f"{name} (column)" for name in known if name not in renames and _clashes(plain_name(name), taken)}
    return {**hidden, **renames}


def _clashes(name: str, taken: set[str]) -> bool:
    """Whether a column that was not named would be read in the place of one that was."""
    fields = {taken_name: "" for taken_name in taken}
    return name in taken or (format_of({**fields, name: []}) not in ("", format_of(fields)))


def _is_classification(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all rows hold a text and the name of a class, of few that repeat."""
    fields = [{plain_name(name): value for name, value in values.items()} for values in rows]
    text = next((name for name in CLASSIFIED if all(isinstance(row.get(name), str) for row in fields)), "")
    label = next((name for name in LABELS if any(row.get(name) is not None for row in fields)), "")
    values = [row.get(label) for row in fields]
    if not text or not label or text == label or not all(map(_names_a_class, values)):
        return False
    classes = {str(value).strip() for value in values}
    certain = text in TEXTS or label in ("label", "label_text", "标签", "类别", "分类", "sentiment", "intent")
    return certain and len(classes) <= max(CLASSES, len(values) // 2)


def _names_a_class(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_names_a_class, value))
    return value is None or (
        isinstance(value, str | int | float) and len(str(value)) <= LABEL_LENGTH and "\n" not in str(value)
    )


def _marked(rows: Sequence[Mapping[str, Any]], everything: Callable[[], Iterable[Row]], notes: Notes) -> Layout:
    """The layout of texts: read as turns where every one of them is written with marks."""
    name = next(name for name in rows[0] if plain_name(name) in TEXTS) if any(_text_of(row) for row in rows[:1]) else ""
    if not any(has_marks(_text_of(values)) for values in rows):
        return Layout()
    counts: Counter[str] = Counter()
    for row in everything():
        text = _text_of(row.values)
        counts["rows"] += bool(text.strip())
        counts["marks"] += has_marks(text)
        counts["turns"] += bool(read_marks(text))
    if name and counts["turns"] == counts["rows"]:
        notes.tell("note_marks_read", count=counts["rows"], field=name)
        return Layout(marked=name, format="messages")
    notes.tell("note_marks", count=counts["marks"], rows=counts["rows"], read=counts["turns"])
    return Layout()


def _text_of(values: Mapping[str, Any]) -> str:
    return next((value for name, value in values.items() if plain_name(name) in TEXTS and isinstance(value, str)), "")


def _by_name(rows: Sequence[Mapping[str, Any]], notes: Notes) -> Layout:
    """A question and an answer by parts of their names, where exactly one column fits each and both hold text."""
    names = list({name: None for values in rows for name in values})
    asked, answered = _fitting(names, ASKED, rows), _fitting(names, ANSWERED, rows)
    asked = [name for name in asked if name not in answered] or asked
    answered = [name for name in answered if name not in asked] or answered
    if len(asked) != 1 or len(answered) != 1 or asked == answered:
        certain = [[name for name in side if is_part(name, CERTAIN)] for side in (asked, answered)]
        asked, answered = certain
    if len(asked) != 1 or len(answered) != 1 or asked == answered:
        return Layout()
    notes.tell("note_columns", question=asked[0], answer=answered[0])
    return Layout(_out_of_the_way({asked[0]: "prompt", answered[0]: "completion"}, names))


def _fitting(names: Iterable[str], parts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name in names if is_part(name, parts) and _holds_text([values.get(name) for values in rows])]


def is_part(name: str, parts: Sequence[str]) -> bool:
    """Whether a name holds one of the parts: as a word, in Chinese anywhere."""
    plain = plain_name(name)
    words = WORDS.split(plain)
    return any(part in plain if not part.isascii() else part in words for part in parts)


def _holds_text(values: Sequence[Any]) -> bool:
    """Whether a column holds texts that differ, not numbers, dates or a few names."""
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    numbers = sum(
        value.replace(".", "").replace("-", "").replace(":", "").replace("/", "").strip().isdecimal() for value in texts
    )
    prose = sum(is_prose(text) for text in texts)
    varied = len(set(texts)) * 4 > len(texts)
    return bool(texts) and numbers * 2 < len(texts) and (varied or prose * 2 > len(texts))
