"""The phrases and things that messages are made of, read from wording/<language>/*.json.

`train.json` and `heldout.json` have the same lists with no phrase in common; `things.json` holds products and names by
part. A list is dealt like a deck of cards, so that all its phrases come up before one comes up twice.
"""

import json
import random
from pathlib import Path

from xiaozao.demo.shipped import Language, Part

WORDING_FOLDER = Path(__file__).parent / "wording"
Lists = dict[str, list[str]]


def read_lists(language: Language, name: str) -> Lists:
    """The lists of one wording file: `train`, `heldout` or `things`."""
    text = (WORDING_FOLDER / language / f"{name}.json").read_text(encoding="utf-8")
    lists: Lists = json.loads(text)
    return lists


class Decks:
    """Deals phrases, products and names of one part, each list evenly and in a seeded order."""

    def __init__(self, language: Language, part: Part, rng: random.Random) -> None:
        things = read_lists(language, "things")
        # Validation tells of over-fitting to numbers, names and products; new phrases are kept for the held-out part.
        self._lists = read_lists(language, "heldout" if part == "heldout" else "train") | things
        self._lists["products"] = things[f"products.{part}"]
        self._lists["names"] = things[f"names.{part}"]
        self._left: Lists = {}
        self._rng = rng

    def has(self, name: str) -> bool:
        """Whether a list of this name exists."""
        return name in self._lists

    def deal(self, name: str) -> str:
        """The next card of the list `name`."""
        left = self._left.setdefault(name, [])
        if not left:
            left.extend(self._rng.sample(self._lists[name], len(self._lists[name])))
        return left.pop()
