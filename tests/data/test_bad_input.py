"""Everything that people hand in: each is refused by name, or dropped and counted; nothing passes in silence."""

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.data.folders import byte_level, chat, model_folder
from xiaozao.data.checks import check
from xiaozao.data.formats import Conversation, format_of, parse_row
from xiaozao.data.prepare import PreparedData, prepare
from xiaozao.data.rows import Row
from xiaozao.errors import DataError, EnvironmentProblem, NotFound, Problem, XiaozaoError
from xiaozao.spec.parts import DataSpec

GOOD = json.dumps(chat("hello", "how can I help?"))


def turns(*pairs: tuple[Any, Any]) -> str:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in pairs]})


ARGUMENTS = "messages[1].tool_calls[0].function.arguments"


def called(arguments: str) -> str:
    """A row in which the assistant calls with these arguments, as they stand in the JSON text."""
    call = f'{{"type": "function", "function": {{"name": "f", "arguments": "{arguments}"}}}}'
    asked = '{"role": "user", "content": "hi"}'
    return f'{{"messages": [{asked}, {{"role": "assistant", "content": null, "tool_calls": [{call}]}}]}}'


@dataclass(frozen=True)
class Case:
    """A second line that is wrong. `key`: the problem, or how the row is dropped; `field`: what the problem names."""

    line: str | bytes
    key: str
    field: str = ""


ROWS = {
    "invalid UTF-8": Case(b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}', "row_encoding"),
    "NUL": Case(b'{"messages": "\0"}', "row_nul"),
    "truncated JSON": Case(GOOD[:-10], "row_json"),
    "trailing comma": Case('{"messages": [],}', "row_json"),
    "two objects on a line": Case(GOOD + GOOD, "row_json"),
    "NaN": Case('{"messages": [], "score": NaN}', "row_not_a_number"),
    "Infinity": Case('{"messages": [], "score": -Infinity}', "row_not_a_number"),
    "1e999": Case('{"messages": [], "score": 1e999}', "row_not_a_number"),
    "duplicate keys": Case('{"messages": [{"role": "user", "role": "assistant", "content": "x"}]}',
                           "row_duplicate_key", "role"),
    "lone surrogate": Case('{"messages": [{"role": "user", "content": "\\ud83d"}]}', "row_surrogate",
                           "messages[0].content"),
    "lone surrogate in a key": Case('{"messages": [], "a": {"\\udc00": 1}}', "row_surrogate", "a"),
    "surrogate in arguments": Case(called('{\\"a\\": \\"\\\\ud83d\\"}'), "call_surrogate", ARGUMENTS),
    "deep arguments": Case(called("[" * 101 + "]" * 101), "call_deep", ARGUMENTS),
    "absurdly deep arguments": Case(called("[" * 100_000), "call_deep", ARGUMENTS),
    "a key twice in arguments": Case(called('{\\"a\\": 1, \\"a\\": 2}'), "call_duplicate_key", ARGUMENTS),
    "NaN in arguments": Case(called("NaN"), "call_not_a_number", ARGUMENTS),
    "a huge number in arguments": Case(called("9" * 5000), "call_huge_number", ARGUMENTS),
    "a million keys, the last of them twice": Case(
        "{" + ",".join(f'"k{n}":1' for n in range(300_000)) + ',"k299999":2}', "row_duplicate_key", "k299999"),
    "very many turns": Case(turns(*([("user", "a"), ("assistant", "b")] * 1001)), "row_turns", "messages"),
    "deep nesting": Case('{"messages": ' + "[" * 200 + "]" * 200 + "}", "row_deep"),
    "absurd nesting": Case('{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}", "row_deep"),
    "huge integer": Case('{"messages": [], "n": ' + "9" * 5000 + "}", "row_huge_number"),
    "array in a line": Case("[1, 2]", "row_not_object"),
    "string in a line": Case('"hello"', "row_not_object"),
    "unknown format": Case('{"foo": 1}', "row_format"),
    "unknown role": Case(turns(("user", "hi"), ("robot", "hello")), "row_role", "messages[1].role"),
    "role is a number": Case(turns((3, "hi"), ("assistant", "hello")), "row_no_field", "messages[0].role"),
    "assistant first": Case(turns(("assistant", "hello"), ("user", "hi")), "row_assistant_first", "role"),
    "only system": Case(turns(("system", "be kind")), "row_only_system", "role"),
    "no turns": Case('{"messages": []}', "row_no_turns", "messages"),
    "turn is text": Case('{"messages": ["hi"]}', "row_not_a_turn", "messages[0]"),
    "empty question": Case(turns(("user", " \n"), ("assistant", "hello")), "row_empty", "messages[0].content"),
    "null question": Case(turns(("user", None), ("assistant", "hello")), "row_empty", "messages[0].content"),
    "number as content": Case(turns(("user", 7), ("assistant", "hello")), "row_not_text", "messages[0].content"),
    "image part": Case(turns(("user", [{"type": "image_url", "image_url": "x"}]), ("assistant", "hello")),
                       "row_not_text", "messages[0].content[0]"),
    "preference pair": Case('{"prompt": "a", "chosen": "b", "rejected": "c"}', "data_mixed"),
}  # fmt: skip
DROPPED = {
    "empty answer": Case(turns(("user", "hi"), ("assistant", "")), "empty_answer"),
    "null answer": Case(turns(("user", "hi"), ("assistant", None)), "empty_answer"),
    "blank answer": Case(turns(("user", "hi"), ("assistant", " \n ")), "empty_answer"),
    "only the user speaks": Case(turns(("user", "hi")), "no_answer"),
    "too long": Case(turns(("user", "hi"), ("assistant", "x " * 500)), "too_long"),
}
ACCEPTED = {
    "role in capitals": turns(("User", "hi"), ("ASSISTANT", "hello")),
    "two users in a row": turns(("user", "hi"), ("user", "there"), ("assistant", "hello")),
    "trailing user": turns(("user", "hi"), ("assistant", "hello"), ("user", "bye")),
    "system in the middle": turns(("user", "hi"), ("system", "be kind"), ("assistant", "hello")),
    "text parts": turns(("user", [{"type": "text", "text": "hi"}, "there"]), ("assistant", "hello")),
    "U+2028 and U+0085": json.dumps(chat("a\u2028b\u0085c", "hello"), ensure_ascii=False),
    "emoji as escapes": json.dumps(chat("\U0001f600", "hello")),
    "carriage return": GOOD + "\r",
    "tool call without result": json.dumps({"messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
    ]}),
    "many columns": json.dumps({**chat("hi", "hello"), **{f"c{number}": number for number in range(10_000)}}),
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("bad") / "model", byte_level())


