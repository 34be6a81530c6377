"""Reasoning, calls of tools, tools and weights in the forms that files have them."""

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from xiaozao.data.calls import Call
from xiaozao.data.formats import Conversation, Dropped, format_of, parse_row
from xiaozao.data.rows import Row
from xiaozao.data.turns import Turn
from xiaozao.errors import Problem

ASK = {"role": "user", "content": "Weather in Oslo?"}
SAY = {"role": "assistant", "content": "3 degrees."}
OSLO = Call("weather", '{"town": "Oslo"}')


def read(*turns: dict[str, Any], **more: Any) -> Conversation | Dropped | Problem:
    values = {"messages": list(turns), **more}
    return parse_row(Row(values, 7, 0), format_of(values))


def conversation(*turns: dict[str, Any], **more: Any) -> Conversation:
    parsed = read(*turns, **more)
    assert isinstance(parsed, Conversation), parsed
    return parsed


def problem(*turns: dict[str, Any], **more: Any) -> Problem:
    parsed = read(*turns, **more)
    assert isinstance(parsed, Problem), parsed
    assert parsed.text("en") and parsed.text("zh-CN")
    return parsed


@pytest.mark.parametrize(
    "told",
    [
        {"content": "5", "reasoning_content": "Two and three."},
        {"content": "5", "reasoning": "Two and three."},
        {"content": "5", "thinking": "Two and three."},
        {"content": "5", "thinking": "Two and three.", "reasoning_content": "Two and three."},
        {"content": [{"type": "thinking", "thinking": "Two and three."}, {"type": "text", "text": "5"}]},
        {"content": [{"type": "reasoning", "text": "Two and three."}, {"type": "text", "text": "5"}]},
    ],
)
def test_reasoning_is_kept_wherever_it_stands(told: dict[str, Any]) -> None:
    turns = conversation(ASK, {"role": "assistant", **told}).turns
    assert turns[-1] == Turn("assistant", "5", "Two and three.")


def test_an_answer_of_reasoning_alone_is_no_empty_answer() -> None:
    turns = conversation(ASK, {"role": "assistant", "content": "", "reasoning_content": "Two."}, ASK, SAY).turns
    assert turns[1] == Turn("assistant", "", "Two.")


@pytest.mark.parametrize(
    "calling",
    [
        {"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"town": "Oslo"}}}]},
        {"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": '{"town": "Oslo"}'}}]},
        {"tool_calls": {"name": "weather", "arguments": {"town": "Oslo"}}},
        {"tool_calls": [{"function": "weather", "arguments": {"town": "Oslo"}}]},
        {"tool_calls": [{"name": "weather", "parameters": {"town": "Oslo"}}]},
        {"tool_calls": '[{"name": "weather", "arguments": {"town": "Oslo"}}]'},
        {"tool_calls": ['{"name": "weather", "arguments": {"town": "Oslo"}}']},
        {"function_call": {"name": "weather", "arguments": '{"town": "Oslo"}'}},
    ],
)
@pytest.mark.parametrize("content", [None, ""])
def test_a_call_is_read_in_every_form(calling: dict[str, Any], content: str | None) -> None:
    """The last turn may be a call: it is no empty answer."""
    turns = conversation(ASK, {"role": "assistant", "content": content, **calling}).turns
    assert turns[-1].calls == (OSLO,) and turns[-1].content == ""


def test_a_call_of_a_file_of_shares_is_a_call_and_text_that_is_none_stays_text() -> None:
    def shares(call: str) -> Turn:
        values = {"conversations": [{"from": "human", "value": "hi"}, {"from": "function_call", "value": call}]}
        parsed = parse_row(Row(values, 1, 0), format_of(values))
        assert isinstance(parsed, Conversation)
        return parsed.turns[-1]

    assert shares('{"name": "weather", "arguments": {"town": "Oslo"}}') == Turn("assistant", "", calls=(OSLO,))
    assert shares("weather(Oslo)") == Turn("assistant", "weather(Oslo)")


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([7], "messages[1].tool_calls[0]"),
        ([{"arguments": {}}], "no tool"),
        (7, "messages[1].tool_calls"),
        ("{", "not valid JSON"),
        ([{"name": "f", "arguments": '{"x": NaN}'}], "NaN"),
    ],
)
def test_a_call_that_cannot_be_read_is_a_problem_with_its_place(calls: Any, words: str) -> None:
    assert words in problem(ASK, {"role": "assistant", "content": "", "tool_calls": calls}).text("en")


TOOL = {"name": "weather", "description": "Weather of a town", "parameters": {"type": "object"}}
WRAPPED = {"type": "function", "function": TOOL}


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [WRAPPED]},
        {"tools": [TOOL]},
        {"tools": WRAPPED},
        {"tools": json.dumps([WRAPPED])},
        {"tools": [json.dumps(WRAPPED)]},
        {"functions": [TOOL]},
    ],
)
def test_tools_are_read_in_every_form(more: dict[str, Any]) -> None:
    read = conversation(ASK, SAY, **more)
    assert json.loads(read.tools) == [WRAPPED] and read.turns[0].role == "user" and read.labels == {}


