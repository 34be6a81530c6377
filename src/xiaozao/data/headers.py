"""Where the header of a table stands, and what its columns are called.

People put titles, dates of export and groups of columns above the header, write it in two rows, or leave it out:
heading() tells each by the names that are known and by what the rows below hold.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from xiaozao.data.cellkinds import COMPARED as COLUMNS_COMPARED
from xiaozao.data.cellkinds import (
    WORD,
    is_data,
    is_surely_header,
    kind_of_cell,
    letter,
    place_of,
    roles_by_content,
)
from xiaozao.data.chatlog import COLUMNS
from xiaozao.data.fieldnames import ANSWERS, CONTEXTS, DIALOGUES, LABELS, QUESTIONS, TEXTS
from xiaozao.data.fieldtext import plain_name
from xiaozao.data.layout import ANSWERED, ASKED, is_part

LOOKED_AT = 20  # rows among which the header is
COMPARED = 100  # rows that are compared with it
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
NAME_WORDS = 4
SHARE = 0.75  # of a usual row's cells that a header has at least


@dataclass(frozen=True)
class Heading:
    """The names of a table's columns, "" for one that has none, and the place at which its rows begin.

    titles: the places of rows above that are no header. upper: the place of the upper of two header rows, or -1.
    bare: whether there is no header; roles are then the fields of the columns by what they hold, by place.
    lettered: whether columns= names columns by their letters.
    """

    names: tuple[str, ...]
    begin: int
    titles: tuple[int, ...] = ()
    upper: int = -1
    bare: bool = False
    roles: dict[int, str] = field(default_factory=dict)
    lettered: bool = False


def asked_columns(columns: str | None) -> tuple[str, ...]:
    """The names of columns that columns= holds."""
    pairs = (pair.partition("=") for pair in (columns or "").split(",") if pair.strip())
    return tuple(name.strip() for _, _, name in pairs if name.strip())


def heading(rows: Sequence[Sequence[Any]], asked: Sequence[str] = ()) -> Heading:
    """The heading of a table whose first rows these are. asked: the columns that the user named.

    A row with all names that were asked for is the header. Columns that were asked for by letter or number get these as
    their names; every row is then data, unless one is surely a header.
    """
    if not rows:
        return Heading((), 0)
    if asked and (place := _place_of_names(rows, asked)) >= 0:
        return _named(rows, place)
    by_letter = {place_of(name): name for name in asked if _is_letter(name, rows)}
    others = [name for name in asked if name not in by_letter.values()]
    if others and (place := _place_of_names(rows, others)) >= 0:
        return _lettered(_named(rows, place), by_letter)
    place, bare = _place(rows)
    if by_letter:
        below = _below(rows, place)
        bare = bare or not (_is_named(rows[place]) or is_surely_header(rows[place], below))
        return _lettered(_bare(rows, place) if bare else _named(rows, place), by_letter)
    return _bare(rows, place) if bare else _named(rows, place)


def _place_of_names(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> int:
    for place, cells in enumerate(rows[:LOOKED_AT]):
        if set(names) <= {str(cell).strip() for cell in cells if cell is not None}:
            return place
    return -1


def _is_letter(name: str, rows: Sequence[Sequence[Any]]) -> bool:
    """Whether a name can only be a letter or a number: no cell is called so."""
    called = any(_text(cell).casefold() == name.casefold() for cells in rows[:LOOKED_AT] for cell in cells)
    return not called and 0 <= place_of(name) < max(map(len, rows))


def _place(rows: Sequence[Sequence[Any]]) -> tuple[int, bool]:
    """The place of the header, or of the first row of data where there is none; and whether there is none.

    The header is the first row with two known names, else the first that is wide enough: with three quarters of the
    cells that most rows have. Numbers and dates are no names.
    """
    usual = _usual(rows)
    for place, cells in enumerate(rows[:LOOKED_AT]):
        wide = len(_filled(cells)) >= max(min(usual, 2), SHARE * usual)
        below = _below(rows, place)
        if _known(cells) >= 2 and _names(cells):
            return place, False
        if wide and is_data(cells, below) and _likely(cells, below) < 2 and not _heads(cells, below):
            return place, True
        if wide and not _known_below(rows, place) and (usual < 2 or _names(cells)):
            return place, False
    return 0, False


def _usual(rows: Sequence[Sequence[Any]]) -> int:
    """How many cells most rows fill."""
    widths = Counter(len(_filled(cells)) for cells in rows[:LOOKED_AT])
    return max(widths, key=lambda width: (widths[width], width), default=0)


def _known_below(rows: Sequence[Sequence[Any]], place: int) -> bool:
    """Whether a row with two known names comes later among the first rows, which is the header then."""
    return any(_known(cells) >= 2 and bool(_names(cells)) for cells in rows[place + 1 : LOOKED_AT])


def _below(rows: Sequence[Sequence[Any]], place: int) -> list[Sequence[Any]]:
    """The rows below one, without those that repeat it."""
    same = [_text(cell) for cell in rows[place]]
    return [row for row in rows[place + 1 : place + 1 + COMPARED] if [_text(cell) for cell in row] != same]


def _known(cells: Sequence[Any]) -> int:
    """How many different names that are known a row holds."""
    return len({plain_name(cell) for cell in cells if isinstance(cell, str)} & KNOWN)


def _likely(cells: Sequence[Any], below: Sequence[Sequence[Any]]) -> int:
    """How many cells are known names, or hold a part of one, and are no values of their columns."""
    known = 0
    for place, cell in enumerate(cells[:COLUMNS_COMPARED]):
        if not isinstance(cell, str) or not _is_known(cell):
            continue
        known += not any(place < len(row) and _text(row[place]) == cell.strip() for row in below)
    return known


def _heads(cells: Sequence[Any], below: Sequence[Sequence[Any]]) -> bool:
    """Whether a cell is called like a question or an answer, and sentences stand below it."""
    cells = cells[:COLUMNS_COMPARED]
    known = [isinstance(cell, str) and kind_of_cell(cell) == WORD and _is_known(cell) for cell in cells]
    return any(is_surely_header([cell], [[row[place]] for row in below if place < len(row)])
               for place, cell in enumerate(cells) if known[place])  # fmt: skip


def is_header_row(cells: Sequence[Any]) -> bool:
    """Whether a row consists of names that are known."""
    return _known(cells) >= 2 and _known(cells) == len(_filled(cells))


def _is_named(cells: Sequence[Any]) -> bool:
    """Whether a cell is called like a question, an answer or a text."""
    texts = [cell for cell in cells if isinstance(cell, str)]
    return any(_is_known(cell) and plain_name(cell) not in COLUMNS for cell in texts)


def _is_known(cell: str) -> bool:
    if plain_name(cell) in KNOWN:
        return True
    short = len(cell.split()) <= NAME_WORDS and kind_of_cell(cell) == WORD
    return short and is_part(cell, (*ASKED, *ANSWERED))


def _named(rows: Sequence[Sequence[Any]], place: int) -> Heading:
    """The heading of a table whose header stands at a place; it may be one of two rows."""
    for upper in (place, place - 1):
        lower = upper + 1
        if upper >= 0 and lower < len(rows) and _are_two(rows, upper, lower, certain=lower == place):
            names = _joined(rows[upper], rows[lower])
            return Heading(names, lower + 1, tuple(range(upper)), upper)
    names = tuple(_text(cell) for cell in rows[place])
    return Heading(names, place + 1, tuple(range(place)))


def _are_two(rows: Sequence[Sequence[Any]], upper: int, lower: int, certain: bool) -> bool:
    """Whether two rows are groups of columns and the names in them. certain: the lower one is known to be a header.

    A group covers several columns: its name is repeated beside, or the cells beside it are empty and have names below.
    """
    groups, names = [_text(cell) for cell in rows[upper]], [_text(cell) for cell in rows[lower]]
    if not _names(rows[upper]) or not _names(rows[lower]) or len(_filled(rows[upper])) < 2:
        return False
    width = max(len(groups), len(names))
    groups, names = groups + [""] * (width - len(groups)), names + [""] * (width - len(names))
    spans = any(
        names[place] and before and (not group or group == before) and names[place - 1]
        for place, (before, group) in enumerate(zip(groups, groups[1:], strict=False), 1)
    )
    if not spans or any(kind_of_cell(cell) != WORD for cell in (*groups, *names) if cell):
        return False
    if certain:
        return True
    below = _below(rows, lower)
    if is_data(rows[lower], below):
        return False
    known = sum(_is_known(name) for name in names if len(name) > 1)
    whole = sum(_is_known(name) for name in _joined(groups, names) if len(name) > 1)
    over_both = known and whole >= 2 and any(group and not name for group, name in zip(groups, names, strict=True))
    each = all(not after for group, after in zip(groups, [*groups[1:], "."], strict=True) if group)  # spans columns
    surely = bool(below) and (each or _known(groups) < 2) and is_surely_header(rows[lower], below)
    return known >= 2 or bool(over_both) or surely


def _joined(upper: Sequence[Any], lower: Sequence[Any]) -> tuple[str, ...]:
    """The lower names; the group before each of them where several groups hold the same."""
    width = max(len(upper), len(lower))
    groups = [_text(cell) for cell in upper] + [""] * (width - len(upper))
    names = [_text(cell) for cell in lower] + [""] * (width - len(lower))
    over = list(groups)
    for place in range(1, width):
        over[place] = over[place] or (over[place - 1] if names[place] else "")
    names = [name or group for name, group in zip(names, groups, strict=True)]
    counts = Counter(names)
    return tuple(
        f"{group} {name}" if name and counts[name] > 1 and group and group != name else name
        for name, group in zip(names, over, strict=True)
    )


def _bare(rows: Sequence[Sequence[Any]], place: int) -> Heading:
    """The heading of a table without a header: columns are called by what they hold, or by their letters."""
    widths = Counter(len(row) for row in rows[place:])
    width = max(widths, key=lambda width: (widths[width], width))
    roles = roles_by_content(rows[place:], width)
    names = tuple(roles.get(column, f"column {letter(column)}") for column in range(width))
    return Heading(names, place, tuple(range(place)), bare=True, roles=roles)


def _lettered(head: Heading, by_letter: dict[int, str]) -> Heading:
    """The heading with the letters and numbers that the user wrote as names of their columns."""
    others = [f"column {letter(place)}" if place in head.roles or not name else name
              for place, name in enumerate(head.names)]  # fmt: skip
    names = tuple(by_letter.get(place, name) for place, name in enumerate(others))
    return Heading(names, head.begin, head.titles, head.upper, head.bare, lettered=True)


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _filled(cells: Sequence[Any]) -> list[Any]:
    return [cell for cell in cells if _text(cell)]


def _names(cells: Sequence[Any]) -> list[str]:
    """The cells of a row where all of them could be names of columns; [] otherwise."""
    filled = _filled(cells)
    texts = [cell for cell in filled if isinstance(cell, str) and len(cell) <= NAME_LENGTH]
    return texts if len(texts) == len(filled) else []
