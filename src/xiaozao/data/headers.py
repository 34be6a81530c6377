"""Where the header of a table stands: people put titles, dates of export and merged groups of columns above it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from xiaozao.data.chatlog import COLUMNS
from xiaozao.data.fieldtext import plain_name
from xiaozao.data.formats import ANSWERS, CONTEXTS, DIALOGUES, LABELS, QUESTIONS, TEXTS
from xiaozao.data.layout import ANSWERED, ASKED

LOOKED_AT = 20  # rows among which the header is
KNOWN = {
    *QUESTIONS,
    *ANSWERS,
    *CONTEXTS,
    *DIALOGUES,
    *LABELS,
    *TEXTS,
    *COLUMNS,
    *ASKED,
    *ANSWERED,
    "system",
    "chosen",
    "rejected",
}
NAME_LENGTH = 60
SHARE = 0.75  # of a usual row's cells that a header has at least


def header_place(rows: Sequence[Sequence[Any]]) -> int:
    """The place of the header among the first rows: the first with two known names, else the first that is wide enough.

    A row is wide enough with three quarters of the cells that most rows have. Numbers and dates are no names.
    """
    for place, cells in enumerate(rows[:LOOKED_AT]):
        names = _names(cells)
        if names and sum(plain_name(name) in KNOWN for name in names) >= 2:
            return place
    widths = Counter(len(_filled(cells)) for cells in rows[:LOOKED_AT])
    usual = max(widths, key=lambda width: (widths[width], width), default=0)
    for place, cells in enumerate(rows[:LOOKED_AT]):
        if usual < 2 or (len(_filled(cells)) >= max(2, SHARE * usual) and _names(cells)):
            return place
    return 0


def _filled(cells: Sequence[Any]) -> list[Any]:
    return [cell for cell in cells if cell is not None and str(cell).strip()]


def _names(cells: Sequence[Any]) -> list[str]:
    """The cells of a row where all of them could be names of columns; [] otherwise."""
    filled = _filled(cells)
    texts = [cell for cell in filled if isinstance(cell, str) and len(cell) <= NAME_LENGTH]
    return texts if len(texts) == len(filled) else []
