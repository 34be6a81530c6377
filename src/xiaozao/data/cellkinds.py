"""What the cells of a table hold: numbers, times, sentences or words. It tells data from names, and columns apart.

A sentence is what nobody calls a column: it ends with a mark, goes over lines, is long, or is typed like a message.
"""

import re
from collections.abc import Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any

from xiaozao.data.fieldtext import NO_PROSE
from xiaozao.data.times import parse_time

NUMBER, TIME, SENTENCE, WORD = "number", "time", "sentence", "word"
FIGURES = re.compile(r"[+\-]?[¥$€£]?\d[\d.,\s]*%?|[+\-]?\d+(?:\.\d+)?[eE][+\-]?\d+")
ENDS = re.compile("[.!?。！？…;；؟।~～]['\"”’」』)）\\]]*\\Z")
ASKS = re.compile(r"[?？؟]|(?:吗|呢|么)\s*\Z|怎么|什么时候|如何|为什么|多久|多少|哪里|能不能|可不可以")
WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
WIDE_SPEECH = re.compile("[，。！？；]|(?:吗|呢|吧|么|了|啊|哦|呀|哈|嘛|谢谢|您好|你好)\\s*\\Z")
LONG, MANY_WORDS, MANY_WIDE = 60, 6, 12  # characters, words, wide characters from which a text is a sentence
TYPED = 3  # words of a message that begins with a small letter, as nobody begins the name of a column
MOST, SOME = 0.8, 0.3
COMPARED = 64  # columns, of wider tables the first
LABEL_LENGTH = 60


def kind_of_cell(cell: Any) -> str:
    """NUMBER, TIME, SENTENCE or WORD; "" for an empty cell."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return ""
    if isinstance(cell, date | time):
        return TIME
    if isinstance(cell, int | float | Decimal) or FIGURES.fullmatch(str(cell).strip()):
        return NUMBER
    text = str(cell).strip()
    if text[:1] in "0123456789[" and parse_time(text) is not None:
        return TIME
    return SENTENCE if is_sentence(text) else WORD


def is_sentence(text: str) -> bool:
    """Whether a text is somebody's words, not a name or a label."""
    if len(text) > LONG or "\n" in text:
        return True
    wide, words = sum(1 for _ in WIDE.finditer(text)), text.split()
    if wide * 2 > len(text.replace(" ", "")):
        return wide >= MANY_WIDE or bool(WIDE_SPEECH.search(text) or ASKS.search(text)) or bool(ENDS.search(text))
    if len(words) >= MANY_WORDS or (len(words) > 1 and ENDS.search(text)):
        return True
    return len(words) >= TYPED and text[0].islower() and "_" not in text


def is_data(row: Sequence[Any], below: Sequence[Sequence[Any]]) -> bool:
    """Whether a row holds the same things as the rows below it, and is no header of them."""
    row = row[:COMPARED]
    kinds = [kind_of_cell(cell) for cell in row]
    if not below:
        return len(set(filter(None, kinds))) == 1 and SENTENCE in kinds
    columns = [_column(below, place) for place in range(len(row))]
    data = sum(
        _is_alike(cell, kind, column) for cell, kind, column in zip(row, kinds, columns, strict=True) if kind and column
    )
    return data > 0 and not _names_numbers(kinds, columns)


def is_surely_header(row: Sequence[Any], below: Sequence[Sequence[Any]]) -> bool:
    """Whether a row differs from all below: words over sentences in every column of sentences, or over numbers."""
    row = row[:COMPARED]
    kinds = [kind_of_cell(cell) for cell in row]
    columns = [_column(below, place) for place in range(len(row))]
    spoken = [
        kind
        for kind, column in zip(kinds, columns, strict=True)
        if kind and column and _share(column, (SENTENCE,)) >= MOST
    ]
    return _names_numbers(kinds, columns) or (bool(spoken) and set(spoken) == {WORD})


def _column(rows: Sequence[Sequence[Any]], place: int) -> list[Any]:
    cells = [row[place] for row in rows if place < len(row)]
    return [cell for cell in cells if kind_of_cell(cell)]


def _names_numbers(kinds: Sequence[str], columns: Sequence[Sequence[Any]]) -> bool:
    return any(
        kind in (WORD, SENTENCE) and column and _share(column, (NUMBER, TIME)) >= MOST
        for kind, column in zip(kinds, columns, strict=True)
    )


def _is_alike(cell: Any, kind: str, column: Sequence[Any]) -> bool:
    """Whether a cell is of the kind of those below it, or stands among them once more."""
    if kind in (NUMBER, TIME):
        return _share(column, (kind,)) >= 1 - MOST
    if kind == SENTENCE and _share(column, (SENTENCE,)) >= SOME:
        return True
    plain = str(cell).strip().casefold()
    return any(str(other).strip().casefold() == plain for other in column)


def _share(column: Sequence[Any], kinds: Sequence[str]) -> float:
    return sum(kind_of_cell(cell) in kinds for cell in column) / len(column)


def roles_by_content(rows: Sequence[Sequence[Any]], width: int) -> dict[int, str]:
    """The columns of a table without a header by what they hold: place -> field; {} where that is not clear.

    Two columns of texts are a question and an answer; a text beside a few names that repeat is a message of a sender
    if there are times, and otherwise a text of a class; a text alone is a text.
    """
    columns = {place: _column(rows, place) for place in range(min(width, COMPARED))}
    filled = {place: column for place, column in columns.items() if column}
    times = [place for place, column in filled.items() if _share(column, (TIME,)) >= MOST]
    rest = {
        place: column
        for place, column in filled.items()
        if place not in times and _share(column, (NUMBER, TIME)) < MOST and not _is_address(column)
    }
    labels = [place for place, column in rest.items() if _is_label(column)]
    texts = [place for place in rest if place not in labels]
    if times and len(labels) == len(texts) == 1:
        return {times[0]: "time", labels[0]: "sender", texts[0]: "text"}
    if len(texts) == 2:
        asked, answered = sorted(texts, key=lambda place: (-_asking(rest[place]), place))
        return {asked: "question", answered: "answer"}
    if len(texts) == 1 and len(labels) <= 1:
        return {texts[0]: "text", **{place: "label" for place in labels}}
    return {}


def _is_label(column: Sequence[Any]) -> bool:
    """Whether a column holds few names that repeat."""
    texts = {str(cell).strip() for cell in column}
    if _share(column, (SENTENCE,)) * 2 > 1:
        return False
    return len(texts) * 2 <= len(column) and all(len(text) <= LABEL_LENGTH for text in texts)


def _is_address(column: Sequence[Any]) -> bool:
    """Whether a column holds addresses of pages or mail, or keys, that nobody says."""
    return sum(NO_PROSE.fullmatch(str(cell)[:500]) is not None for cell in column) >= MOST * len(column)


def _asking(column: Sequence[Any]) -> int:
    """How much a column asks, in steps that are no accident."""
    return round(3 * sum(bool(ASKS.search(str(cell))) for cell in column) / len(column))


def letter(place: int) -> str:
    """The letter of a column, as tables show it: 0 is A, 26 is AA."""
    letters, place = "", place + 1
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def place_of(letters: str) -> int:
    """The place of a column by its letter or its number from 1; -1 for another name."""
    if letters.isascii() and letters.isdecimal() and len(letters) < 6:
        return int(letters) - 1
    if not re.fullmatch("[A-Z]{1,3}|[a-z]", letters):
        return -1
    place = 0
    for sign in letters.upper():
        place = 26 * place + ord(sign) - 64
    return place - 1
