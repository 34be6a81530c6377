"""Near duplicates: against a plain reference that compares every pair, and what normal forms are made of."""

import math
import random
from collections import Counter

import pytest

from xiaozao.data.twins import LONGEST, Twins, grams, normalised

ASKED = (
    "how can I cancel order {n}", "I want to change the delivery address", "where is my parcel with number {n}",
    "can you help me to get a refund", "what payment methods do you accept", "the invoice of order {n} is wrong",
    "我想取消订单{n}", "怎么修改收货地址呢", "请问支持哪些支付方式", "我的快递到哪里了，单号{n}",
    "发票开错了可以重开吗",
)  # fmt: skip
WORDS = ("please", "now", "hello", "asap", "thanks", "again", "您好", "谢谢", "麻烦了", "现在", "急")


def made(count: int) -> list[str]:
    """Short questions in two languages, many of them near duplicates: another word, a letter less, another number."""
    random_ = random.Random(7)
    texts = []
    for _ in range(count):
        text = random_.choice(ASKED).format(n=random_.randrange(10 ** random_.randint(2, 9)))
        for _ in range(random_.randint(0, 3)):
            at = random_.randrange(len(text))
            text = random_.choice((text[:at] + text[at + 1 :], f"{text} {random_.choice(WORDS)}", text.upper()))
        texts.append(text + random_.choice(("", "?", "！")))
    return texts


def plain_cosine(left: str, right: str) -> float:
    one, other = plain_grams(left), plain_grams(right)
    shared = sum(math.sqrt(count * other[gram]) for gram, count in one.items())
    return shared / math.sqrt(one.total() * other.total())


def plain_grams(text: str) -> Counter[str]:
    padded = f" {normalised(text)} "
    counts: Counter[str] = Counter()
    for at, character in enumerate(padded):
        least = 2 if character >= "⺀" else 3
        counts.update(padded[at : at + size] for size in range(least, least + 3) if at + size <= len(padded))
    return counts


def by_union(count: int, pairs: set[tuple[int, int]]) -> list[int]:
    groups = list(range(count))
    for left, right in pairs:
        lower, higher = sorted((groups[left], groups[right]))
        groups = [lower if group == higher else group for group in groups]
    return groups


@pytest.mark.parametrize("threshold", [0.8, 0.9])
def test_pairs_and_groups_are_those_of_a_comparison_of_all_with_all(threshold: float) -> None:
    texts = made(500)
    twins = Twins(threshold)
    assert [twins.add(text) for text in texts] == list(range(500))
    firsts: dict[str, int] = {}
    for index, text in enumerate(texts):
        firsts.setdefault(normalised(text), index)
    distinct = sorted(firsts.values())
    cosines = {
        (left, right): plain_cosine(texts[left], texts[right])
        for left in distinct
        for right in distinct
        if left < right
    }
    repeated = {(firsts[normalised(text)], index) for index, text in enumerate(texts) if index not in distinct}
    told = {(left, right): cosine for left, right, cosine in twins.pairs()}
    assert {pair for pair in told if pair not in cosines} == repeated and len(repeated) > 20
    for pair, cosine in told.items():
        assert cosine == pytest.approx(cosines.get(pair, 1.0)) and cosine >= threshold
    wanted = {pair for pair, cosine in cosines.items() if cosine >= threshold + 1e-9}
    assert len(wanted) > 200
    assert len(wanted & told.keys()) >= 0.95 * len(wanted)
    exact = by_union(500, wanted | repeated)
    assert sum(one == other for one, other in zip(twins.groups(), exact, strict=True)) >= 0.95 * 500


