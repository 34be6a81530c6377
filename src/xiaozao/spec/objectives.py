"""For each objective: the kind of data that it learns from, and the default weights of its loss."""

from typing import Literal

Kind = Literal["answers", "texts", "pairs", "verdicts"]

KINDS: dict[str, Kind] = {
    "sft": "answers",  # what the assistant says in conversations
    "pretrain": "texts",  # every token of plain text
    "dpo": "pairs",  # two answers to one question: chosen and rejected
    "orpo": "pairs",
    "simpo": "pairs",
    "kto": "verdicts",  # one answer and whether it is a good one
}
FORMATS: dict[str, Kind] = {"preference": "pairs", "kto": "verdicts", "text": "texts"}  # all others hold answers
# Options that only some objectives read.
READ_BY: dict[str, tuple[str, ...]] = {
    "beta": ("dpo", "orpo", "simpo", "kto"),
    "gamma": ("simpo",),
    "label_smoothing": ("dpo",),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
}
BETAS = {"dpo": 0.1, "orpo": 0.1, "simpo": 2.0, "kto": 0.1}  # of the papers
GAMMA = 1.0  # SimPO's authors: half of beta is where to begin


def sequences(objective: str) -> int:
    """The number of sequences in a sample of this objective."""
    return 2 if KINDS[objective] == "pairs" else 1


def those_of(kind: Kind) -> str:
    """The objectives that learn from data of this kind, for a message: `dpo, orpo, simpo`."""
    return ", ".join(name for name, one in KINDS.items() if one == kind)
