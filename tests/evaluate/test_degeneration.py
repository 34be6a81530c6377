"""Signs that a model has fallen apart, and none where it has not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozao.evaluate.degeneration import SIGNS, collapse, repeated, signs

GOOD = "We are sorry to hear that. Open your order details, click the button Cancel Order, and call us if it fails."
ASKED = "how can I cancel my order 113542617735902?"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (GOOD, ()),
        ("巴黎。", ()),
        ("您好，请在订单详情页点击“取消订单”。如果无法取消，请联系我们的客服团队，我们会尽快为您处理。", ()),
        ("", ("empty",)),
        (" \n", ("empty",)),
        ("please wait " * 9, ("loop",)),
        ("是的是的是的是的是的是的是的是的是的是的是的是的", ("loop",)),
        (ASKED, ("copy",)),
        (f"{ASKED} OK", ("copy",)),
        ("Sure.<|im_end|>", ("leak",)),
        ("### Response: sure", ("leak",)),
        ("Your order {{Order Number}} is on its way.", ("blank",)),
        ("Dear [Customer Name], hello", ("blank",)),
    ],
)
def test_a_sign_is_seen_and_a_good_answer_shows_none(answer: str, told: tuple[str, ...]) -> None:
    assert signs(ASKED, answer, ended=True) == told


def test_placeholders_of_the_right_answers_are_no_sign_and_an_answer_cut_by_the_limit_is_one() -> None:
    assert signs(ASKED, "Order {{Order Number}} is late.", ended=True, blanks_allowed=True) == ()
    assert signs(ASKED, GOOD, ended=False) == ("unended",)


def test_one_answer_for_everything_is_seen_and_canned_answers_are_not() -> None:
    asked = [f"question {n}" for n in range(20)]
    right = [f"answer {n}" for n in range(20)]
    same = collapse(asked, ["Cancellation fees may apply."] * 9 + right[9:], right)
    assert same is not None and same.count == 9 and same.answer == "Cancellation fees may apply."
    assert collapse(asked, right, right) is None
    assert collapse(asked, ["the same"] * 20, ["the same"] * 20) is None  # then it is the right one
    assert collapse([], [], []) is None


@given(st.text(max_size=300), st.text(max_size=300), st.booleans())
def test_no_text_breaks_it(question: str, answer: str, ended: bool) -> None:
    assert set(signs(question, answer, ended)) <= set(SIGNS)
    assert 0 <= repeated(answer) < 1