def test_a_normal_form_keeps_what_is_said_and_no_more() -> None:
    assert normalised("  Cancel  ORDER #4711, please!") == "cancel order 0000 please"
    assert normalised("DON'T") == normalised("don’t") == "dont"
    assert normalised("ＡＢＣ１２３") == "abc000"
    assert normalised("您好， 请问：订单 123 呢？") == "您好请问订单000呢"
    assert normalised("１٣४") == "000"
    assert normalised("c++ or c") == "c++ or c"
    assert normalised("zero\u200bwidth\x00") == "zero width"
    assert normalised("?!") == "?!" and normalised(" \n") == ""


def test_short_and_empty_texts_are_twins_of_their_like_only() -> None:
    twins = Twins()
    texts = ["", "a", "b", "好", "您", "ok", "OK!", "?", "!", " ", "不", "好。", "👍", "👎", "yes", "no"]
    for text in texts:
        twins.add(text)
    assert twins.groups() == [0, 1, 2, 3, 4, 5, 5, 7, 8, 0, 10, 3, 12, 13, 14, 15]
    assert all(offset > 0 for offset in grams(["", "a", "好"])[1][1:])


def test_order_of_the_texts_does_not_change_who_is_together() -> None:
    texts = made(300)
    shuffled = random.Random(3).sample(range(300), 300)
    first, second = Twins(), Twins()
    for index in range(300):
        first.add(texts[index])
        second.add(texts[shuffled[index]])
    assert parts(first.groups(), list(range(300))) == parts(second.groups(), shuffled)


def parts(groups: list[int], names: list[int]) -> set[frozenset[int]]:
    members: dict[int, set[int]] = {}
    for group, name in zip(groups, names, strict=True):
        members.setdefault(group, set()).add(name)
    return {frozenset(part) for part in members.values()}


def test_more_texts_can_be_added_after_an_answer() -> None:
    twins = Twins()
    twins.add("how can I cancel my order")
    twins.add("something that is quite different")
    assert twins.groups() == [0, 1] and list(twins.pairs()) == []
    twins.add("How can I cancel my orders?")
    assert twins.groups() == [0, 1, 0]
    assert [pair[:2] for pair in twins.pairs()] == [(0, 2)]
    assert len(twins) == 3
    assert Twins().groups() == [] and list(Twins().pairs()) == []


def test_a_number_in_two_questions_makes_them_no_twins() -> None:
    twins = Twins()
    twins.add("track purchase 113542617735902")
    twins.add("cancel order 113542617735902")
    assert twins.groups() == [0, 1]


def test_long_texts_are_compared_by_a_sample_of_their_grams() -> None:
    random_ = random.Random(1)
    words = ["".join(random_.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(3000)]
    text = " ".join(words[:1000])
    nearly = " ".join(words[:990] + words[2000:2010])
    half = " ".join(words[:500] + words[1000:1500])
    beginning = " ".join(words[:300])
    twins = Twins(0.8)
    for one in (text, nearly, half, beginning, "short", text):
        twins.add(one)
    assert twins.groups() == [0, 0, 2, 3, 4, 0]
    cosine = next(cosine for left, right, cosine in twins.pairs() if (left, right) == (0, 1))
    assert cosine == pytest.approx(plain_cosine(text, nearly), abs=0.1)
    twins.add("x" * (10 * LONGEST))  # not compared beyond LONGEST


def test_a_short_text_is_compared_with_a_longer_one_over_what_both_keep() -> None:
    random_ = random.Random(2)
    words = ["".join(random_.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(150)]
    whole, longer = " ".join(words[:141]), " ".join(words[:148])
    assert len(whole) < 1000 < len(longer)
    twins = Twins(0.8)
    twins.add(whole)
    twins.add(longer)
    assert [(left, right) for left, right, _ in twins.pairs()] == [(0, 1)]


def test_a_thousand_texts_of_one_pattern_are_one_group() -> None:
    twins = Twins()
    for index in range(1000):
        twins.add(f"please tell me where the parcel with the number {index} is at the moment {chr(97 + index % 26)}")
    twins.add("an unlike text")
    groups = twins.groups()
    assert set(groups[:-1]) == {0} and groups[-1] == 1000
