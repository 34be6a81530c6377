"""The generator gives the shipped files again."""

import random
from pathlib import Path

from xiaozao.demo.figures import Numbers
from xiaozao.demo.make import write_files
from xiaozao.demo.noise import add_noise
from xiaozao.demo.shipped import LANGUAGES, PARTS, demo_file
from xiaozao.demo.ticket import Ticket
from xiaozao.demo.wording import Decks, read_lists


def test_the_shipped_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    write_files(tmp_path)
    for language in LANGUAGES:
        for part in PARTS:
            written = (tmp_path / language / f"{part}.jsonl").read_bytes()
            assert written == demo_file(language, part).read_bytes(), (language, part)


def test_a_deck_deals_every_phrase_before_one_comes_twice() -> None:
    decks = Decks("en", "train", random.Random(0))
    phrases = read_lists("en", "train")["urgency.low"]
    dealt = [decks.deal("urgency.low") for _ in phrases]
    assert sorted(dealt) == sorted(phrases)


def test_noise_leaves_open_slots_alone() -> None:
    for seed in range(200):
        noisy = add_noise("Please refund the {product} from {order}, thanks, {name}", "en", random.Random(seed))
        assert all(slot in noisy for slot in ("{product}", "{order}", "{name}")), noisy


def test_an_order_number_is_drawn_only_once() -> None:
    numbers, rng = Numbers("en"), random.Random(0)
    drawn = [numbers.order(rng).casefold() for _ in range(2000)]
    assert len(set(drawn)) == len(drawn)


def test_a_ticket_is_compact_json_in_the_order_of_its_fields() -> None:
    ticket = Ticket("refund", "kettle", None, "high")
    assert ticket.as_json() == '{"intent":"refund","product":"kettle","order":null,"urgency":"high"}'
