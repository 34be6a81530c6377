"""The items that ship, and files of choices."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.make_probe import FOLDER, arithmetic, solutions
from xiaozao.errors import DataError, NotFound
from xiaozao.evaluate.scorers import SCORERS
from xiaozao.evaluate.suite import cut, hash_of, obedience, probe, read_choices

OPERATION = re.compile(r"(\d+) ([+-]) (\d+)")


def test_the_probe_asks_four_hundred_questions_in_two_languages() -> None:
    graded = {one.name: len(one.items) for one in probe() if one.kind == "generated"}
    assert sum(graded.values()) == 440
    assert {name.rpartition(".")[2] for name in graded} == {"en", "zh"}
    assert sum(count for name, count in graded.items() if name.endswith("en")) == 230


def test_items_have_one_name_each_and_are_asked_once() -> None:
    for suite in probe():
        assert len({one.id for one in suite.items}) == len(suite.items)
        assert len({(one.ask, one.answers) for one in suite.items}) == len(suite.items), suite.name


def test_every_sum_of_the_probe_is_right_and_its_result_is_no_echo() -> None:
    asked = [one for suite in probe() if suite.name.startswith("arithmetic") for one in suite.items]
    checked = 0
    for item in asked:
        if match := OPERATION.search(item.ask):
            a, b = int(match[1]), int(match[3])
            assert item.answers == (str(a + b if match[2] == "+" else a - b),)
            assert int(item.answers[0]) not in (a, b)
            checked += 1
    assert checked == 130


def test_the_generated_items_are_those_that_the_script_makes() -> None:
    for name, rows in (("arithmetic", arithmetic()), ("solutions", solutions())):
        assert [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()] == rows


def test_an_accepted_answer_is_right_by_its_own_scorer() -> None:
    good = {
        "one_word": "Paris", "at_most": "巴黎", "items": "a, b, c", "numbered": "1. a\n2. b\n3. c",
    }  # fmt: skip
    for suite in probe():
        for item in suite.items if suite.kind == "generated" else ():
            said = good.get(item.check) or item.answers[0]
            if item.check == "json":
                said = json.dumps({item.answers[0]: 1}, ensure_ascii=False)
            if item.check == "ends":
                said = f"Good{item.answers[0]}"
            assert SCORERS[item.check](item.answers, said), (suite.name, item)


@pytest.mark.parametrize(
    ("row", "right"),
    [
        ({"question": "q", "choices": ["a", "b"], "answer": 1}, 1),
        ({"question": "q", "choices": ["a", "b"], "answer": "b"}, 1),
        ({"question": "q", "choices": ["x", "y"], "answer": "B"}, 1),
        ({"question": "q", "choices": ["x", "y"], "answer": "1"}, 1),
        ({"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "1"}, 0),
        ({"goal": "q", "sol1": "x", "sol2": "y", "label": 1}, 1),
    ],
)
def test_every_form_of_choices_is_read(row: dict[str, object], right: int, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(row) + "\n\n", encoding="utf-8")
    suite = read_choices("c", path)
    assert [one.right for one in suite.items] == [right]
    assert suite.chance == 0.5


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "eval_no_items"),
        ("not json\n", "eval_not_json"),
        ("[1]\n", "eval_no_choice"),
        ('{"question": "q", "choices": ["a"], "answer": 0}\n', "eval_no_choice"),
        ('{"question": "q", "choices": ["a", "b"], "answer": 2}\n', "eval_no_choice"),
        ('{"question": "q", "choices": ["a", ""], "answer": 0}\n', "eval_no_choice"),
        ('{"question": "q", "choices": ["a", "b"], "answer": true}\n', "eval_no_choice"),
        ('{"question": "q", "choices": ["a", "b", "a "], "answer": 1}\n', "eval_same_choices"),
        ('{"goal": "q", "sol1": "x", "sol2": "x", "label": 1}\n', "eval_same_choices"),
        ('{"question": "' + "q" * (1 << 20) + '"}\n', "eval_long_line"),
    ],
)
def test_a_file_that_holds_no_choices_is_refused_with_its_line(text: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_choices("c", path)
    assert caught.value.key == key
    with pytest.raises(NotFound):
        read_choices("c", tmp_path / "none.jsonl")


def test_a_limit_takes_items_evenly_and_any_change_changes_the_hash() -> None:
    suite = probe()[0]
    few = cut(suite, 4)
    assert [suite.items.index(one) for one in few.items] == [at * len(suite.items) // 4 for at in range(4)]
    assert cut(suite, None) == cut(suite, 10_000) == suite
    assert len({hash_of([suite]), hash_of([few]), hash_of([suite, few])}) == 3


def test_letters_go_up_to_z_and_labels_may_be_numbers(tmp_path: Path) -> None:
    path, texts = tmp_path / "c.jsonl", [f"choice {n}" for n in range(26)]
    rows = [
        {"question": "q", "choices": texts, "answer": "z"},
        {"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": 1},
        {"question": "q", "choices": {"text": ["x", "y"], "label": [1, 2]}, "answerKey": "2"},
    ]
    path.write_bytes(b"\xef\xbb\xbf\r\n" + "\r\n".join(map(json.dumps, rows)).encode())
    assert [one.right for one in read_choices("c", path).items] == [25, 0, 1]


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"question": "\ud800", "choices": ["x", "y"], "answer": 0}, "eval_not_json"),
        ({"question": "q", "choices": ["x", "\udfff"], "answer": 0}, "eval_not_json"),
        ({"question": "q", "choices": ["x", "y"], "answer": "9" * 5000}, "eval_no_choice"),
        ({"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": 0}, "eval_no_choice"),
        ({"question": "q", "choices": {"text": ["x", "y"], "label": ["A", "A"]}, "answerKey": "A"}, "eval_no_choice"),
    ],
)  # fmt: skip
def test_an_item_that_cannot_be_asked_is_refused_with_its_line(tmp_path: Path, row: dict[str, Any], key: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_choices("c", path)
    assert error.value.key == key and error.value.params["line"] == 1


KEPT = {
    "one_word": "Honey", "capitals": "THE SEA", "lowercase": "tea is hot", "sentences": "It is water.", "at_most": "甜",
}  # fmt: skip


def test_the_orders_are_twenty_in_each_language_and_none_of_the_standard_tests() -> None:
    assert {one.name: len(one.items) for one in obedience()} == {"obedience.en": 20, "obedience.zh": 20}
    asked = [one.ask for suite in obedience() for one in suite.items]
    known = {one.ask for suite in probe() for one in suite.items}
    assert len(set(asked)) == 40 and not known & set(asked)


def test_an_order_that_is_kept_is_right_and_a_chatty_answer_is_not() -> None:
    chatty = "Thank you for your question! I will gladly help you with it today. Please tell me your order number."
    for suite in obedience():
        for item in suite.items:
            said = KEPT.get(item.check, "")
            if item.check in ("items", "bullets", "numbered"):
                count = int(item.answers[0])
                said = {"items": ", ".join("abcd"[:count]), "bullets": "\n".join(["- a"] * count),
                        "numbered": "\n".join(f"{at}. a" for at in range(1, count + 1))}[item.check]  # fmt: skip
            elif item.check == "json":
                said = json.dumps(dict.fromkeys(item.answers, 1), ensure_ascii=False)
            elif item.check in ("begins", "ends"):
                said = f"{item.answers[0]} So it is. {item.answers[0]}"
            assert SCORERS[item.check](item.answers, said), item
            assert not SCORERS[item.check](item.answers, chatty), item