def run(path: Path, model: Path, **options: Any) -> PreparedData:
    spec = DataSpec(data=str(path), **{"validation": "none", "length": 200, **options})
    return prepare(spec, model, 0, path.parent / "cache", lambda stage, done, total: None)


def second_line(path: Path, line: str | bytes) -> Path:
    middle = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(GOOD.encode() + b"\n" + middle + b"\n" + GOOD.encode() + b"\n")
    return path


@pytest.mark.parametrize("name", ROWS)
def test_bad_row_stops_with_its_line_and_field(tmp_path: Path, model: Path, name: str) -> None:
    case = ROWS[name]
    path = second_line(tmp_path / "a.jsonl", case.line)
    with pytest.raises(DataError) as caught:
        run(path, model)
    error = caught.value
    if name == "preference pair":
        assert error.key == "data_mixed"
        return
    assert (error.key, error.params["count"]) == ("data_rows", 1)
    assert [problem.key for problem in error.problems] == [case.key]
    assert error.problems[0].params["line"] == 2
    assert error.problems[0].params.get("field", "") == case.field
    assert "line 2" in str(error) and "第 2 行" in error.problems[0].text("zh-CN")
    assert error.what("zh-CN") and error.fix("zh-CN")


@pytest.mark.parametrize("name", [name for name in ROWS if name != "preference pair"])
def test_bad_row_is_dropped_and_counted_on_request(tmp_path: Path, model: Path, name: str) -> None:
    path = second_line(tmp_path / "a.jsonl", ROWS[name].line)
    data = run(path, model, bad_rows="drop")
    assert data.counts.dropped == {ROWS[name].key: 1}
    assert (data.counts.rows_read, data.counts.rows_used, len(data.train)) == (3, 2, 2)
    assert data.train.lines.tolist() == [1, 3]
    assert data.counts.problems[0].params["line"] == 2