@pytest.mark.parametrize("tools", [[7], 7, "[{", [["a"]]])
def test_tools_that_cannot_be_read_are_a_problem(tools: Any) -> None:
    assert "tools" in problem(ASK, SAY, tools=tools).text("en")


def test_dates_and_decimals_of_tables_become_text_and_numbers() -> None:
    values = {"on": date(2024, 3, 5), "price": Decimal("3.50"), "count": Decimal("2")}
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": values}]}
    turns = conversation(ASK, call, tools=[{"name": "f", "since": date(2024, 3, 5)}])
    assert json.loads(turns.turns[-1].calls[0].arguments) == {"on": "2024-03-05", "price": 3.5, "count": 2}
    assert json.loads(turns.tools)[0]["function"]["since"] == "2024-03-05"


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"loss": False}, {"trainable": 0}])
def test_an_answer_that_is_marked_is_context(mark: dict[str, Any]) -> None:
    turns = conversation(ASK, {**SAY, **mark}, ASK, {**SAY, "weight": 1}).turns
    assert [turn.learned for turn in turns if turn.role == "assistant"] == [False, True]


@pytest.mark.parametrize("weight", ["0", 0.5, 2, [1], {}])
def test_a_weight_of_another_kind_is_named(weight: Any) -> None:
    assert "messages[1].weight" in problem(ASK, {**SAY, "weight": weight}, ASK, SAY).text("en")


def test_a_row_without_a_target_is_a_problem() -> None:
    assert problem(ASK, {**SAY, "weight": 0}).key == "row_all_masked"
    assert problem(ASK, SAY, ASK, {**SAY, "weight": 0}, mask_history=True).key == "row_all_masked"


@pytest.mark.parametrize("marked", [True, 1])
def test_with_mask_history_only_the_last_answer_is_learned(marked: Any) -> None:
    turns = conversation(ASK, SAY, ASK, SAY, mask_history=marked).turns
    assert [turn.learned for turn in turns if turn.role == "assistant"] == [False, True]
    assert problem(ASK, SAY, mask_history="yes").params["field"] == "mask_history"


def test_a_whole_row_that_is_marked_is_a_problem_and_another_number_is_a_column() -> None:
    assert problem(ASK, SAY, weight=0).key == "row_all_masked"
    assert problem(ASK, SAY, train=False).key == "row_all_masked"
    assert conversation(ASK, SAY, weight=3).labels == {"weight": "3"}
    values = {"instruction": "hi", "output": "hello", "weight": 0}
    assert isinstance(parse_row(Row(values, 7, 0), "alpaca"), Problem)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "cot", "Complex_CoT"])
def test_reasoning_in_a_column_of_its_own_is_reasoning(name: str) -> None:
    values = {"question": "2 + 3?", "answer": "5", name: "Two and three."}
    parsed = parse_row(Row(values, 7, 0), format_of(values))
    assert isinstance(parsed, Conversation) and parsed.turns[-1] == Turn("assistant", "5", "Two and three.")


@pytest.mark.parametrize("name", ["system", "system_prompt"])
def test_the_system_text_is_known_by_its_usual_names(name: str) -> None:
    values = {name: "Be kind.", "question": "hi", "response": "hello"}
    parsed = parse_row(Row(values, 7, 0), format_of(values))
    assert isinstance(parsed, Conversation) and parsed.turns[0] == Turn("system", "Be kind.")


def test_parts_of_reasoning_and_names_in_capitals_within_are_known() -> None:
    details = [{"type": "reasoning.text", "text": "Two and three."}]
    turns = conversation(ASK, {**SAY, "reasoning_details": details}).turns
    assert turns[-1].reasoning == "Two and three."
    called = {"role": "assistant", "content": "", "toolCalls": [{"name": "weather", "arguments": {"town": "Oslo"}}]}
    assert conversation(ASK, called).turns[-1].calls == (OSLO,)


def test_tools_as_a_map_of_names_are_read_and_a_tool_without_a_name_is_a_problem() -> None:
    read = conversation(ASK, SAY, tools={"weather": {"description": "d", "parameters": {"type": "object"}}})
    assert json.loads(read.tools)[0]["function"]["name"] == "weather"
    assert problem(ASK, SAY, tools=[{"description": "d"}]).key == "row_call_name"


def test_arguments_that_are_meant_to_be_json_and_are_none_are_a_problem_and_words_stay_words() -> None:
    def called(arguments: str) -> dict[str, Any]:
        return {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": arguments}]}

    assert "not valid JSON" in problem(ASK, called('{"city": Oslo')).text("en")
    assert conversation(ASK, called("Oslo")).turns[-1].calls[0].arguments == "Oslo"


def test_a_turn_of_analysis_is_the_reasoning_of_the_answer_behind_it() -> None:
    thought = {"role": "assistant", "channel": "analysis", "content": "Two and three."}
    final = {"role": "assistant", "channel": "final", "content": "5"}
    assert conversation(ASK, thought, final).turns[-1] == Turn("assistant", "5", "Two and three.")
    assert len(conversation(ASK, thought, final).turns) == 2
