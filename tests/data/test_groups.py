"""Rows that ask nearly the same stay together, and a file of one pattern can be divided all the same."""

import random
from hashlib import sha256

from xiaozao.data.formats import Conversation, Turn
from xiaozao.data.groups import Groups, asked, group, kinds_field
from xiaozao.data.twins import Twins


def grouped(texts: list[str]) -> Groups:
    twins = Twins()
    for text in texts:
        twins.add(text)
    return group(twins, [sha256(text.encode()).digest()[:16] for text in texts])


def test_what_is_compared_is_what_the_user_says() -> None:
    turns = (Turn("system", "Be kind."), Turn("user", "hi"), Turn("assistant", "hello"), Turn("user", "bye"))
    assert asked(Conversation(turns, 1)) == "hi\nbye"
    assert asked(Conversation((), 1, "a plain text")) == "a plain text"


def test_rows_of_a_group_have_one_key_in_whatever_order_they_stand() -> None:
    texts = ["how can I cancel my order", "How can I cancel my orders?", "where is my parcel", "我想退货", "我想退货！"]
    names = dict(zip(texts, grouped(texts).keys, strict=True))
    assert names[texts[0]] == names[texts[1]] and names[texts[3]] == names[texts[4]]
    assert len(set(names.values())) == 3
    shuffled = random.Random(1).sample(texts, len(texts))
    assert dict(zip(shuffled, grouped(shuffled).keys, strict=True)) == names


def test_a_component_of_few_rows_is_never_divided() -> None:
    groups = grouped([f"where is parcel {number}" for number in range(10)])
    assert len(set(groups.keys)) == 1 and groups.divided == 0


def test_a_component_that_holds_much_of_the_file_is_divided_by_a_stricter_cosine() -> None:
    random_ = random.Random(0)
    others = ["".join(random_.choices("abcdefghijklmnopqrstuvwxyz", k=30)) for _ in range(40)]
    pattern = "Please classify the following review of a product as good or bad and give one reason: "
    texts = [pattern + thing for thing in ("kettle", "teapots", "lamp", "umbrella")]
    texts = [f"{text}{'!' * number}" for text in texts for number in range(5)]
    groups = grouped(texts + others)
    assert len(set(groups.components[:20])) == 1
    assert groups.divided == 20
    assert len(set(groups.keys[:20])) > 1
    assert groups.keys[20:] == groups.components[20:]


def test_a_file_of_one_pattern_is_divided_by_the_exact_question() -> None:
    texts = [f"What is {number} plus {number % 7}?" for number in range(10, 60)] + ["What is 10 plus 3?"]
    groups = grouped(texts)
    assert len(set(groups.components)) == 1 and groups.divided == 51
    assert len(set(groups.keys)) == 50 and groups.keys[0] == groups.keys[50]


def test_the_field_that_tells_kinds_of_rows_is_one_that_all_rows_have_and_that_repeats() -> None:
    assert kinds_field({"intent": ["a", "b"] * 5}, 10) == "intent"
    assert kinds_field({"意图": ["退货", "换货"] * 5}, 10) == "意图"
    assert kinds_field({"label": ["a", "b"] * 5, "intent": ["a", "b"] * 4}, 10) == "label"
    assert kinds_field({"intent": [str(number) for number in range(10)]}, 10) is None
    assert kinds_field({"intent": ["a"] * 10}, 10) is None
    assert kinds_field({}, 10) is None
