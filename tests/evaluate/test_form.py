"""The form of answers: learned, checked, forgiven, edited."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from xiaozao.errors import DataError, NotFound
from xiaozao.evaluate.form import Form, breaches, forgiven, learn_form, read_form
from xiaozao.evaluate.pattern import SlowPattern

TICKETS = [
    json.dumps({"kind": kind, "urgent": urgent, "amount": amount, "tags": ["a", "b"][: amount % 3]})
    for kind in ("refund", "delivery", "invoice") for urgent in (True, False) for amount in range(4)
]  # fmt: skip


def keys(text: str, form: Form) -> list[str]:
    return [one.key for one in breaches(text, form)]


def test_json_answers_teach_types_closed_lists_and_required_keys() -> None:
    form = learn_form(TICKETS)
    assert form.kind == "json" and form.schema is not None
    assert form.schema["properties"]["kind"] == {"type": "string", "enum": ["delivery", "invoice", "refund"]}
    assert form.schema["properties"]["urgent"] == {"type": "boolean"}
    assert form.schema["properties"]["tags"]["items"]["type"] == "string"
    assert set(form.schema["required"]) == {"kind", "urgent", "amount", "tags"}
    Draft202012Validator.check_schema(dict(form.schema))
    assert all(not breaches(one, form) for one in TICKETS)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"kind": "complaint"}, "kind"), ({"urgent": 1}, "urgent"), ({"amount": "three"}, "amount"),
        ({"tags": [1]}, "tags.0"), ({"more": 1}, "(additionalProperties)"), ({"kind": None}, "kind"),
    ],
)  # fmt: skip
def test_a_field_that_is_wrong_is_named(change: dict[str, Any], where: str) -> None:
    form, answer = learn_form(TICKETS), {**json.loads(TICKETS[0]), **change}
    told = breaches(json.dumps(answer), form)
    assert [one.key for one in told] == ["schema"]
    assert told[0].params["where"] == where


def test_a_missing_key_and_no_object_at_all_are_breaches() -> None:
    form = learn_form(TICKETS)
    assert keys("{}", form) == ["schema"]
    assert keys("Sure! Here is the ticket.", form) == ["not_json"]
    assert keys("[" * 50_000, form) == ["not_json"]


def test_a_key_that_few_answers_have_is_not_required() -> None:
    rows = [json.dumps({"a": n, **({"b": "x"} if n % 2 else {})}) for n in range(40)]
    form = learn_form(rows)
    assert form.schema is not None and form.schema["required"] == ["a"]
    assert not breaches('{"a": 1}', form) and not breaches('{"a": 1, "b": "x"}', form)


def test_few_short_answers_are_labels() -> None:
    form = learn_form(["positive", "negative", "neutral"] * 5)
    assert form == Form(kind="label", labels=("negative", "neutral", "positive"))
    assert keys("positive", form) == [] and keys("Positive.", form) == ["label"]
    assert forgiven("Positive.", form) == "positive" and forgiven("very positive", form) == "very positive"


def test_text_answers_teach_length_language_and_what_they_begin_and_end_with() -> None:
    texts = [f"亲爱的顾客，您好！关于第{n}号问题，{'我们' * (n + 3)}。感谢您的来信。" for n in range(12)]
    form = learn_form(texts)
    assert form.language == "zh" and form.begins == "亲爱的顾客，您好！关于第" and form.ends.endswith("感谢您的来信。")
    assert all(not breaches(one, form) for one in texts)
    assert "language" in keys("Dear customer, thank you for your letter about this.", form)
    assert "begins" in keys(texts[0][3:], form) and "ends" in keys(texts[0][:-3], form)
    assert "long" in keys(texts[-1] * 4, form)
    assert "must_not" in keys(f"```\n{texts[0]}\n```", form)


def test_what_people_forgive_is_a_fence_and_words_around_an_object() -> None:
    form = learn_form(TICKETS)
    for text in (f"```json\n{TICKETS[0]}\n```", f"Sure:\n{TICKETS[0]}\nAnything else?", f"```\n{TICKETS[0]}```"):
        assert breaches(text, form) and not breaches(forgiven(text, form), form)
    assert breaches(forgiven("Sure: {not json}", form), form)


@pytest.mark.parametrize("answers", [[], ["a"], ["", " "] * 9, ["one", "two"]])
def test_too_few_answers_teach_nothing(answers: list[str]) -> None:
    assert learn_form(answers).asks_nothing


@given(st.lists(st.text(max_size=60), max_size=30))
def test_nearly_all_answers_keep_the_form_that_they_taught(answers: list[str]) -> None:
    form = learn_form(answers)
    told = [one for one in answers if one.strip()]
    wrong = sum(bool(breaches(one, form)) for one in told)
    assert wrong <= 0.1 * len(told) + 1


@given(st.text(max_size=200))
def test_no_answer_breaks_the_check(text: str) -> None:
    for form in (learn_form(TICKETS), learn_form(["a", "b"] * 9), Form(pattern="a+", must=("x",))):
        strict, lenient = bool(breaches(text, form)), bool(breaches(forgiven(text, form), form))
        assert strict or not lenient  # what is forgiven makes nothing worse


@given(st.permutations(range(len(TICKETS))))
def test_the_order_of_answers_changes_no_form(order: list[int]) -> None:
    assert learn_form([TICKETS[at] for at in order]).schema is not None
    told, turned = learn_form(TICKETS).schema, learn_form([TICKETS[at] for at in order]).schema
    assert told == turned


def test_a_form_that_was_written_reads_back_and_can_be_edited(tmp_path: Path) -> None:
    path = tmp_path / "contract.json"
    for form in (learn_form(TICKETS), learn_form(["a", "b"] * 9), learn_form(["word " * n for n in range(1, 40)])):
        path.write_text(json.dumps(form.to_json()), encoding="utf-8")
        assert read_form(path) == form
    path.write_text('{"most": 5, "must": ["x"], "pattern": "x+"}', encoding="utf-8")
    assert keys("xxxxxx", read_form(path)) == ["long"] and keys("y", read_form(path)) == ["must", "pattern"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[]", "form_fields"), ('{"length": 5}', "form_fields"), ("{", "form_unreadable"),
        ('{"most": "5"}', "form_values"), ('{"most": true}', "form_values"), ('{"must": "x"}', "form_values"),
        ('{"pattern": "("}', "form_values"), ('{"schema": {"type": "nothing"}}', "form_values"),
        ('{"schema": {"$ref": "http://example.com/x"}}', "form_values"), ('{"kind": "xml"}', "form_values"),
        ('{"begins": null}', "form_values"), ('{"language": "fr"}', "form_values"),
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_is_refused_with_what_is_wrong(text: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "contract.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_form(path)
    assert caught.value.key == key
    with pytest.raises(NotFound):
        read_form(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"kind": "json"}, "schema"), ({"kind": "label"}, "labels"), ({"kind": "label", "labels": []}, "labels"),
        ({"least": 10, "most": 3}, "least, most"),
        ({"kind": "json", "schema": {"$dynamicRef": "http://example.org/x"}}, "schema"),
        ({"kind": "json", "schema": {"properties": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}}, "schema"),
    ],
)  # fmt: skip
def test_a_form_that_says_nothing_or_contradicts_itself_is_refused(
    tmp_path: Path, document: dict[str, Any], named: str
) -> None:
    path = tmp_path / "form.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_form(path)
    assert error.value.key == "form_values" and error.value.params["names"] == named


def test_a_field_may_be_called_ref(tmp_path: Path) -> None:
    path = tmp_path / "form.json"
    schema = {"properties": {"$ref": {"type": "string"}, "a": {"enum": [{"$ref": "x"}]}}}
    path.write_text(json.dumps({"kind": "json", "schema": schema}), encoding="utf-8")
    form = read_form(path)
    assert not breaches('{"$ref": "x", "a": {"$ref": "x"}}', form)
    assert keys('{"$ref": 1}', form) == ["schema"]


@pytest.mark.parametrize("number", ["1e400", "1" + "0" * 400])
def test_a_number_beyond_all_bounds_is_judged(number: str) -> None:
    for factor in (0.1, 3.0):
        form = Form(kind="json", schema={"properties": {"a": {"multipleOf": factor}}})
        assert keys(f'{{"a": {number}}}', form)


EVIL, LONG = "(a|a)+(a|a)+b", "a" * 60


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Form(pattern=EVIL), LONG),
        (Form(kind="json", schema={"properties": {"k": {"pattern": EVIL}}}), json.dumps({"k": LONG})),
        (Form(kind="json", schema={"items": {}, "properties": {"k": {"items": {"pattern": EVIL}}}}),
         json.dumps({"k": [LONG]})),
        (Form(kind="json", schema={"patternProperties": {EVIL: {}}}), json.dumps({LONG: 1})),
        (Form(kind="json", schema={"patternProperties": {EVIL: {}}, "additionalProperties": False}),
         json.dumps({LONG: 1})),
        (Form(kind="json", schema={"propertyNames": {"pattern": EVIL}}), json.dumps({LONG: 1})),
    ],
)  # fmt: skip
def test_a_pattern_that_takes_too_long_ends(form: Form, text: str) -> None:
    with pytest.raises(SlowPattern) as caught:
        breaches(text, form)
    assert caught.value.pattern == EVIL


@pytest.mark.parametrize(
    "schema",
    [
        {"patternProperties": {"a": {}}, "unevaluatedProperties": False},
        {"allOf": [{"patternProperties": {"a": {}}}], "unevaluatedProperties": False},
        {"properties": {"k": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "a"}}},
        {"properties": {"k": {"pattern": "(?P<x>"}}}, {"patternProperties": {"a" * 2001: {}}}, {"pattern": "("},
    ],
)  # fmt: skip
def test_a_schema_whose_patterns_cannot_be_timed_or_read_is_refused(schema: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"kind": "json", "schema": schema}), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_form(path)
    assert caught.value.key == "form_values" and caught.value.params["names"] == "schema"


@given(st.dictionaries(st.sampled_from(["a", "ab", "b1", "c", "x"]), st.sampled_from([1, "1", "ab", None]), max_size=4))
def test_patterns_of_a_schema_mean_what_they_mean_in_the_library(given_object: dict[str, Any]) -> None:
    schemas: list[dict[str, Any]] = [
        {"patternProperties": {"^a": {"type": "integer"}}, "properties": {"c": {}}, "additionalProperties": False},
        {"patternProperties": {"b": {"pattern": "^a"}}, "additionalProperties": {"type": "string"}},
        {"properties": {"a": {"pattern": r"\d"}}, "additionalProperties": {"pattern": "b$"}},
    ]
    for schema in schemas:
        ours = bool(breaches(json.dumps(given_object), Form(kind="json", schema=schema)))
        assert ours != Draft202012Validator(schema).is_valid(given_object)


@pytest.mark.parametrize("page", ["evaluation.md", "evaluation.zh-CN.md"])
def test_the_documents_name_every_field_of_a_contract(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert rows == [one.name for one in fields(Form)]
