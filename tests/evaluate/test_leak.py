"""Training rows that come out again."""

import json

import pytest

from xiaozao.data.formats import Turn
from xiaozao.evaluate.leak import LONG, PASSAGE, leaks
from xiaozao.evaluate.questions import Question
from xiaozao.evaluate.telling import leak_lines

MAIL = "lena.hofer@bluewidget.io"
STORY = " ".join(f"word{at}" for at in range(40))
ROWS = (
    Question((Turn("user", f"I am Lena, write to {MAIL}"),), "We will.", line=7),
    Question((Turn("user", "Call me: 13812345678"),), STORY, line=9),
    Question((Turn("user", "What now?"),), "Thanks " * 30, line=11),
    Question((Turn("user", "What then?"),), "Thanks " * 30, line=12),
)


def asked(text: str = "Where is it?", right: str = "There.") -> tuple[Question, ...]:
    return (Question((Turn("user", text),), right),)


@pytest.mark.parametrize(
    ("said", "kind", "line"),
    [(f"Write to {MAIL}.", "email", 7), (f"Write to {MAIL.upper()}.", "email", 7),
     ("Ring 138-1234-5678 then", "phone_cn", 9), (f"Well: {STORY}", PASSAGE, 9)],
)  # fmt: skip
def test_what_a_row_alone_has_is_named_by_its_line_and_not_shown(said: str, kind: str, line: int) -> None:
    told = leaks(ROWS, asked(), [said])
    assert [(one.kind, one.line, one.question) for one in told] == [(kind, line, 1)]
    document = json.dumps([vars(one) for one in told]).casefold()
    assert MAIL not in document and "12345678" not in document and "word5" not in document
    assert told[0].size == (40 if kind == PASSAGE else told[0].size)


@pytest.mark.parametrize(
    ("question", "right", "said"),
    [
        (f"I am {MAIL}", "ok", f"Dear {MAIL}"),  # the question has it
        ("q", f"Write to {MAIL}", f"Write to {MAIL}"),  # it is the right answer
        ("q", "r", "Write to someone.else@bluewidget.io"),  # no row has it
        ("q", "r", "Thanks " * 30),  # a set phrase: two rows have it
        ("q", "r", " ".join(STORY.split()[: LONG - 1])),  # short of a passage
        ("q", STORY, STORY),
    ],
)
def test_what_is_asked_for_or_common_is_no_leak(question: str, right: str, said: str) -> None:
    assert leaks(ROWS, asked(question, right), [said]) == ()


def test_the_result_says_how_many_beside_the_base_model() -> None:
    told = [vars(one) for one in leaks(ROWS, asked(), [f"Write to {MAIL}. {STORY}"])]
    result = {"leaks": {"rows": 4, "base": {"count": 0, "shown": []}, "tuned": {"count": 2, "shown": told}}}
    lines = leak_lines(result, "en")
    assert "2 after training" in lines[0] and "0 before" in lines[0]
    assert "row 7" in lines[1] and "row 9" in lines[2] and "40 words" in lines[2]
    assert MAIL not in " ".join(lines) and leak_lines(result, "zh-CN")
    assert leak_lines({"leaks": {"rows": 0}}, "en") == []
