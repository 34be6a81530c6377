"""Rows in every shape that people have -> the same conversations."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.data.folders import chat, write_jsonl
from xiaozao.data.calls import Call
from xiaozao.data.conversations import ConversationFile, read_conversations
from xiaozao.data.formats import Conversation, Dropped, Turn, format_of, parse_row
from xiaozao.data.rows import Row
from xiaozao.errors import DataError, Problem
from xiaozao.spec.parts import DataSpec

HI = (Turn("user", "hi"), Turn("assistant", "hello"))
KIND = (Turn("system", "be kind"), *HI)
CALL = '{"name": "f", "arguments": {"x": 1}}'
F = Call("f", '{"x": 1}')


def openai(*turns: tuple[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


def sharegpt(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": content} for role, content in turns], **more}


def parse(values: dict[str, Any]) -> Conversation | Dropped | Problem:
    return parse_row(Row(values, 7, 0), format_of(values))


SHAPES: list[tuple[str, dict[str, Any], tuple[Turn, ...]]] = [
    ("messages", openai(("user", "hi"), ("assistant", "hello")), HI),
    ("messages", openai(("SYSTEM", "be kind"), ("Human", "hi"), ("Assistant", "hello")), KIND),
    ("messages", openai(("developer", "be kind"), ("user", "hi"), ("model", "hello")), KIND),
    ("messages", openai(("system", ""), ("user", "hi"), ("assistant", "hello")), HI),
    ("messages", openai(("user", [{"type": "text", "text": "h"}, {"text": "i"}]), ("assistant", ["hello"])), HI),
    ("messages", {"conversations": openai(("user", "hi"), ("assistant", "hello"))["messages"]}, HI),
    ("messages", openai(("user", "hi"), ("assistant", "hello"), ("user", "bye")), HI),
    ("messages", openai(("user", "hi"), ("assistant", "hello"), system="be kind"), KIND),
    ("messages", openai(("user", "hi"), ("assistant", "hello"), tools=[{"name": "f"}]), HI),
    ("messages", openai(("user", "hi"), ("assistant", "hello"), tools="f: says hello"),
     (Turn("system", "Tools:\nf: says hello"), *HI)),
    ("messages", {"messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"x": 1}'}}]},
        {"role": "tool", "content": ""},
        {"role": "assistant", "content": "hello"},
    ]}, (HI[0], Turn("assistant", "", calls=(replace(F, id="1"),)), Turn("tool", ""), HI[1])),
    ("sharegpt", sharegpt(("human", "hi"), ("gpt", "hello")), HI),
    ("sharegpt", sharegpt(("human", "hi"), ("gpt", "hello"), system="be kind"), KIND),
    ("sharegpt", sharegpt(("human", "hi"), ("function_call", CALL), ("observation", "1"), ("gpt", "hello")),
     (HI[0], Turn("assistant", "", calls=(F,)), Turn("tool", "1"), HI[1])),
    ("sharegpt", sharegpt(("system", "kind"), ("human", "hi"), ("gpt", "hello"), system="be", tools="[]"),
     (Turn("system", "kind\n\nbe"), *HI)),
    ("alpaca", {"instruction": "hi", "input": "", "output": "hello"}, HI),
    ("alpaca", {"instruction": "hi", "output": "hello", "system": "be kind"}, KIND),
    ("alpaca", {"instruction": "say", "input": "hi", "output": "hello", "history": [["a", "b"]]},
     (Turn("user", "a"), Turn("assistant", "b"), Turn("user", "say\nhi"), Turn("assistant", "hello"))),
    ("prompt", {"prompt": "hi", "completion": "hello"}, HI),
    ("prompt", {"Question ": "hi", "ANSWER": "hello"}, HI),
    ("prompt", {"问题": "hi", "答案": "hello"}, HI),
    ("prompt", {"instruction": "hi", "response": "hello", "system": "be kind"}, KIND),
]  # fmt: skip


@pytest.mark.parametrize(("format", "values", "turns"), SHAPES)
def test_shapes_become_the_same_turns(format: str, values: dict[str, Any], turns: tuple[Turn, ...]) -> None:
    assert format_of(values) == format
    found = parse(values)
    assert isinstance(found, Conversation), found
    assert (found.turns, found.text, found.line) == (turns, "", 7)


def test_plain_text() -> None:
    assert parse({"text": "hello"}) == Conversation((), 7, "hello")
    assert parse({"text": " "}) == Dropped("empty_text", 7)
    assert parse({"text": [3]}) == Problem("row_not_text", {"line": 7, "field": "text", "found": "array"})


def test_other_short_fields_are_labels() -> None:
    found = parse({**chat("hi", "hello"), "intent": "greet", "n": 3, "long": "x" * 500, "list": [1], "f": 0.5})
    assert isinstance(found, Conversation)
    assert dict(found.labels) == {"intent": "greet", "n": "3"}


@pytest.mark.parametrize(
    ("values", "key", "field"),
    [
        ({"instruction": "", "output": "b"}, "row_empty", "instruction"),
        ({"instruction": "a", "input": {"a": 3}, "output": "b"}, "row_not_text", "input"),
        ({"instruction": "a", "output": {"b": 1}}, "row_not_text", "output"),
        ({"instruction": "a", "output": "b", "history": ["c"]}, "row_history", "history[0]"),
        ({"prompt": None, "completion": "b"}, "row_empty", "prompt"),
        ({"prompt": "a", "completion": {"a": 42}}, "row_not_text", "completion"),
        (openai(("user", "hi"), ("assistant", {"a": 1})), "row_not_text", "messages[1].content"),
        ({"messages": [{"role": "user"}, {"role": "assistant", "content": "b"}]},
         "row_not_text", "messages[0].content"),
        (openai(("user", "hi"), ("assistant", "b"), system=["x"]), "row_not_text", "system"),
        ({"messages": [{"role": "user", "content": "a"}, {"from": "gpt", "value": "b"}]},
         "row_no_field", "messages[1].role"),
    ],
)  # fmt: skip
def test_wrong_fields_are_named(values: dict[str, Any], key: str, field: str) -> None:
    found = parse(values)
    assert isinstance(found, Problem)
    assert (found.key, found.params["field"], found.params["line"]) == (key, field, 7)
    assert found.text() != found.text("zh-CN")


def test_empty_tables_cells_teach_nothing() -> None:
    assert parse({"问题": "hi", "答案": None}) == Dropped("empty_answer", 7)
    assert parse({"question": "hi", "answer": ""}) == Dropped("empty_answer", 7)


def test_order_of_rows_does_not_change_what_is_accepted(tmp_path: Path) -> None:
    rows: list[Any] = [chat("hi", "hello"), {"messages": []}, chat("a", ""), {"conversations": []}, {"x": 1}]
    kinds: list[Any] = [1, "x", None, 2.5, [], {"y": 1}]
    rows += [openai(("user", "a"), ("assistant", "b"), extra=value) for value in kinds]
    verdicts = []
    for seed in range(20):
        random.Random(seed).shuffle(rows)
        file = ConversationFile(write_jsonl(tmp_path / "a.jsonl", rows), DataSpec(data="x"))
        found = [type(one).__name__ + str(getattr(one, "key", "")) for one in file]
        assert file.format == "messages"
        verdicts.append(sorted(found))
    assert all(one == verdicts[0] for one in verdicts)


def test_mixed_formats_are_refused_in_any_order(tmp_path: Path) -> None:
    rows: list[Any] = [chat("hi", "hello"), chat("a", "b"), {"text": "hello"}]
    for seed in range(6):
        random.Random(seed).shuffle(rows)
        with pytest.raises(DataError) as caught:
            list(ConversationFile(write_jsonl(tmp_path / "a.jsonl", rows), DataSpec(data="x")))
        assert caught.value.key == "data_mixed"
        assert {caught.value.params["before"], caught.value.params["found"]} == {"messages", "text"}


def test_given_format_is_not_guessed(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{**chat("hi", "hello"), "text": "plain"}, {"messages": []}])
    found = list(ConversationFile(path, DataSpec(data="x", format="text")))
    assert isinstance(found[0], Conversation) and found[0].text == "plain"
    assert isinstance(found[1], Problem) and found[1].params["field"] == "text"


def test_reading_conversations_gives_the_system_text_to_those_without(tmp_path: Path) -> None:
    rows = [chat("hi", "hello"), chat("hi", "hello", system="own"), chat("hi", "")]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    found = list(read_conversations(DataSpec(data=str(path), system="ours")))
    assert [one.turns[0].content for one in found] == ["ours", "own"]


def test_same_question_is_the_same_whatever_the_answer() -> None:
    first, second = parse(chat("hi ", "hello")), parse(chat("hi", "good day"))
    assert isinstance(first, Conversation) and isinstance(second, Conversation)
    assert first.question() == second.question()
    other = parse(chat("hi", "hello", "and", "now"))
    assert isinstance(other, Conversation) and other.question() != first.question()
