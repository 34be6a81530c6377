"""Whether answers belong to their questions, and what they are about."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozao.evaluate.classes import classify
from xiaozao.evaluate.relevance import intents, retrieved

TOPICS = ["refund", "delivery", "invoice", "password", "complaint", "opening hours", "newsletter", "address", "payment",
          "damaged cup", "wrong size", "gift card", "return label", "discount", "account", "warranty", "spare part",
          "subscription", "tax number", "pickup", "customs", "receipt"]  # fmt: skip
QUESTIONS = [f"I have a question about my {one}, can you help?" for one in TOPICS]
ANSWERS = [f"For everything about your {one}, open the page {one} and follow the steps there." for one in TOPICS]


def test_right_answers_belong_and_answers_of_other_questions_do_not() -> None:
    assert all(retrieved(QUESTIONS, ANSWERS, ANSWERS))
    turned = ANSWERS[1:] + ANSWERS[:1]
    assert not any(retrieved(QUESTIONS, ANSWERS, turned))
    assert sum(retrieved(QUESTIONS, ANSWERS, ["Cancellation fees may apply."] * len(TOPICS))) <= 2


def test_chinese_answers_belong_by_their_characters() -> None:
    topics = ["退款", "快递", "发票", "密码", "投诉", "营业时间", "会员卡", "地址", "付款", "杯子碎了"]
    asked, right = (
        [f"请问{one}怎么办？" for one in topics],
        [f"关于{one}，请打开{one}页面按提示操作。" for one in topics],
    )
    assert all(retrieved(asked, right, right))
    assert not any(retrieved(asked, right, right[::-1]))


def test_questions_with_the_same_right_answer_do_not_compete() -> None:
    asked = [f"where is my parcel, number {n}" for n in range(6)] + ["how do I pay"]
    right = ["It is on its way."] * 6 + ["By card or by transfer."]
    assert all(retrieved(asked, right, right))


def test_an_answer_has_the_intent_of_the_texts_that_it_is_like() -> None:
    taught = [(text, topic) for text, topic in zip(ANSWERS, TOPICS, strict=True) for _ in range(3)]
    asked = [f"Please open {one} and follow the steps about your {one}." for one in TOPICS]
    assert sum(a == b for a, b in zip(intents(taught, asked), TOPICS, strict=True)) >= len(TOPICS) - 1
    assert intents(taught, ["", "zzzz"])[0] == ""


@given(st.lists(st.text(max_size=30), min_size=1, max_size=8), st.randoms())
def test_no_text_breaks_it_and_order_changes_nothing_of_intents(texts: list[str], draw: random.Random) -> None:
    assert len(retrieved(texts, texts, texts)) == len(texts)
    taught = [(text, str(at % 3)) for at, text in enumerate(texts)]
    plain = intents(taught, texts)
    order = list(range(len(texts)))
    draw.shuffle(order)
    assert intents(taught, [texts[at] for at in order]) == [plain[at] for at in order]


def test_classes_are_scored_as_by_hand() -> None:
    right = ["a", "a", "a", "b", "b", "c"]
    given_ = ["a", "a", "b", "b", "something", "a"]
    told = classify(right, given_)
    assert told.accuracy == pytest.approx(3 / 6)
    assert told.f1("a") == pytest.approx(2 * (2 / 3) * (2 / 3) / (2 / 3 + 2 / 3))
    assert told.f1("b") == pytest.approx(0.5) and told.f1("c") == 0
    assert told.macro_f1 == pytest.approx((told.f1("a") + told.f1("b")) / 3)
    assert told.table["b", ""] == 1 and told.n == 6
    assert classify([], []).accuracy == 0
