"""Whether a generated answer is right: what a careful reader says, and no text that breaks a scorer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozao.evaluate.scorers import SCORERS
from xiaozao.evaluate.suite import probe

JUDGED = [
    ("number", ["14"], "6 + 8 = 14.", True),
    ("number", ["14"], "The answer is １４。", True),
    ("number", ["1294"], "That makes 1,294.", True),
    ("number", ["5"], "12 − 7 = 5", True),
    ("number", ["-5"], "It is −5", True),
    ("number", ["5"], "It is -5", False),
    ("number", ["14"], "14 is what 6 and 9 make, no: 15", False),
    ("number", ["14"], "fourteen", False),
    ("number", ["14"], "It is 14.0", True),
    ("number", ["14"], "9" * 400, False),
    ("one_of", ["Paris"], "The capital of France is **Paris**.", True),
    ("one_of", ["right"], "It is bright.", False),
    ("one_of", ["ice"], "Frozen water is called snow. It is like ice.", False),
    ("one_of", ["South America"], "Brazil lies in south america", True),
    ("one_of", ["H2O"], "水的化学式是 H₂O。", True),
    ("one_of", ["北京"], "中国的首都是北京市。", True),
    ("yes_no", ["yes"], "Yes, he is.", True),
    ("yes_no", ["no"], "No. A square has four sides, yes.", True),
    ("yes_no", ["no"], "nobody", False),
    ("yes_no", ["是"], "是的，咪咪是动物。", True),
    ("yes_no", ["否"], "不是。", True),
    ("yes_no", ["是"], "不对", False),
    ("yes_no", ["否"], "答案是否。", False),
    ("exactly", ["done"], "Done.", True),
    ("exactly", ["HOUSE"], "HOUSE", True),
    ("exactly", ["HOUSE"], "House", False),
    ("exactly", ["done"], "I am done", False),
    ("exactly", ["收到"], "“收到”。", True),
    ("one_word", [], "Paris.", True),
    ("one_word", [], "It is Paris", False),
    ("one_word", [], "", False),
    ("at_most", ["5"], "巴黎。", True),
    ("at_most", ["5"], "法国的首都是巴黎", False),
    ("items", ["3"], "red, green, blue", True),
    ("items", ["3"], "红色、绿色、蓝色。", True),
    ("items", ["3"], "red, green", False),
    ("items", ["3"], "Here you are:\nred, green, blue", False),
    ("numbered", ["3"], "1. red\n2. green\n3. blue", True),
    ("numbered", ["3"], "1、红\n2、绿\n3、蓝", True),
    ("numbered", ["3"], "Sure:\n1. red\n2. green\n3. blue", False),
    ("numbered", ["3"], "1. red\n1. green\n1. blue", False),
    ("json", ["name"], '{"name": "Tom"}', True),
    ("json", ["name"], '```json\n{"name": "Tom"}\n```', False),
    ("json", ["name"], '["name"]', False),
    ("json", ["name"], "[" * 100_000, False),
    ("begins", ["Today"], "Today the sea is calm.", True),
    ("begins", ["Today"], "The sea is calm today.", False),
    ("ends", ["!"], "Summer is here!", True),
    ("ends", ["！", "!"], "夏天来了！", True),
    ("ends", ["!"], "!", False),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answers", "text", "right"), JUDGED)
def test_an_answer_is_judged_as_a_reader_judges_it(check: str, answers: list[str], text: str, right: bool) -> None:
    assert SCORERS[check](answers, text) is right


@given(check=st.sampled_from(sorted(SCORERS)), text=st.text(max_size=200))
def test_no_text_breaks_a_scorer(check: str, text: str) -> None:
    answers = {"number": ["7"], "at_most": ["5"], "items": ["3"], "numbered": ["3"], "bullets": ["3"],
               "sentences": ["1"]}.get(check, ["word", "词"])  # fmt: skip
    assert SCORERS[check](answers, text) in (True, False)


def test_one_answer_for_everything_is_right_for_hardly_any_item() -> None:
    """A model that answers everything with the same sentence of its training data has lost what it could do."""
    sentence = "Cancellation fees may apply depending on the status of your order. Please contact our support team."
    for suite in probe():
        if suite.kind == "generated":
            right = sum(SCORERS[item.check](item.answers, sentence) for item in suite.items)
            assert right <= 0.5 * suite.chance * len(suite.items), suite.name


@pytest.mark.parametrize(
    ("name", "answers", "good", "bad"),
    [
        ("capitals", (), ["HELLO, FRIEND! 12", "  THE SEA."], ["Hello", "HELLO friend", "", "12!", "你好"]),
        ("lowercase", (), ["hello, friend! 12", "tea is hot."], ["Tea", "tea Is", "", "12", "你好"]),
        ("bullets", ("3",), ["- a\n- b\n- c", "-a\n\n-b\n-c\n", "– a\n– b\n– c"],
         ["- a\n- b", "Here:\n- a\n- b\n- c", "a\nb\nc", "- a - b - c", "- a\n- b\n-", ""]),
        ("sentences", ("1",), ["Rain is water.", "雨是水滴。", "Rain is water"],
         ["It rains. It pours.", "", "下雨。打雷。"]),
    ],
)  # fmt: skip
def test_orders_of_form_are_judged_by_what_is_written(
    name: str, answers: tuple[str, ...], good: list[str], bad: list[str]
) -> None:
    assert [SCORERS[name](answers, text) for text in good] == [True] * len(good)
    assert [SCORERS[name](answers, text) for text in bad] == [False] * len(bad)
