"""Writes the demo's data: `python -m xiaozao.demo.make` gives the shipped files again, byte for byte."""

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from xiaozao.demo.compose import Composer
from xiaozao.demo.figures import Numbers
from xiaozao.demo.shipped import LANGUAGES, PARTS, SIZES, Language, Part, demo_file
from xiaozao.demo.similarity import SHINGLE_LENGTH, Shingles, shingles, similarity
from xiaozao.demo.ticket import INTENTS, URGENCIES, Ticket
from xiaozao.demo.wording import Decks

# It names the fields but not their values: only training can teach those.
SYSTEM: dict[Language, str] = {
    "en": "Write the customer's message as a ticket: intent, product, order, urgency.",
    "zh": "把顾客的消息写成工单：intent、product、order、urgency。",
}
# Dealt from small decks, so that a part of 60 rows is balanced like one of 600. When null is
# rare, a small model learns to name a product whatever it reads.
URGENCY_CARDS = URGENCIES
PRODUCT_NAMED_CARDS = (True, True, False)
ORDER_NAMED_CARDS = (True, True, True, True, False)

# A message closer than this to another one is written anew.
TOO_CLOSE_WITHIN_PART = 0.7
TOO_CLOSE_BETWEEN_PARTS = 0.4


Card = TypeVar("Card")


@dataclass(frozen=True)
class Shape:
    """The plan of a ticket before it gets a product and an order number."""

    intent: str
    urgency: str
    product: bool
    order: bool


def make_messages(language: Language) -> dict[Part, list[tuple[str, Ticket]]]:
    """All parts of one language: messages with their tickets.

    The held-out parts have no message similar to training.
    """
    numbers = Numbers(language)
    other_parts: list[Shingles] = []
    made: dict[Part, list[tuple[str, Ticket]]] = {}
    for part in PARTS:
        rng = random.Random(f"xiaozao demo {language} {part}")
        decks = Decks(language, part, rng)
        composer = Composer(language, decks, numbers, rng)
        this_part: list[Shingles] = []
        rows = []
        for shape in _plan(SIZES[part], rng):
            while True:
                ticket = _ticket(shape, decks, numbers, rng)
                text = composer.message(ticket)
                marks = shingles(text, SHINGLE_LENGTH[language])
                if not _too_close(marks, this_part, other_parts):
                    break
            this_part.append(marks)
            rows.append((text, ticket))
        other_parts += this_part
        made[part] = rows
    return made


def as_line(language: Language, text: str, ticket: Ticket) -> str:
    """One line of a data file, in `messages` format."""
    messages = [
        {"role": "system", "content": SYSTEM[language]},
        {"role": "user", "content": text},
        {"role": "assistant", "content": ticket.as_json()},
    ]
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"


def write_files(folder: Path | None = None) -> list[Path]:
    """Writes the six files, to the shipped places or below `folder`."""
    written = []
    for language in LANGUAGES:
        for part, rows in make_messages(language).items():
            path = folder / language / f"{part}.jsonl" if folder else demo_file(language, part)
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = "".join(as_line(language, text, ticket) for text, ticket in rows)
            path.write_text(lines, encoding="utf-8", newline="\n")
            written.append(path)
    return written


def _plan(count: int, rng: random.Random) -> list[Shape]:
    """The shapes of all rows: every intent equally often, the other properties in their shares, in shuffled order."""
    intents = [INTENTS[number % len(INTENTS)] for number in range(count)]
    urgencies = _dealt(URGENCY_CARDS, count, rng)
    products = _dealt(PRODUCT_NAMED_CARDS, count, rng)
    orders = _dealt(ORDER_NAMED_CARDS, count, rng)
    plan = [
        # Who asks what the shop has in stock has not ordered it yet.
        Shape(intent, urgency, product, order and intent != "stock")
        for intent, urgency, product, order in zip(intents, urgencies, products, orders, strict=True)
    ]
    rng.shuffle(plan)
    return plan


def _dealt(cards: tuple[Card, ...], count: int, rng: random.Random) -> list[Card]:
    dealt: list[Card] = []
    while len(dealt) < count:
        dealt += rng.sample(cards, len(cards))
    return dealt[:count]


def _ticket(shape: Shape, decks: Decks, numbers: Numbers, rng: random.Random) -> Ticket:
    product = decks.deal("products") if shape.product else None
    order = numbers.order(rng) if shape.order else None
    return Ticket(shape.intent, product, order, shape.urgency)


def _too_close(marks: Shingles, this_part: list[Shingles], other_parts: list[Shingles]) -> bool:
    return any(similarity(marks, other) > TOO_CLOSE_WITHIN_PART for other in this_part) or any(
        similarity(marks, other) > TOO_CLOSE_BETWEEN_PARTS for other in other_parts
    )


if __name__ == "__main__":
    for path in write_files():
        sys.stdout.write(f"{path}\n")
