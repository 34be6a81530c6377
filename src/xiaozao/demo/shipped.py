"""Where the demo's data lies: customers' messages of a small shop, each with its ticket as JSON."""

from pathlib import Path
from typing import Literal

Language = Literal["en", "zh"]
Part = Literal["train", "validation", "heldout"]

LANGUAGES: tuple[Language, ...] = ("en", "zh")
PARTS: tuple[Part, ...] = ("train", "validation", "heldout")
SIZES: dict[Part, int] = {"train": 600, "validation": 60, "heldout": 60}

DATA_FOLDER = Path(__file__).parent / "data"


def demo_file(language: Language, part: Part) -> Path:
    """The shipped file of this part, one conversation in `messages` format per line."""
    return DATA_FOLDER / language / f"{part}.jsonl"
