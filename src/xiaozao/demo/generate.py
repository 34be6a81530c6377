"""Writes the demo's data: `python -m xiaozao.demo.generate` gives the shipped files again, byte for byte."""

import json
import random
import sys
from pathlib import Path

from xiaozao.demo.compose import Composer
from xiaozao.demo.files import LANGUAGES, PARTS, SIZES, Language, Part, demo_file
from xiaozao.demo.numbers import Numbers
from xiaozao.demo.similarity import Shingles, shingles, similarity
from xiaozao.demo.ticket import INTENTS, Ticket
from xiaozao.demo.wording import Decks

# It names the fields but not their values: only training can teach those.
SYSTEM: dict[Language, str] = {
    "en": "Write the customer's message as a ticket: intent, product, order, urgency.",
    "zh": "把顾客的消息写成工单：intent、product、order、urgency。",
}
URGENCY_OF_TEN = ("low",) * 3 + ("normal",) * 4 + ("high",) * 3
ORDER_SHARE = {"stock": 0.0, "discount": 0.3}
USUAL_ORDER_SHARE = 0.68
PRODUCT_SHARE = 0.75

# A message closer than this to another one is written anew.
TOO_CLOSE_WITHIN_PART = 0.7
TOO_CLOSE_BETWEEN_PARTS = 0.4


def make_messages(language: Language) -> dict[Part, list[tuple[str, Ticket]]]:
    """All parts of one language: messages with their tickets. Training comes first; the others keep away from it."""
    numbers = Numbers(language)
    other_parts: list[Shingles] = []
    made: dict[Part, list[tuple[str, Ticket]]] = {}
    for part in PARTS:
        rng = random.Random(f"xiaozao demo {language} {part}")
        decks = Decks(language, part, rng)
        composer = Composer(language, decks, numbers, rng)
        this_part: list[Shingles] = []
        rows = []
        for intent, urgency in _plan(SIZES[part], rng):
            while True:
                ticket = _ticket(intent, urgency, decks, numbers, rng)
                text = composer.message(ticket)
                marks = shingles(text)
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


def _plan(count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Intent and urgency of each row: every intent equally often, urgencies 3 : 4 : 3, in mixed order."""
    urgencies: list[str] = []
    plan = []
    for number in range(count):
        if not urgencies:
            urgencies = rng.sample(URGENCY_OF_TEN, len(URGENCY_OF_TEN))
        plan.append((INTENTS[number % len(INTENTS)], urgencies.pop()))
    rng.shuffle(plan)
    return plan


def _ticket(intent: str, urgency: str, decks: Decks, numbers: Numbers, rng: random.Random) -> Ticket:
    product = decks.deal("products") if rng.random() < PRODUCT_SHARE else None
    order = numbers.order(rng) if rng.random() < ORDER_SHARE.get(intent, USUAL_ORDER_SHARE) else None
    return Ticket(intent, product, order, urgency)


def _too_close(marks: Shingles, this_part: list[Shingles], other_parts: list[Shingles]) -> bool:
    return any(similarity(marks, other) > TOO_CLOSE_WITHIN_PART for other in this_part) or any(
        similarity(marks, other) > TOO_CLOSE_BETWEEN_PARTS for other in other_parts
    )


if __name__ == "__main__":
    for path in write_files():
        sys.stdout.write(f"{path}\n")
