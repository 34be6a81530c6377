"""Repairs of JSON that guess nothing, and of neighbours of one speaker: what is promised is done, and is listed."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.quality.test_fixing import changes, repair, rows
from xiaozao.data.checks import check
from xiaozao.errors import DataError
from xiaozao.spec.parts import DataSpec

GOOD = '{"question": "good?", "answer": "Yes, it is."}'
SAFE = {
    "NaN": ('{"question": "one?", "answer": "a", "score": NaN}', "not_a_number", ("score", None)),
    "Infinity": ('{"question": "one?", "answer": "a", "score": -Infinity}', "not_a_number", ("score", None)),
    "a number without end": ('{"question": "one?", "answer": "a", "score": 1e999}', "not_a_number", ("score", None)),
    "zeros": ('{"question": "agent?", "answer": 007}', "leading_zero", ("answer", "007")),
    "a code": ('{"question": "code?", "answer": 00.50, "n": 0.5}', "leading_zero", ("answer", "00.50")),
    "a key twice": ('{"question": "q?", "answer": "a", "answer": "a"}', "double_key", ("answer", "a")),
    "a list twice": ('{"question": "q?", "answer": "a", "x": [1], "x": [1]}', "double_key", ("x", [1])),
}


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize("name", SAFE)
def test_what_can_mean_one_thing_only_is_repaired_and_listed(name: str, suffix: str, tmp_path: Path) -> None:
    bad, rule, (field, value) = SAFE[name]
    text = f"{GOOD}\n{bad}\n" if suffix == ".jsonl" else f"[{GOOD},\n{bad}]"
    (tmp_path / f"a{suffix}").write_text(text, encoding="utf-8")
    done = repair(tmp_path / f"a{suffix}", tmp_path / "b.jsonl")
    assert (done.rows, done.left_out) == (2, 0)
    assert rows(tmp_path / "b.jsonl")[1][field] == value
    listed = changes(tmp_path / "b.jsonl")
    assert rule in {change["rule"] for change in listed}
    if rule != "leading_zero" or suffix == ".jsonl":
        assert [(change["row"], json.loads(change["after"])[field]) for change in listed] == [(2, value)]


GUESSES = {
    "two values": '{"question": "q?", "answer": "a", "answer": "b"}',
    "two short values": '{"question": "q?", "answer": "a", "n": 1, "n": 2}',
    "true and 1": '{"question": "q?", "answer": "a", "n": 1, "n": true}',
    "two values, and a comma": '{"question": "q?", "answer": "a", "n": 1, "n": 2,}',
    "two values inside": '{"messages": [{"role": "user", "content": "q", "content": "r"}]}',
}


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize("name", GUESSES)
def test_of_two_values_none_is_chosen(name: str, suffix: str, tmp_path: Path) -> None:
    bad = GUESSES[name]
    if suffix == ".json" and "comma" in name:
        pytest.skip("a broken document is refused as a whole")
    text = f"{GOOD}\n{bad}\n" if suffix == ".jsonl" else f"[{GOOD},\n{bad}]"
    (tmp_path / f"a{suffix}").write_text(text, encoding="utf-8")
    done = repair(tmp_path / f"a{suffix}", tmp_path / "b.jsonl")
    (change,) = changes(tmp_path / "b.jsonl")
    assert (done.rows, done.left_out, change["rule"], change["after"]) == (1, 1, "unusable", None)
    assert change["before"] == bad and change["reason"]


def test_zeros_within_texts_stay_and_an_answer_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    texts = ['{"question": "a: 007, and [01]?", "answer": "It is: 08,"}', '{"question": "q?", "answer": NaN}']
    (tmp_path / "a.jsonl").write_text("\n".join(texts), encoding="utf-8")
    done = repair(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert rows(tmp_path / "b.jsonl") == [json.loads(texts[0])] and done.left_out == 1
    assert [change["rule"] for change in changes(tmp_path / "b.jsonl")] == ["empty_answer"]


def turns(*pairs: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content, **more} for role, content, more in pairs]}


MERGED: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "name": (turns(("user", "a", {"name": "Ann"}), ("user", "b", {"name": "Ann"}), ("assistant", "c", {})),
             [{"role": "user", "content": "a\nb", "name": "Ann"}]),
    "any field": (turns(("user", "a", {"lang": "en"}), ("user", "b", {"lang": "en"}), ("assistant", "c", {})),
                  [{"role": "user", "content": "a\nb", "lang": "en"}]),
    "weight": (turns(("user", "q", {}), ("assistant", "a", {"weight": 1}), ("assistant", "b", {"weight": 1})),
               [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a\nb", "weight": 1}]),
    "reasoning": (turns(("user", "q", {}), ("assistant", "a", {"reasoning_content": "r"}), ("assistant", "b", {})),
                  [{"role": "user", "content": "q"},
                   {"role": "assistant", "content": "a\nb", "reasoning_content": "r"}]),
    "reasoning twice": (
        turns(("user", "q", {}), ("assistant", "a", {"reasoning": "r"}), ("assistant", "b", {"reasoning": "s"})),
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a\nb", "reasoning": "r\ns"}]),
}  # fmt: skip
APART = {
    "another name": turns(("user", "a", {"name": "Ann"}), ("user", "b", {"name": "Bo"}), ("assistant", "c", {})),
    "another weight": turns(("user", "q", {}), ("assistant", "a", {"weight": 0}), ("assistant", "b", {"weight": 1})),
    "a call": turns(("user", "q", {}), ("assistant", "a", {}), ("assistant", "b", {"tool_calls": [{"name": "f"}]})),
}


@pytest.mark.parametrize("name", MERGED)
def test_neighbours_that_differ_in_text_and_reasoning_are_merged(name: str, tmp_path: Path) -> None:
    row, merged = MERGED[name]
    (tmp_path / "a.jsonl").write_text(json.dumps(row), encoding="utf-8")
    done = repair(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert rows(tmp_path / "b.jsonl")[0]["messages"][: len(merged)] == merged
    assert "same_role" not in {found.kind for found in check(DataSpec(data=done.path), None).findings}


@pytest.mark.parametrize("name", APART)
def test_neighbours_that_differ_otherwise_are_left_alone_as_the_advice_says(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(APART[name]), encoding="utf-8")
    done = repair(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert rows(tmp_path / "b.jsonl") == [APART[name]] and changes(tmp_path / "b.jsonl") == []
    kinds = {found.kind: found for found in check(DataSpec(data=done.path), None).findings}
    assert "same_role" not in kinds or "left as they are" in kinds["same_role"].fix("en")


@pytest.mark.parametrize("value", ["007", "NaN", "{1: 2}", "[1 2]"])
def test_a_value_that_is_no_json_in_rows_within_an_object_is_refused_or_repaired(value: str, tmp_path: Path) -> None:
    text = f'{{"data": [{{"question": "q?", "answer": "a", "n": {value}}}, {GOOD}]}}'
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    try:
        assert check(DataSpec(data=str(tmp_path / "a.json")), None).problem_count == 1
    except DataError as error:
        assert error.key == "data_json"
    done = repair(tmp_path / "a.json", tmp_path / "b.jsonl")
    assert done.rows == 2 and rows(tmp_path / "b.jsonl")[1] == json.loads(GOOD)
