import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.summaries import conditions
from xiaozao.data.formats import Turn
from xiaozao.errors import DataError
from xiaozao.evaluate.form import Form
from xiaozao.evaluate.form_result import compare_forms
from xiaozao.evaluate.paper import Paper
from xiaozao.evaluate.questions import Question, suite_of
from xiaozao.evaluate.record import Record
from xiaozao.evaluate.suite import obedience
from xiaozao.evaluate.summary import Part, Summary, check_form
from xiaozao.evaluate.summary_page import render_summary
from xiaozao.evaluate.telling import form_notes, obedience_sentence
from xiaozao.texts.catalogue import say

THINGS = ("kettle", "lamp", "chair", "radio", "carpet", "mirror")
RIGHT = [f"Please send the broken {thing} back to our shop in {thing} street." for thing in THINGS]
QUESTIONS = tuple(
    Question((Turn("user", f"My {thing} broke, what now?"),), right) for thing, right in zip(THINGS, RIGHT, strict=True)
)
LONG = "I am a chatbot and may talk about anything under the sun at any length that pleases me, and then some more."


def judged(base: Sequence[str], tuned: Sequence[str]) -> dict[str, object]:
    """The result for these answers; no more than 80 characters are asked for."""
    paper = Paper({"base": (suite_of(QUESTIONS),), "tuned": (suite_of(QUESTIONS),)}, 64, QUESTIONS)
    records = [
        Record(who, "questions", str(at), "", text, 0.0, 9, 0.1)
        for who, texts in (("base", base), ("tuned", tuned))
        for at, text in enumerate(texts)
    ]
    return compare_forms(paper, records, Form(most=80)).to_json()


def questions_in(told: object) -> list[str]:
    assert isinstance(told, list)
    return [one["question"] for one in told]


def test_what_was_won_is_kept_the_exactly_right_ones_first() -> None:
    nearly = RIGHT[0].replace("Please send", "Send")
    told = judged([LONG] * 5 + [RIGHT[5]], [nearly, RIGHT[1], LONG, *RIGHT[3:]])
    asked = [one.text for one in QUESTIONS]
    assert questions_in(told["gains"]) == [asked[1], asked[3], asked[4], asked[0]]
    assert questions_in(told["failures"]) == [asked[2]]


def test_what_was_good_before_is_no_gain() -> None:
    told = judged(RIGHT, RIGHT)
    assert told["gains"] == told["failures"] == []


def test_a_pattern_that_takes_too_long_is_told_with_the_answer() -> None:
    paper = Paper({"base": (suite_of(QUESTIONS),), "tuned": (suite_of(QUESTIONS),)}, 64, QUESTIONS)
    records = [
        Record(who, "questions", str(at), "", "a" * 60 if (who, at) == ("tuned", 2) else "b", 0.0, 9, 0.1)
        for who in ("base", "tuned") for at in range(len(QUESTIONS))
    ]  # fmt: skip
    with pytest.raises(DataError) as caught:
        compare_forms(paper, records, Form(pattern="(a|a)+b"))
    assert caught.value.key == "form_slow"
    assert caught.value.params["pattern"] == "(a|a)+b" and caught.value.params["number"] == 3
    assert "answer 3 of: The tuned model (60 characters)" in str(say("error.form_slow", **caught.value.params))


def test_what_is_undecided_says_how_many_questions_would_decide() -> None:
    told = judged(RIGHT, RIGHT)
    notes = form_notes(told, "en")
    changes = told["changes"]
    assert isinstance(changes, dict)
    undecided = [name for name, one in changes.items() if one["outcome"] == "inconclusive"]
    assert set(undecided) == set(changes)
    for name in undecided:
        said = say(f"form.measure.{name}")
        assert f"{said}: about {changes[name]['n_needed']} items would decide, if items vary as they did here." in notes
    assert any("only 6 were asked" in one for one in notes)


def ordered(base: float, tuned: float) -> dict[str, Any]:
    """The result where all questions are answered rightly, and these shares of the orders are kept."""
    suites = (suite_of(QUESTIONS), *obedience())
    paper = Paper({"base": suites, "tuned": suites}, 64, QUESTIONS)
    records = [Record(who, "questions", str(at), "", text, 0.0, 9, 0.1)
               for who in ("base", "tuned") for at, text in enumerate(RIGHT)]  # fmt: skip
    records += [
        Record(who, suite.name, item.id, "", f"{who} says", float(at < share * 20), 9, 0.1)
        for who, share in (("base", base), ("tuned", tuned))
        for suite in obedience()
        for at, item in enumerate(suite.items)
    ]
    return compare_forms(paper, records, Form(most=80)).to_json()


@pytest.mark.parametrize(
    ("base", "tuned", "outcome", "words"),
    [
        (0.6, 0.1, "regressed", "lost steerability: of 40 orders"),
        (0.1, 0.6, "improved", "steered better"),
        (0.5, 0.45, "inconclusive", "Undecided whether steerability was lost"),
    ],
)
def test_a_model_that_keeps_its_trained_form_has_lost_steerability(
    base: float, tuned: float, outcome: str, words: str
) -> None:
    told = ordered(base, tuned)
    assert told["obedience"]["outcome"] == outcome and told["obedience"]["n"] == 40
    assert (told["obedience"]["before"], told["obedience"]["after"]) == (base, tuned)
    assert words in obedience_sentence(told, "en") and obedience_sentence(told, "zh-CN")
    assert len(told["disobeyed"]) == max(0, round(40 * (base - tuned)))
    assert "obedience" not in told["changes"] and told["n"] == len(QUESTIONS)  # the orders are no questions


def test_questions_alone_say_nothing_of_obedience() -> None:
    told = judged(RIGHT, RIGHT)
    assert told["obedience"] is None and obedience_sentence(told, "en") == ""


def test_the_report_names_lost_steerability_among_what_got_worse() -> None:
    document = {**ordered(0.6, 0.1), "conditions": conditions()}
    summary = Summary(
        run="shop", model="m", data="d", bench=Part(state="absent", command="a"),
        form=Part(state="done", command="b", document=document), vote=Part(state="absent", command="c"),
    )  # fmt: skip
    assert ("measure", "obedience", 0.6, 0.1) in [(one.key, one.name, one.before, one.after) for one in summary.worse]
    assert summary.tendency in ("worse", "mixed")
    page = render_summary(summary, "en")
    assert "lost steerability" in page and "keeps orders that differ from the training: 60% → 10%" in page
    assert check_form(json.loads(json.dumps(document)), Path("result.json"))
