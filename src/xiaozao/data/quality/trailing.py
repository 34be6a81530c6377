"""Messages after the last answer: they are cut off when a row is read, so the rows are looked at once more, as text.

In a line of JSON the last `"role"` or `"from"` tells who spoke last, which is far quicker than reading the row.
"""

import re
from collections.abc import Iterator

from xiaozao.data.conversations import ConversationFile
from xiaozao.data.encodings import read_lines
from xiaozao.data.quality.findings import head
from xiaozao.data.rows import FILE_LINES, Row
from xiaozao.data.sources import Source, read_rows
from xiaozao.data.turns import ROLES

FORMATS = {"messages": ("role", "content"), "sharegpt": ("from", "value")}
DIALOGUES = ("messages", "conversations", "conversation", "dialogue")


def trailing_turns(file: ConversationFile) -> Iterator[tuple[int, str]]:
    """Rows that do not end with an answer: line and the last message."""
    for place, member in enumerate(file.members):
        if member.format not in FORMATS or member.source.kind not in ("json", "jsonl"):
            continue
        look = _in_lines if member.source.kind == "jsonl" else _in_values
        for line, excerpt in look(member.source, member.format):
            yield place * FILE_LINES + line, excerpt


def _in_lines(source: Source, format: str) -> Iterator[tuple[int, str]]:
    name, content = FORMATS[format]
    speaker = re.compile(rf'"{name}"\s*:\s*"(\w+)"', re.IGNORECASE)
    said = re.compile(rf'"{content}"\s*:\s*"((?:[^"\\]|\\.)*)"', re.IGNORECASE)
    for line in read_lines(source.path, source.encoding):
        start = line.text.rfind(f'"{name}"')
        match = speaker.match(line.text, start) if start >= 0 else None
        if match and ROLES.get(match[1].lower()) == "user":
            last = list(said.finditer(line.text))[-1:]
            yield line.number, head(last[0][1]) if last else ""


def _in_values(source: Source, format: str) -> Iterator[tuple[int, str]]:
    name, content = FORMATS[format]
    for row in read_rows(source):
        if not isinstance(row, Row):
            continue
        turns = next((row.values[key] for key in DIALOGUES if key in row.values), None)
        last = turns[-1] if isinstance(turns, list) and turns else None
        if isinstance(last, dict) and ROLES.get(str(last.get(name)).strip().lower()) == "user":
            yield row.line, head(str(last.get(content, "")))
