"""The shipped demo data: what its tickets promise, and that the held-out rows are new."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from datasketch import MinHash

from xiaozao.demo.make import SYSTEM
from xiaozao.demo.shipped import LANGUAGES, PARTS, SIZES, Language, Part, demo_file
from xiaozao.demo.similarity import SHINGLE_LENGTH, shingles, similarity
from xiaozao.demo.ticket import FIELDS, INTENTS, URGENCIES
from xiaozao.demo.wording import read_lists

# Two messages that share half of their 5-grams (in Chinese: 3-grams) read like the same message; the data stays below
# that. Validation uses training's phrases with its own products, names and numbers; the held-out part none of them.
MOST_ALIKE: dict[Part, float] = {"heldout": 0.3, "validation": 0.4}
PAIRS: tuple[tuple[Part, Part], ...] = (("heldout", "train"), ("heldout", "validation"), ("validation", "train"))

every_file = pytest.mark.parametrize(("language", "part"), [(one, part) for one in LANGUAGES for part in PARTS])
every_language = pytest.mark.parametrize("language", LANGUAGES)
every_pair = pytest.mark.parametrize(
    ("language", "new", "known"), [(language, new, known) for language in LANGUAGES for new, known in PAIRS]
)


@dataclass(frozen=True)
class Row:
    """One shipped conversation, taken apart."""

    roles: tuple[str, ...]
    system: str
    message: str
    answer: str

    @property
    def ticket(self) -> dict[str, Any]:
        ticket: dict[str, Any] = json.loads(self.answer)
        return ticket


@cache
def rows(language: Language, part: Part) -> tuple[Row, ...]:
    read = []
    for line in demo_file(language, part).read_text(encoding="utf-8").splitlines():
        turns = json.loads(line)["messages"]
        read.append(Row(tuple(turn["role"] for turn in turns), *(turn["content"] for turn in turns)))
    return tuple(read)


@every_file
def test_every_part_has_its_count_and_one_system_prompt(language: Language, part: Part) -> None:
    assert len(rows(language, part)) == SIZES[part]
    assert {row.roles for row in rows(language, part)} == {("system", "user", "assistant")}
    assert {row.system for row in rows(language, part)} == {SYSTEM[language]}


@every_file
def test_every_answer_is_compact_json_with_the_fields_in_order(language: Language, part: Part) -> None:
    for row in rows(language, part):
        ticket = row.ticket
        assert tuple(ticket) == FIELDS
        assert ticket["intent"] in INTENTS
        assert ticket["urgency"] in URGENCIES
        assert row.answer == json.dumps(ticket, ensure_ascii=False, separators=(",", ":"))


@every_file
def test_product_and_order_stand_in_the_message(language: Language, part: Part) -> None:
    for row in rows(language, part):
        product, order = row.ticket["product"], row.ticket["order"]
        assert order is None or row.message.count(order) == 1, row
        assert product is None or (product == product.lower() and product in row.message.lower()), row


@every_file
def test_a_null_product_means_that_no_product_is_named(language: Language, part: Part) -> None:
    products = read_lists(language, "things")[f"products.{part}"]
    for row in rows(language, part):
        named = [product for product in products if product.lower() in row.message.lower()]
        assert (row.ticket["product"] is None) == (not named), row


@every_file
def test_no_slot_is_left_open(language: Language, part: Part) -> None:
    assert [row for row in rows(language, part) if "{" in row.message or "}" in row.message] == []


@every_file
def test_classes_are_balanced(language: Language, part: Part) -> None:
    tickets = [row.ticket for row in rows(language, part)]
    intents = Counter(ticket["intent"] for ticket in tickets)
    urgencies = Counter(ticket["urgency"] for ticket in tickets)
    assert set(intents) == set(INTENTS)
    assert max(intents.values()) - min(intents.values()) <= 1
    assert set(urgencies) == set(URGENCIES)
    assert max(urgencies.values()) - min(urgencies.values()) <= 1
    for field, least, most in (("product", 0.3, 0.4), ("order", 0.25, 0.4)):
        share = sum(ticket[field] is None for ticket in tickets) / len(tickets)
        assert least <= share <= most, (field, share)


@every_language
def test_no_message_comes_twice(language: Language) -> None:
    messages = [row.message.casefold() for part in PARTS for row in rows(language, part)]
    assert len(set(messages)) == len(messages)


@every_pair
def test_no_message_is_like_one_of_another_part(language: Language, new: Part, known: Part) -> None:
    length = SHINGLE_LENGTH[language]
    known_shingles = [shingles(row.message, length) for row in rows(language, known)]
    for row in rows(language, new):
        marks = shingles(row.message, length)
        closest = max(similarity(marks, other) for other in known_shingles)
        assert closest <= MOST_ALIKE[new], row.message


def sketch(message: str, length: int) -> MinHash:
    made = MinHash(num_perm=128, seed=1)
    made.update_batch([shingle.encode() for shingle in sorted(shingles(message, length))])
    return made


@every_language
def test_minhash_finds_no_held_out_message_in_training(language: Language) -> None:
    """The same with another library's estimate, so that a mistake in our own measure cannot hide a leak."""
    length = SHINGLE_LENGTH[language]
    known = [sketch(row.message, length) for part in ("train", "validation") for row in rows(language, part)]
    held_out = [sketch(row.message, length) for row in rows(language, "heldout")]
    closest = max(float(row.jaccard(other)) for row in held_out for other in known)
    assert closest <= MOST_ALIKE["heldout"] + 0.1  # the estimate's own error at 128 permutations


@every_pair
def test_orders_products_and_names_are_new(language: Language, new: Part, known: Part) -> None:
    known_text = "\n".join(row.message for row in rows(language, known)).casefold()
    tickets = [row.ticket for row in rows(language, new)]
    orders = {ticket["order"].casefold() for ticket in tickets if ticket["order"]}
    products = {ticket["product"] for ticket in tickets if ticket["product"]}
    names = {name.casefold() for name in read_lists(language, "things")[f"names.{new}"]}
    assert {known_item for known_item in orders | products | names if known_item in known_text} == set()


@every_language
def test_no_held_out_phrase_is_a_training_phrase(language: Language) -> None:
    """All that a message is made of, down to the shortest list."""
    train, heldout = read_lists(language, "train"), read_lists(language, "heldout")
    assert set(train) == set(heldout)
    known = {_bare(phrase) for phrases in train.values() for phrase in phrases}
    assert {phrase for phrases in heldout.values() for phrase in phrases if _bare(phrase) in known} == set()


def _bare(phrase: str) -> str:
    """Letters and slots only, so that a comma does not make a phrase new."""
    return "".join(letter for letter in phrase.casefold() if letter.isalnum() or letter in "{}")


@every_language
def test_held_out_ways_of_telling_urgency_are_new(language: Language) -> None:
    """The closest training phrase shares less than 70 % of its letters in threes."""
    for urgency in ("urgency.low", "urgency.high"):
        known = [shingles(phrase, 3) for phrase in read_lists(language, "train")[urgency]]
        for phrase in read_lists(language, "heldout")[urgency]:
            assert max(similarity(shingles(phrase, 3), other) for other in known) < 0.7, phrase


@every_language
def test_messages_contain_numbers_that_are_no_orders(language: Language) -> None:
    without = [row for row in rows(language, "train") if row.ticket["order"] is None]
    with_digits = sum(any(letter.isdigit() for letter in row.message) for row in without)
    assert with_digits >= 0.2 * len(without)
