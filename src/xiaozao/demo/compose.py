"""A ticket -> the message that a customer would have written for it.

    greeting  trouble  rejected request  REQUEST  order number  other numbers  urgency  second request  thanks  name

Only the request is always there. Product and order number stand once, in the request, in the trouble or in a sentence
of their own.
"""

import random
import re
from dataclasses import dataclass, field

from xiaozao.demo.figures import Numbers
from xiaozao.demo.noise import add_noise
from xiaozao.demo.shipped import Language
from xiaozao.demo.ticket import Ticket
from xiaozao.demo.wording import Decks

# The same trouble stands before several requests, so that it does not give the intent away.
TROUBLES: dict[str, tuple[str, ...]] = {
    "refund": ("defect", "dislike", "late"),
    "exchange": ("defect", "dislike"),
    "tracking": ("late",),
    "cancel": ("changed", "late"),
    "address": ("moved",),
    "invoice": ("office",),
    "stock": ("wish",),
    "repair": ("defect",),
}
REJECTED: dict[str, tuple[str, ...]] = {
    "refund": ("exchange", "repair"),
    "exchange": ("refund", "repair"),
    "repair": ("refund", "exchange"),
    "tracking": ("cancel", "refund"),
    "cancel": ("exchange",),
    "address": ("cancel",),
}
SECOND = ("invoice", "tracking", "stock", "address")


@dataclass
class Draft:
    """The facts that are still to be mentioned, and the sentences so far."""

    product: bool
    order: bool
    greeted: bool = False
    sentences: list[str] = field(default_factory=list)


class Composer:
    """Writes the messages of one part of the data from its decks of phrases."""

    def __init__(self, language: Language, decks: Decks, numbers: Numbers, rng: random.Random) -> None:
        self._language = language
        self._decks = decks
        self._numbers = numbers
        self._rng = rng

    def message(self, ticket: Ticket) -> str:
        """A message that mentions every field of the ticket."""
        draft = Draft(ticket.product is not None, ticket.order is not None)
        self._opening(ticket, draft)
        self._request(ticket, draft)
        self._details(ticket, draft)
        self._ending(ticket, draft)
        text = self._fill_small_things(self._join(draft.sentences))
        text = add_noise(text, self._language, self._rng)
        return self._fill_in(text, ticket)

    def _chance(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _opening(self, ticket: Ticket, draft: Draft) -> None:
        draft.greeted = self._chance(0.25)
        if draft.greeted:
            draft.sentences.append(self._decks.deal("greetings"))
        if self._chance(0.33):
            trouble = self._decks.deal(f"trouble.{self._rng.choice(TROUBLES[ticket.intent])}")
            if "{thing}" in trouble:
                names_it = draft.product and self._chance(0.6)
                draft.product = draft.product and not names_it
                thing = self._decks.deal("thing.product" if names_it else "thing.none")
                trouble = trouble.replace("{thing}", thing)
            draft.sentences.append(trouble)
        if ticket.intent in REJECTED and self._chance(0.06):
            draft.sentences.append(self._decks.deal(f"rejected.{self._rng.choice(REJECTED[ticket.intent])}"))

    def _request(self, ticket: Ticket, draft: Draft) -> None:
        request = self._decks.deal(f"request.{ticket.intent}")
        if draft.product and ("{item}" not in request or self._chance(0.1)):
            draft.sentences.append(self._decks.deal("sentence.product"))
            draft.product = False
        if draft.order and self._chance(0.12):
            draft.sentences.append(self._decks.deal("sentence.order"))
            draft.order = False
        if "{item}" in request:
            request = request.replace("{item}", self._item(ticket, draft))
        draft.sentences.append(request)

    def _item(self, ticket: Ticket, draft: Draft) -> str:
        """The object of the request: product and order number, as far as they are still to be mentioned."""
        order_here = draft.order and self._chance(0.6)
        wished = ticket.intent == "stock"
        mentioned = ticket.product is not None and not draft.product
        if draft.product:
            kind = "wished.product" if wished else "bought.both" if order_here else "bought.product"
        elif order_here:
            kind = "bought.order"
        else:
            kind = "mentioned" if mentioned else "wished.none" if wished else "bought.none"
        draft.product = False
        draft.order = draft.order and not order_here
        return self._decks.deal(kind)

    def _details(self, ticket: Ticket, draft: Draft) -> None:
        if draft.order:
            draft.sentences.append(self._decks.deal("sentence.order"))
        elif ticket.order is None and ticket.intent != "stock" and self._chance(0.2):
            draft.sentences.append(self._decks.deal("no order number"))
        if self._chance(0.08 if ticket.order else 0.2):
            draft.sentences.append(self._decks.deal("other numbers"))

    def _ending(self, ticket: Ticket, draft: Draft) -> None:
        if ticket.urgency != "normal":
            urgency = self._decks.deal(f"urgency.{ticket.urgency}")
            early = self._chance(0.12)
            draft.sentences.insert(draft.greeted if early else len(draft.sentences), urgency)
        if self._chance(0.05):
            draft.sentences.append(self._decks.deal(f"second.{self._rng.choice(SECOND)}"))
        if self._chance(0.12):
            draft.sentences.append(self._decks.deal("thanks"))
        elif self._chance(0.18):
            draft.sentences.append(self._decks.deal("signature"))

    def _join(self, sentences: list[str]) -> str:
        if self._language == "zh":
            return "".join(sentences)
        return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)

    def _fill_small_things(self, text: str) -> str:
        """The open slots other than product, order and name."""
        numbers, rng = self._numbers, self._rng
        values = {
            "colour": lambda: self._decks.deal("colours"),
            "day": lambda: self._decks.deal("days"),
            "count": lambda: str(rng.randint(2, 28)),
            "phone": lambda: numbers.phone(rng),
            "price": lambda: numbers.price(rng),
            "postcode": lambda: numbers.postcode(rng),
        }
        return re.sub(r"\{(\w+)\}", lambda slot: values[slot[1]]() if slot[1] in values else slot[0], text)

    def _fill_in(self, text: str, ticket: Ticket) -> str:
        product = ticket.product or ""
        if self._language == "en":
            article = "an" if product[:1] in "aeiou" and not product.startswith("usb") else "a"
            text = re.sub(r"\b([Aa]) \{product\}", lambda a: f"{a[1]}{article[1:]} {{product}}", text)
            roll = self._rng.random()
            product = product.title() if roll < 0.06 else product
        text = text.replace("{product}", product).replace("{order}", ticket.order or "")
        return text.replace("{name}", self._decks.deal("names")) if "{name}" in text else text
