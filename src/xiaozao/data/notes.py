"""What a reader guessed, ignored or left out, each once with its count: nothing of that is silent."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from xiaozao.errors import Problem


@dataclass
class Notes:
    """Collects the notes on one file. A note is a key of the catalogue (`problem.<key>`) and its parameters.

    columns: of a table, the letters of its columns and what stands in them first.
    """

    columns: dict[str, str] = field(default_factory=dict)

    _counts: dict[tuple[Hashable, ...], int] = field(default_factory=dict)
    _told: dict[tuple[Hashable, ...], Problem] = field(default_factory=dict)

    def tell(self, key: str, **params: object) -> None:
        """Note something about the file as a whole."""
        self._told.setdefault((key, *map(str, params.values())), Problem(key, params))

    def count(self, key: str, line: int, **params: object) -> None:
        """Note something about a row. The note says how many there are (`count`) and where the first is (`line`)."""
        place = (key, *map(str, params.values()))
        self._told.setdefault(place, Problem(key, {**params, "line": line}))
        self._counts[place] = self._counts.get(place, 0) + 1

    def problems(self) -> tuple[Problem, ...]:
        """The notes, in the order in which they came up."""
        return tuple(
            Problem(note.key, {**note.params, "count": self._counts[place]} if place in self._counts else note.params)
            for place, note in self._told.items()
        )