@pytest.mark.parametrize("name", DROPPED)
def test_row_that_teaches_nothing_is_dropped_and_counted(tmp_path: Path, model: Path, name: str) -> None:
    data = run(second_line(tmp_path / "a.jsonl", DROPPED[name].line), model)
    assert data.counts.dropped == {DROPPED[name].key: 1}
    assert data.train.lines.tolist() == [1, 3]


@pytest.mark.parametrize("name", ACCEPTED)
def test_row_that_looks_odd_but_is_in_order_is_accepted(tmp_path: Path, model: Path, name: str) -> None:
    data = run(second_line(tmp_path / "a.jsonl", ACCEPTED[name]), model)
    assert (data.counts.rows_read, data.counts.rows_used, data.counts.dropped) == (3, 3, {})


def make_folder(path: Path) -> None:
    path.mkdir()


def write(content: bytes) -> Callable[[Path], None]:
    def into(path: Path) -> None:
        path.write_bytes(content)

    return into


FILES: dict[str, tuple[str, Callable[[Path], None], type[XiaozaoError], str]] = {
    "missing": ("a.jsonl", lambda path: None, NotFound, "data_missing"),
    "folder": ("a.jsonl", make_folder, DataError, "data_folder"),
    "empty": ("a.jsonl", write(b""), DataError, "data_empty"),
    "only a mark": ("a.jsonl", write(b"\xef\xbb\xbf"), DataError, "data_empty"),
    "only blank lines": ("a.csv", write(b"\n \r\n\n"), DataError, "data_empty"),
    "gzip": ("a.jsonl", write(gzip.compress(GOOD.encode())), DataError, "data_binary"),
    "UTF-32": ("a.jsonl", write(GOOD.encode("utf-32")), DataError, "data_utf32"),
    "mixed formats": ("a.jsonl", write(GOOD.encode() + b'\n{"text": "hello"}\n'), DataError, "data_mixed"),
    "mixed styles": ("a.jsonl", write(
        GOOD.encode() + b'\n{"conversations": [{"from": "human", "value": "hi"}]}\n'), DataError, "data_mixed"),
    "array cut off": ("a.json", write(f"[{GOOD},\n {GOOD[:20]}".encode()), DataError, "data_json"),
    "array without a comma": ("a.json", write(f"[{GOOD}\n{GOOD}]".encode()), DataError, "data_json"),
    "text behind the array": ("a.json", write(f"[{GOOD}] x".encode()), DataError, "data_json"),
    "array with a broken byte": ("a.json", write(f"[{GOOD},\n".encode() + b'{"text":"\xff"}]'),
                                 DataError, "data_encoding"),
    "deeply nested array": ("a.json", write(b"[" * 100_000), DataError, "data_json"),
    "no known format": ("a.jsonl", write(b'{"a": 1}\n{"b": 2}\n'), DataError, "data_format"),
    "quote never closed": ("a.csv", write(b'question,answer\n"a,b\nc,d\n'), DataError, "data_csv"),
    "columns of one name": ("a.csv", write(b"question,answer,answer\na,b,c\n"), DataError, "data_columns"),
    "header only": ("a.csv", write(b"question,answer\n"), DataError, "data_nothing_left"),
    "parquet cut off": ("a.parquet", write(b"PAR1" + bytes(100)), DataError, "data_parquet"),
    "workbook cut off": ("a.xlsx", write(b"PK\x03\x04" + bytes(100)), DataError, "data_binary"),
    "all too long": ("a.jsonl", write(json.dumps(chat("hi", "x " * 500)).encode()), DataError, "data_nothing_left"),
    "all answers empty": ("a.jsonl", write(json.dumps(chat("hi", "")).encode()), DataError, "data_nothing_left"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_bad_file_is_refused(tmp_path: Path, model: Path, name: str) -> None:
    filename, prepare_file, kind, key = FILES[name]
    prepare_file(tmp_path / filename)
    with pytest.raises(XiaozaoError) as caught:
        run(tmp_path / filename, model)
    assert (type(caught.value), caught.value.key) == (kind, key), str(caught.value)
    assert filename in caught.value.what() and caught.value.what("zh-CN")
    assert not list(tmp_path.glob("cache/data/*"))


def test_mixed_file_names_the_line_and_both_formats(tmp_path: Path, model: Path) -> None:
    path = second_line(tmp_path / "a.jsonl", '{"instruction": "a", "output": "b"}')
    with pytest.raises(DataError) as caught:
        run(path, model)
    params = caught.value.params
    assert (params["line"], params["before"], params["found"], params["first"]) == (2, "messages", "alpaca", 1)


def test_table_rows_of_the_wrong_width_are_named(tmp_path: Path, model: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\na,b\nc\nd,e,f\ng,h\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        run(tmp_path / "a.csv", model)
    assert [(one.key, one.params["line"]) for one in caught.value.problems] == [("row_columns", 3), ("row_columns", 4)]


def test_first_twenty_problems_are_listed_and_all_counted(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{GOOD}\n" + '{"messages": []}\n' * 50, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        run(path, model)
    assert len(caught.value.problems) == 20
    assert (caught.value.params["count"], caught.value.params["rows"]) == (50, 51)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_file_without_permission_is_named(tmp_path: Path, model: Path) -> None:
    path = second_line(tmp_path / "a.jsonl", GOOD)
    path.chmod(0)
    with pytest.raises(EnvironmentProblem) as caught:
        run(path, model)
    assert caught.value.key == "data_permission"


MANY = [{"role": ("user", "assistant")[number % 2], "content": "a"} for number in range(2001)]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"instruction": "a", "output": "b", "history": [["a", "b"]] * 2001}, "history"),
        ({"prompt": "a", "rejected": "b", "chosen": MANY}, "chosen"),
        ({"prompt": MANY, "rejected": "b", "chosen": "c"}, "prompt"),
        ({"prompt": MANY, "completion": "b", "label": True}, "prompt"),
        ({"conversations": [{"from": "human", "value": "a"}] * 2001}, "conversations"),
    ],
)
def test_very_many_turns_are_refused_by_their_count_wherever_they_stand(row: dict[str, Any], field: str) -> None:
    refused = parse_row(Row(row, 7, 0), format_of(row))
    assert isinstance(refused, Problem) and refused.key == "row_turns"
    assert refused.params == {"line": 7, "field": field, "count": 2001, "limit": 2000}


