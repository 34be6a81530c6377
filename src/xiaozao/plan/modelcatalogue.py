"""The shipped catalogue of models that people tune, with the facts that decide the choice. No network, no torch.

catalogue.json holds for each model its ids on the hubs, what its card says (languages, licence, thinking), and those
keys of its config.json that the plan reads. `source` says where the config was read; a null was not found. All are
dense decoders: the plan cannot compute the memory of mixtures of experts or of hybrids (Qwen3.5) from a config alone.
"""

import json
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

FILE = Path(__file__).with_name("catalogue.json")

Business = Literal["yes", "under_700m_users", "terms", "research_only"]
Thinking = Literal["none", "switchable", "always"]


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue."""

    name: str  # on Hugging Face
    modelscope: str | None
    parameters: int  # as published
    languages: tuple[str, ...]  # those of the card, its own first
    language_count: int  # as published; cards with very many do not list them
    license: str
    business: Business
    thinking: Thinking
    context: int | None  # tokens
    released: str  # YYYY-MM
    good_at: tuple[str, ...]  # jobs that it was made for
    source: str
    config: dict[str, Any]  # as in config.json

    @property
    def own(self) -> tuple[str, ...]:
        """The model's main languages: the first on its card, and English beside Chinese."""
        return self.languages[: 2 if self.languages[0] == "zh" else 1]


@cache
def catalogue() -> tuple[Entry, ...]:
    """All entries, in the order of the file."""
    rows = json.loads(FILE.read_text(encoding="utf-8"))
    return tuple(_entry(row) for row in rows)


def _entry(row: dict[str, Any]) -> Entry:
    """A row of the file; a missing or an unknown key is a bug of ours and raises."""
    if set(row) != {field.name for field in fields(Entry)}:
        raise ValueError(f"catalogue.json: the keys of {row.get('name')} are not those of an entry")
    lists = {name: tuple(row[name]) for name in ("languages", "good_at")}
    return Entry(**{**row, **lists})
