"""Rows that stand inside an object, and small slips of files that programs write."""

import json
from pathlib import Path
from typing import Any

import pytest

from xiaozao.data.conversations import ConversationFile
from xiaozao.data.formats import Conversation
from xiaozao.data.rows import Row
from xiaozao.data.sources import open_source, read_rows
from xiaozao.errors import DataError, Problem
from xiaozao.spec.parts import DataSpec

ROWS = [{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"}]


def values(path: Path) -> list[Any]:
    return [row.values if isinstance(row, Row) else row for row in read_rows(open_source(path))]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize(
    "document",
    [
        {"data": ROWS},
        {"version": "1.0", "meta": {"rows": 2, "by": ["x"]}, "rows": ROWS, "more": None},
        {"result": {"items": ROWS}, "ok": True},
        {"conversations": ROWS},
        {"name": "x", "faq": ROWS},
        [{"data": row} for row in ROWS],
        {"features": [{"name": "a"}], "rows": [{"row_idx": n, "row": row} for n, row in enumerate(ROWS)]},
    ],
)  # fmt: skip
def test_rows_inside_an_object_are_read(tmp_path: Path, document: Any, suffix: str, indent: int | None) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text(json.dumps(document, indent=indent), encoding="utf-8")
    assert values(path) == ROWS


def test_a_large_array_inside_an_object_is_read_as_a_stream(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completion": "x" * 500} for n in range(3000)]
    (tmp_path / "a.json").write_text(json.dumps({"data": rows}), encoding="utf-8")
    assert len(list(read_rows(open_source(tmp_path / "a.json"), limit=2000))) == 3000


def test_rows_beside_those_that_are_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"n": 1, "train": ROWS, "test": ROWS[:1], "by": "x"}), encoding="utf-8")
    file = ConversationFile(tmp_path / "a.json", DataSpec(data="x"))
    assert len(list(file)) == 2
    assert file.notes == (Problem("note_beside", {"field": "test", "count": 1}),)


@pytest.mark.parametrize(
    "document",
    ['{"data": [{"a": 1}, {"a": 2}', '{"data": [{"a": 1}]', '{"data": [{"a": 1}]} x', '{"data": [{"a": 1}] "b": 2}'],
)
def test_an_object_with_rows_that_breaks_off_is_refused(tmp_path: Path, document: str) -> None:
    (tmp_path / "a.json").write_text(document, encoding="utf-8")
    with pytest.raises(DataError, match="data_json|breaks off"):
        values(tmp_path / "a.json")


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]},
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_turns_are_no_rows(tmp_path: Path, row: Any, count: int) -> None:
    (tmp_path / "a.jsonl").write_text((json.dumps(row) + "\n") * count, encoding="utf-8")
    assert values(tmp_path / "a.jsonl") == [row] * count


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_byte_order_marks_within_a_file_are_no_text(tmp_path: Path, name: str) -> None:
    lines = ["prompt,completion", "a,b", "c,d"] if name == "a.csv" else [json.dumps(row) for row in ROWS]
    (tmp_path / name).write_bytes(b"".join(b"\xef\xbb\xbf" + line.encode() + b"\n" for line in lines))
    rows = [list(row.values()) for row in values(tmp_path / name)]
    assert rows == [["a", "b"], ["c", "d"]]


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;", "sep=;;;"])
def test_the_line_in_which_excel_names_the_separator_is_read(tmp_path: Path, first: str) -> None:
    (tmp_path / "a.csv").write_text(f"{first}\nquestion;answer, short\nhi;hello, you\n", encoding="utf-8")
    assert values(tmp_path / "a.csv") == [{"question": "hi", "answer, short": "hello, you"}]


def test_a_tab_may_be_named_and_a_bar_may_separate(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sep=\\t\nquestion\tanswer\nhi\thello\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("question|answer\nhi|hello\n", encoding="utf-8")
    assert values(tmp_path / "a.csv") == values(tmp_path / "b.csv") == [{"question": "hi", "answer": "hello"}]
    assert all(isinstance(talk, Conversation) for talk in ConversationFile(tmp_path / "b.csv", DataSpec(data="x")))
