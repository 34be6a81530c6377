"""`convert`: written and read again it is the same, or what is lost is told."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.folders import chat, shared_data, write_jsonl
from xiaozao.data.calls import Call
from xiaozao.data.conversations import ConversationFile, open_conversations
from xiaozao.data.conversion import Converted, convert
from xiaozao.data.formats import Conversation, Turn, format_of, parse_row
from xiaozao.data.rows import Row
from xiaozao.data.writing import TARGETS, json_line, losses, refused
from xiaozao.errors import DataError
from xiaozao.spec.parts import DataSpec

TOOLS = json.dumps([{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}])
FULL = Conversation(
    (
        Turn("system", "Be kind."),
        Turn("user", "where is A-1042?"),
        Turn("assistant", "I look.", "An id: look it up.", (Call("find", '{"id": "A-1042"}', "c1"),), learned=False),
        Turn("tool", '{"state": "sent"}', call_id="c1", name="find"),
        Turn("assistant", "It is on its way.", "It was sent."),
    ),
    1, labels={"intent": "track", "语言": "en"}, tools=TOOLS,
)  # fmt: skip


def converted(path: Path, target: str, name: str = "out.jsonl", **options: Any) -> Converted:
    return convert(DataSpec(data=str(path), **options), path.parent / name, target, lambda *_: None)


def read(path: Path, **options: Any) -> list[Conversation]:
    verdicts = list(open_conversations(DataSpec(data=str(path), **options)))
    return [one for one in verdicts if isinstance(one, Conversation)]


def plain(conversations: list[Conversation]) -> list[Conversation]:
    """Without what depends on where a row stands or how a verdict is called, and with `learned` of answers alone."""
    same = []
    for one in conversations:
        turns = tuple(replace(turn, learned=turn.learned or turn.role != "assistant") for turn in one.turns)
        verdicts = () if one.liked is None else ("label", "kto_tag")
        labels = {name: value for name, value in one.labels.items() if name not in verdicts}
        same.append(replace(one, line=0, rows=1, turns=turns, labels=labels))
    return same


@pytest.mark.parametrize("target", ["messages", "openai"])
@pytest.mark.parametrize("name", ["out.jsonl", "out.json"])
def test_messages_and_openai_hold_everything(target: str, name: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [TARGETS[target](FULL)])
    result = converted(path, target, name)
    assert (result.lost, result.left, result.written) == ({}, {}, 1)
    assert plain(read(result.path)) == plain(read(path)) == [replace(FULL, line=0)]


def test_openai_has_arguments_as_text_and_weights() -> None:
    row = TARGETS["openai"](FULL)
    called, answered = row["messages"][2], row["messages"][3]
    assert called["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"id": "A-1042"}'}}
    ]
    assert called["weight"] == 0 and answered["tool_call_id"] == "c1" and row["tools"] == json.loads(TOOLS)
    assert TARGETS["messages"](FULL)["messages"][2]["tool_calls"][0]["function"]["arguments"] == {"id": "A-1042"}


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda text: text.strip() != "")
CALLS = st.builds(
    lambda name, arguments, id: Call(name, json.dumps(arguments, ensure_ascii=False), id),
    st.sampled_from(("find", "查询")),
    st.one_of(st.dictionaries(WORDS, st.one_of(WORDS, st.integers(), st.booleans(), st.none()), max_size=3), WORDS,
              st.lists(st.integers(), max_size=2)),
    st.sampled_from(("", "c1")),
)  # fmt: skip
ANSWERS = st.builds(
    Turn, st.just("assistant"), WORDS, st.one_of(st.just(""), WORDS), st.lists(CALLS, max_size=2).map(tuple),
    st.booleans(),
)  # fmt: skip
OTHERS = st.one_of(
    st.builds(Turn, st.just("user"), WORDS),
    st.builds(lambda text, id: Turn("tool", text, call_id=id), WORDS, st.sampled_from(("", "c1"))),
)
DIALOGUES = st.builds(
    lambda system, first, middle, last, labels, tools: Conversation(
        (*system, first, *middle, last), 1, labels=labels, tools=tools
    ),
    st.lists(st.builds(Turn, st.just("system"), WORDS), max_size=1),
    st.builds(Turn, st.just("user"), WORDS),
    st.lists(st.one_of(ANSWERS, OTHERS), max_size=4),
    ANSWERS.map(lambda turn: replace(turn, learned=True)),
    st.dictionaries(st.sampled_from(("intent", "意图", "label")), st.sampled_from(("a", "退货", "7")), max_size=2),
    st.sampled_from(("", TOOLS)),
)  # fmt: skip


@given(conversation=DIALOGUES, target=st.sampled_from(("messages", "openai")))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_dialogue_comes_back_from_messages_and_openai(conversation: Conversation, target: str) -> None:
    row = json.loads(json_line(TARGETS[target](conversation)))
    assert parse_row(Row(row, 1, 0), format_of(row)) == conversation
    assert losses(conversation, TARGETS[target](conversation)) == []


@given(conversation=DIALOGUES, target=st.sampled_from(("sharegpt", "alpaca")))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_what_other_formats_lose_is_named_by_comparison(conversation: Conversation, target: str) -> None:
    row = json.loads(json_line(TARGETS[target](conversation)))
    again = parse_row(Row(row, 1, 0), format_of(row))
    same = isinstance(again, Conversation) and plain([again]) == plain([conversation])
    assert (losses(conversation, row) == []) == same


PAIR = {"prompt": "hi", "chosen": "hello", "rejected": "no", "intent": "greet"}
LONG_PAIR = {
    "messages": [*chat("hi", "yes?")["messages"], {"role": "user", "content": "go"}],
    "chosen": [{"role": "assistant", "content": "I go."}], "rejected": [{"role": "assistant", "content": "No."}],
}  # fmt: skip
VERDICT = {"prompt": "hi", "completion": "hello", "label": False}
TEXT = {"text": "once upon a time", "author": "nobody"}
ALPACA = {
    "instruction": "say",
    "input": "hi",
    "output": "hi",
    "history": [["a", "b"], ["c", "d"]],
    "system": "Be kind.",
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("row", [PAIR, LONG_PAIR, VERDICT, TEXT, ALPACA, chat("hi", "hello", "and?", "no", system="s")])
def test_other_kinds_of_rows_come_back_or_are_refused_by_name(target: str, row: dict[str, Any], tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [row])
    kind = "texts" if row is TEXT else ""
    if target in ("alpaca", "openai") and kind == "texts":
        with pytest.raises(DataError) as caught:
            converted(path, target)
        assert caught.value.key == "convert_nothing" and caught.value.params["reasons"] == {f"left_{kind}": 1}
        return
    result = converted(path, target)
    assert (result.lost, result.left) == ({}, {})
    assert plain(read(result.path)) == plain(read(path))
    assert result.rounds == (target == "alpaca" and len(read(path)[0].turns) > 3)


def test_what_alpaca_cannot_hold_is_left_out_and_named(tmp_path: Path) -> None:
    rows = [
        TARGETS["messages"](FULL), chat("a", "b"), {"messages": [*chat("a")["messages"], *chat("b", "c")["messages"]]},
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "reasoning": "z"}]},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"},
                      {"role": "user", "content": "s"}, {"role": "assistant", "content": "t", "weight": 1}]},
    ]  # fmt: skip
    rows[4]["messages"][1]["weight"] = 0
    result = converted(write_jsonl(tmp_path / "a.jsonl", rows), "alpaca")
    assert {name: one.lines for name, one in result.left.items()} == {"turns": (1, 3)}
    assert {name: one.lines for name, one in result.lost.items()} == {"reasoning": (4,)}
    assert (result.rows_read, result.written, result.rounds) == (5, 3, 1)
    assert [one.learned for one in plain(read(result.path))[2].turns] == [True, False, True, True]  # mask_history


def test_what_sharegpt_cannot_hold_is_named(tmp_path: Path) -> None:
    calls = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}],
    }
    rows = [
        TARGETS["messages"](FULL),
        {"messages": [{"role": "user", "content": "x"}, calls, {"role": "tool", "content": "r", "tool_call_id": "c1"},
                      {"role": "assistant", "content": "y", "weight": 0}, {"role": "user", "content": "z"},
                      {"role": "assistant", "content": "y", "reasoning": "t"}]},
    ]  # fmt: skip
    result = converted(write_jsonl(tmp_path / "a.jsonl", rows), "sharegpt")
    assert {name: one.lines for name, one in result.lost.items()} == {
        "turns": (1,), "reasoning": (2,), "call_ids": (2,), "weights": (2,),
    }  # fmt: skip
    again = read(result.path)
    assert [turn.role for turn in again[0].turns] == ["system", "user", "assistant", "assistant", "tool", "assistant"]
    assert again[1].turns[1].calls == (Call("f", "{}"),)


def test_rows_are_accounted_for_and_bad_ones_stop_it(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [chat("a", "b"), {"messages": 3}, chat("only asked"), TEXT])
    (tmp_path / "out.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError):
        converted(path, "messages", format="messages")
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == "mine"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.jsonl", "out.jsonl"]  # no part is left
    result = converted(path, "messages", format="messages", bad_rows="drop")
    assert result.rows_read == 4 == result.written + sum(result.dropped.values())


def test_a_chat_log_and_a_table_become_messages(tmp_path: Path) -> None:
    log = tmp_path / "chats.csv"
    log.write_text(
        "时间,客户,发送者,内容\n2026-03-01 10:00:05,c1,小李,杯子有货吗\n2026-03-01 10:00:40,c1,客服,有的\n",
        encoding="gb18030",
    )
    result = converted(log, "messages", format="chatlog", assistant=("客服",))
    assert plain(read(result.path)) == plain(read(log, format="chatlog", assistant=("客服",)))
    table = tmp_path / "t.csv"
    table.write_text("问题,答案,意图\n在哪,这里,找\n", encoding="utf-8")
    assert plain(read(converted(table, "openai").path)) == plain(read(table))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["alpaca_zh_demo.json", "dpo_en_demo.json", "glaive_toolcall_zh_demo.json"])
def test_real_files_come_back_but_for_what_is_told(target: str, name: str, tmp_path: Path) -> None:
    spec = DataSpec(data=str(shared_data(f"formats/{name}")))
    before = list(ConversationFile(Path(spec.data), spec))
    there = [one for one in before if isinstance(one, Conversation) and not refused(one, target)]
    if not there:
        return
    result = convert(spec, tmp_path / "out.jsonl", target, lambda *_: None)
    lines = {line for rows in (*result.lost.values(), *result.left.values()) for line in rows.lines}
    if all(rows.count == len(rows.lines) for rows in (*result.lost.values(), *result.left.values())):
        again = plain(read(result.path))
        assert [one for one in plain([one for one in there if one.line not in lines]) if one not in again] == []
    if target == "messages":
        assert not result.lost and not result.left and result.written == len(there)


def test_a_line_is_json_whatever_the_values_are() -> None:
    assert json.loads(json_line({"a": float("nan"), "b": [float("inf"), 1.5], "c": "\ud83d"})) == {
        "a": None, "b": [None, 1.5], "c": "\ud83d",
    }  # fmt: skip
    assert json_line({"你": "好"}) == '{"你": "好"}'


def test_a_pair_is_written_as_openai_reads_it(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    result = converted(write_jsonl(tmp_path / "a.jsonl", [{**LONG_PAIR, "tools": tools}, LONG_PAIR]), "openai")
    row, _ = [json.loads(line) for line in result.path.read_text(encoding="utf-8").splitlines()]
    assert row == {
        "input": {"messages": LONG_PAIR["messages"], "tools": tools},
        "preferred_output": LONG_PAIR["chosen"], "non_preferred_output": LONG_PAIR["rejected"],
    }  # fmt: skip
    assert (result.written, result.lost, result.left) == (2, {}, {})
