"""Answers that are no plain texts: several of them, numbers, dates, rounds as lists."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import polars
import pytest

from xiaozao.data.conversations import ConversationFile
from xiaozao.data.formats import Conversation
from xiaozao.errors import Problem
from xiaozao.spec.parts import DataSpec
from xiaozao.texts.catalogue import LANGUAGES

Read = tuple[list[list[str]], dict[str, Problem], list[Problem]]


def read(path: Path, **options: Any) -> Read:
    """The texts of the turns of each conversation, the notes by key, and the problems."""
    file = ConversationFile(path, DataSpec(data=str(path), **options))
    verdicts = list(file)
    talks = [[turn.content for turn in one.turns] for one in verdicts if isinstance(one, Conversation)]
    return talks, {note.key: note for note in file.notes}, [one for one in verdicts if isinstance(one, Problem)]


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["answers", "responses", "outputs", "completions", "answer", "output", "回答"])
@pytest.mark.parametrize("asked", ["question", "instruction", "问题"])
def test_of_several_answers_the_first_is_learned_and_that_is_told(tmp_path: Path, name: str, asked: str) -> None:
    rows = [{asked: "q", name: ["a", "b"]}, {asked: "r", name: ["", "c", "c"]}, {asked: "s", name: ["d", "e", "f"]}]
    talks, notes, problems = read(lines(tmp_path / "a.jsonl", *rows))
    assert talks == [["q", "a"], ["r", "c"], ["s", "d"]] and not problems
    assert notes["note_first_answer"].params == {"field": name, "line": 1, "count": 2}
    assert len({notes["note_first_answer"].text(language) for language in LANGUAGES}) == 2


def test_answers_as_squad_and_coqa_write_them(tmp_path: Path) -> None:
    squad = {"context": "Ola lives in Oslo.", "question": "Where?", "answers": {"text": ["Oslo", "in Oslo"]}}
    talks, notes, _ = read(lines(tmp_path / "a.jsonl", squad, {**squad, "answers": {"text": ["Oslo", "Oslo"]}}))
    assert [talk[1] for talk in talks] == ["Oslo", "Oslo"] and notes["note_first_answer"].params["count"] == 1
    coqa = {"story": "Ola lives in Oslo, and has done so for years.", "questions": ["Who?", "Where?"],
            "answers": {"input_text": ["Ola", "in Oslo"], "answer_start": [0, 9]}}  # fmt: skip
    talks, notes, _ = read(lines(tmp_path / "b.jsonl", coqa))
    assert talks == [["Who?\n\nOla lives in Oslo, and has done so for years.", "Ola", "Where?", "in Oslo"]]
    assert notes["note_rounds"].params == {"field": "answers", "line": 1, "count": 1}


def test_lists_of_questions_and_answers_are_rounds(tmp_path: Path) -> None:
    talks, notes, _ = read(lines(tmp_path / "a.jsonl", {"prompts": ["q", "r"], "responses": ["a", "b"]}))
    assert talks == [["q", "a", "r", "b"]] and notes["note_rounds"].params["field"] == "responses"
    _, _, problems = read(lines(tmp_path / "b.jsonl", {"questions": ["q", "r"], "answers": ["a", "b", "c"]},
                                {"questions": ["q", "r"], "answers": "a"}))  # fmt: skip
    assert [(one.key, one.params["questions"], one.params["answers"]) for one in problems] == [
        ("row_rounds", 2, 3), ("row_rounds", 2, 1)
    ]  # fmt: skip


def test_one_answer_in_a_list_is_nothing_to_tell_and_none_is_empty(tmp_path: Path) -> None:
    talks, notes, _ = read(lines(tmp_path / "a.jsonl", {"question": "q", "answers": ["a"]},
                                 {"question": "q", "answers": []}))  # fmt: skip
    assert talks == [["q", "a"]] and set(notes) == {"note_unanswered"}
    _, _, problems = read(lines(tmp_path / "b.jsonl", {"question": "q", "answers": [{"model": "x", "said": "a"}]}))
    assert [(one.key, one.params["field"]) for one in problems] == [("row_not_text", "answers")]


VALUES = {"number": 42, "part": 1.5, "whole": 42.0, "true": True, "false": False, "zero": 0}


@pytest.mark.parametrize("name", VALUES)
def test_a_number_in_json_is_text_as_in_a_table(tmp_path: Path, name: str) -> None:
    rows: list[dict[str, Any]] = [{"question": "q1", "answer": VALUES[name]}, {"question": "q2", "answer": "a"}]
    talks, notes, problems = read(lines(tmp_path / "a.jsonl", *rows))
    assert not problems and notes["note_number"].params == {"field": "answer", "line": 1, "count": 1}
    workbook = openpyxl.Workbook()
    for row in (("question", "answer"), *(tuple(row.values()) for row in rows)):
        workbook.worksheets[0].append(row)
    workbook.save(tmp_path / "a.xlsx")
    table, _, _ = read(tmp_path / "a.xlsx")
    assert [[text.lower() for text in talk] for talk in table] == talks


def test_numbers_stand_for_text_in_questions_inputs_and_pairs(tmp_path: Path) -> None:
    alpaca = {"instruction": "Double it", "input": 21, "output": 42}
    assert read(lines(tmp_path / "a.jsonl", alpaca))[0] == [["Double it\n21", "42"]]
    pair = {"prompt": "6 times 7", "chosen": 42, "rejected": 41}
    talks, notes, _ = read(lines(tmp_path / "b.jsonl", pair))
    assert talks == [["6 times 7", "42"]] and "note_number" in notes
    assert read(lines(tmp_path / "c.jsonl", {"question": 7, "answers": [7, 8]}))[0] == [["7", "7"]]
    mixed = [{"question": "q", "answer": value} for value in ("a", 1, 2.5, False)]
    forward, backward = (read(lines(tmp_path / "d.jsonl", *rows)) for rows in (mixed, mixed[::-1]))
    assert forward[0] == backward[0][::-1] and not forward[2]


def test_dates_in_parquet_are_text(tmp_path: Path) -> None:
    polars.DataFrame({"question": ["when"], "answer": [date(2024, 3, 5)]}).write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0] == [["when", "2024-03-05"]]


def test_objects_and_numbers_of_messages_stay_refused(tmp_path: Path) -> None:
    said = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": 42}]}
    _, _, problems = read(lines(tmp_path / "a.jsonl", said, said))
    assert [(one.key, one.params["field"]) for one in problems] == [("row_not_text", "messages[1].content")] * 2
    _, _, problems = read(lines(tmp_path / "b.jsonl", {"question": "q", "answer": {"a": 1}}))
    assert [one.params["field"] for one in problems] == ["answer"]


def test_lists_as_text_in_a_table_are_lists_under_names_of_several(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question,answers\nq,"[""a"", ""b""]"\nr,"[\'c\', \'d\']"\n', encoding="utf-8")
    talks, notes, _ = read(tmp_path / "a.csv")
    assert talks == [["q", "a"], ["r", "c"]] and notes["note_first_answer"].params["count"] == 2
    (tmp_path / "b.csv").write_text('question,answer\nq,"[""a"", ""b""]"\n', encoding="utf-8")
    assert read(tmp_path / "b.csv")[0] == [["q", '["a", "b"]']], "one answer may be a list as text"


def test_answers_of_several_models_are_several_answers(tmp_path: Path) -> None:
    row = {"prompt": "q", "responses": [{"model": "x", "response": "a"}, {"model": "y", "response": "b"}]}
    talks, notes, _ = read(lines(tmp_path / "a.jsonl", row))
    assert talks == [["q", "a"]] and notes["note_first_answer"].params["field"] == "responses"