def test_a_session_of_very_many_turns_is_refused_by_its_count(tmp_path: Path) -> None:
    rows = ["time,sender,text"] + [f"2024-03-05 14:02,{('Ann', 'support')[n % 2]},hi {n}" for n in range(2002)]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (refused,) = check(DataSpec(data=str(tmp_path / "a.csv")), None).problems
    assert (refused.key, refused.params["count"]) == ("session_turns", 2002)


def test_turns_that_follow_the_last_answer_take_no_square_of_time() -> None:
    row = {"messages": [*MANY[:2], *[MANY[0]] * 1990]}
    kept = parse_row(Row(row, 1, 0), "messages")
    assert isinstance(kept, Conversation) and len(kept.turns) == 2


@pytest.mark.parametrize(
    ("row", "key", "field"),
    [
        ({"instruction": "a", "output": "b", "history": "7"}, "row_history", "history"),
        ({"instruction": "a", "output": "b", "history": {"a": "b"}}, "row_history", "history"),
        ({"messages": [*MANY[:1], {"role": "assistant", "content": 7, "tool_calls": [{"name": "f"}]}]}, "row_not_text",
         "messages[1].content"),
        ({"messages": [*MANY[:1], {"role": "assistant", "content": {"a": 1}, "tool_calls": [{"name": "f"}]}]},
         "row_not_text", "messages[1].content"),
    ],
)  # fmt: skip
def test_a_field_of_another_type_is_refused_by_its_place(row: dict[str, Any], key: str, field: str) -> None:
    refused = parse_row(Row(row, 7, 0), format_of(row))
    assert isinstance(refused, Problem) and (refused.key, refused.params["field"]) == (key, field)
