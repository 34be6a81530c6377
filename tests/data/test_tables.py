"""Tables as people have them: titles above the header, sheets, merged cells, formulas, Arrow folders, padded nulls."""

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import polars
import pytest

from xiaozao.data.conversations import ConversationFile
from xiaozao.data.formats import Conversation
from xiaozao.data.rows import Row
from xiaozao.data.sources import open_source, read_rows
from xiaozao.errors import DataError, NotFound, Problem
from xiaozao.spec.parts import DataSpec


def book(path: Path, *rows: tuple[Any, ...], merged: tuple[str, ...] = (), **others: list[tuple[Any, ...]]) -> Path:
    workbook = openpyxl.Workbook()
    sheet = workbook.worksheets[0]
    sheet.title = "FAQ"
    for row in rows:
        sheet.append(row)
    for cells in merged:
        sheet.merge_cells(cells)
    for title, more in others.items():
        other = workbook.create_sheet(title)
        for row in more:
            other.append(row)
    workbook.save(path)
    return path


def read(path: Path, **options: Any) -> tuple[list[list[str]], dict[str, Problem]]:
    """The texts of the turns of each conversation, and the notes by key."""
    file = ConversationFile(path, DataSpec(data=str(path), **options))
    talks = [[turn.content for turn in one.turns] for one in file if isinstance(one, Conversation)]
    return talks, {note.key: note for note in file.notes}


def values(path: Path) -> list[Any]:
    return [row.values if isinstance(row, Row) else row for row in read_rows(open_source(path))]


def test_title_rows_above_the_header_are_passed_over_and_told(tmp_path: Path) -> None:
    path = book(
        tmp_path / "a.xlsx", ("客服常见问题汇总", None, None), ("导出", datetime(2024, 3, 5), None), (None, None, None),
        ("编号", "问题", "答案"), (1, "可以退货吗", "可以，七天内"), (None, None, None), (2, "多久发货", "48小时内"),
        merged=("A1:C1",),
    )  # fmt: skip
    talks, notes = read(path)
    assert talks == [["可以退货吗", "可以，七天内"], ["多久发货", "48小时内"]]
    assert notes["note_titles"].params["count"] == 2 and "汇总" in str(notes["note_titles"].params["text"])


def test_groups_of_columns_above_the_header_are_no_header(tmp_path: Path) -> None:
    path = book(
        tmp_path / "a.xlsx", ("客户", None, "我方", None), ("客户问题", "渠道", "客服回答", "工号"),
        ("可以退货吗", "网站", "可以，七天内", "a1"), ("多久发货", "电话", "48小时内", "a2"), merged=("A1:B1", "C1:D1"),
    )  # fmt: skip
    assert read(path)[0] == [["可以退货吗", "可以，七天内"], ["多久发货", "48小时内"]]


@pytest.mark.parametrize("title", ["常见问题", "常见问题,,", "shop questions, 2024"])
def test_a_title_above_the_header_of_a_csv_file_is_passed_over(tmp_path: Path, title: str) -> None:
    (tmp_path / "a.csv").write_text(f"{title}\nquestion,answer,by\na,b,c\nd,e,f\n", encoding="utf-8")
    talks, notes = read(tmp_path / "a.csv")
    assert talks == [["a", "b"], ["d", "e"]] and notes["note_titles"].params["count"] == 1


@pytest.mark.parametrize("header", ["question,answer", "甲,乙", "prompt,completion"])
def test_a_header_on_the_first_line_stays_one(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\nquestion one,answer one\nquestion two,answer two\n", encoding="utf-8")
    assert [list(row.values()) for row in values(tmp_path / "a.csv")][0] == ["question one", "answer one"]


def test_a_repeated_header_and_cells_without_a_column_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer,\na,b,x\nquestion,answer,\nc,d,\n", encoding="utf-8")
    talks, notes = read(tmp_path / "a.csv")
    assert talks == [["a", "b"], ["c", "d"]]
    assert notes["note_header_again"].params == {"line": 3, "count": 1}
    assert notes["note_nameless"].params == {"line": 2, "count": 1}
    talks, notes = read(book(tmp_path / "a.xlsx", ("问题", "答案"), ("a", "b"), ("问题", "答案"), ("c", "d")))
    assert talks == [["a", "b"], ["c", "d"]] and notes["note_header_again"].params == {"line": 3, "count": 1}


def test_other_sheets_are_told_and_the_advice_reads_them(tmp_path: Path) -> None:
    path = book(
        tmp_path / "a.xlsx", ("问题", "答案"), ("a", "b"), 二月=[("问题", "答案"), ("c", "d"), ("e", "f")], 空=[]
    )
    talks, notes = read(path)
    assert (
        talks == [["a", "b"]]
        and notes["note_sheet"].params["sheet"] == "二月"
        and notes["note_sheet"].params["count"] == 3
    )
    advice = notes["note_sheet"].text("zh-CN").rpartition("data=")[2]
    assert read(Path(advice))[0] == [["c", "d"], ["e", "f"]]
    with pytest.raises(DataError, match="FAQ, 二月, 空"):
        read(Path(f"{path}#三月"))


def test_a_first_sheet_without_rows_is_passed_over(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", data=[("question", "answer"), ("a", "b")])
    assert read(path)[0] == [["a", "b"]]


def test_a_sheet_of_what_is_no_workbook_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\na,b\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.csv#x")
    assert caught.value.key == "data_no_sheets"
    with pytest.raises(NotFound):
        read(tmp_path / "b.xlsx#x")
    (tmp_path / "c#1.csv").write_text("question,answer\na,b\n", encoding="utf-8")
    assert read(tmp_path / "c#1.csv")[0] == [["a", "b"]]


def test_signs_that_xml_cannot_hold_are_line_breaks_and_tabs(tmp_path: Path) -> None:
    path = book(
        tmp_path / "a.xlsx",
        ("question", "answer"),
        ("how?", "A._x000D_\nB._x000d_C._x000A_x_x0009_y_x0000_"),
    )
    assert read(path)[0] == [["how?", "A.\nB.\nC.\nx\ty"]]
    path = book(tmp_path / "b.xlsx", ("question", "answer"), ("name?", "my_x_file_x00_and _x005F_x000D_"))
    assert read(path)[0] == [["name?", "my_x_file_x00_and _x000D_"]]
    (tmp_path / "a.csv").write_text("question,answer\nhow?,First._x000D_Second.\n", encoding="utf-8")
    assert read(tmp_path / "a.csv")[0] == [["how?", "First.\nSecond."]]


def test_cells_under_a_merged_cell_have_its_value(tmp_path: Path) -> None:
    path = book(
        tmp_path / "a.xlsx", ("问题", "答案"), ("可以退货吗", "可以"), (None, "七天内都可以"), ("多久", "两天"),
        merged=("A2:A3",),
    )  # fmt: skip
    talks, notes = read(path)
    assert talks == [["可以退货吗", "可以"], ["可以退货吗", "七天内都可以"], ["多久", "两天"]]
    assert notes["note_merged"].params["count"] == 1


def test_formulas_without_a_value_and_errors_are_told(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", ("question", "answer"), ("a", "b"), ("c", "=A2&B2"), ("d", "#N/A"))
    talks, notes = read(path)
    assert talks == [["a", "b"]]
    assert notes["note_formulas"].params["count"] == 1 and notes["note_cell_errors"].params["count"] == 1
    assert notes["note_unanswered"].params == {"count": 2, "lines": "3, 4"}


def test_a_date_that_is_an_answer_is_text(tmp_path: Path) -> None:
    path = book(
        tmp_path / "a.xlsx", ("question", "answer"), ("when?", date(2024, 3, 5)), ("and?", datetime(2024, 3, 5, 14, 2))
    )
    assert read(path)[0] == [["when?", "2024-03-05"], ["and?", "2024-03-05 14:02:00"]]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_rows_without_an_answer_are_listed(tmp_path: Path, name: str) -> None:
    rows = [("a", "b"), ("c", ""), ("d", "e"), ("f", " ")]
    lines = ["question,answer", *(",".join(row) for row in rows)]
    lines = [json.dumps({"question": q, "answer": a}) for q, a in rows] if name == "a.jsonl" else lines
    (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    note = read(tmp_path / name)[1]["note_unanswered"]
    assert note.params == {"count": 2, "lines": "3, 5" if name == "a.csv" else "2, 4"}


def test_a_very_long_cell_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"question,answer\na,{'x' * 300_000}\n", encoding="utf-8")
    assert len(read(tmp_path / "a.csv")[0][0][1]) == 300_000


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.xls", "<html><table><tr><td>问题</td><td>答案</td></tr></table></html>", "HTML"),
        ("a.xlsx", "\n<!DOCTYPE html>\n<table></table>", "HTML"),
        ("a.csv", "<table border=1><tr><td>a</td></tr></table>", "<table"),
        ("a.xls", '<?xml version="1.0"?><Workbook xmlns="x"></Workbook>', "SpreadsheetML"),
        ("a.xls", "MIME-Version: 1.0\nX: y\n\n<html>", "HTML"),
    ],
)
def test_a_web_page_that_is_named_like_a_table_is_told_for_what_it_is(
    tmp_path: Path, name: str, text: str, kind: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        open_source(tmp_path / name)
    assert (caught.value.key, caught.value.params["kind"]) == ("data_markup", kind)


TURNS = [
    {"role": "user", "content": "Weather in Oslo?", "tool_calls": None},
    {"role": "assistant", "content": None, "tool_calls": [
        {"function": {"name": "weather", "arguments": {"town": "Oslo", "sku": None, "when": {"day": None}}}}]},
    {"role": "tool", "content": "3", "tool_calls": None},
    {"role": "assistant", "content": "3 degrees", "tool_calls": None},
]  # fmt: skip
PRICE = json.loads(json.dumps(TURNS).replace('"town": "Oslo", "sku": null', '"town": null, "sku": 9'))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_nulls_that_only_pad_objects_are_not_learned(tmp_path: Path, kind: str) -> None:
    rows = [{"messages": TURNS, "note": None}, {"messages": PRICE, "note": "x"}]
    table = polars.from_dicts(rows, infer_schema_length=None)
    path = tmp_path / f"a.{kind}"
    table.write_parquet(path) if kind == "parquet" else table.write_ipc(path)
    talks = [one for one in ConversationFile(path, DataSpec(data=str(path))) if isinstance(one, Conversation)]
    assert [talk.turns[1].calls[0].arguments for talk in talks] == ['{"town": "Oslo"}', '{"sku": 9}']
    assert values(path)[0]["note"] is None and values(path)[0]["messages"][1]["content"] is None


def saved(folder: Path, *shards: polars.DataFrame, listed: bool = True) -> Path:
    folder.mkdir(parents=True)
    names = [f"data-{place:05}-of-{len(shards):05}.arrow" for place in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        shard.write_ipc_stream(folder / name)
    info = {"splits": {folder.name: {"name": folder.name, "num_examples": sum(shard.height for shard in shards)}}}
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    if listed:
        (folder / "state.json").write_text(
            json.dumps({"_data_files": [{"filename": name} for name in names]}), encoding="utf-8"
        )
    return folder


def frame(first: int, count: int) -> polars.DataFrame:
    numbers = range(first, first + count)
    return polars.DataFrame({"question": [f"q{n}" for n in numbers], "answer": [f"a{n}" for n in numbers]})


@pytest.mark.parametrize("listed", [True, False])
def test_a_saved_data_set_is_read_shard_by_shard(tmp_path: Path, listed: bool) -> None:
    folder = saved(tmp_path / "shop", frame(0, 3), frame(3, 2), listed=listed)
    rows = list(read_rows(open_source(folder)))
    assert [row.line for row in rows if isinstance(row, Row)] == [1, 2, 3, 4, 5]
    assert read(folder)[0] == [[f"q{n}", f"a{n}"] for n in range(5)]


def test_of_several_splits_one_is_read_and_the_others_are_told(tmp_path: Path) -> None:
    saved(tmp_path / "shop" / "train", frame(0, 3))
    saved(tmp_path / "shop" / "test", frame(3, 2))
    (tmp_path / "shop" / "dataset_dict.json").write_text('{"splits": ["test", "train"]}', encoding="utf-8")
    talks, notes = read(tmp_path / "shop")
    assert len(talks) == 3 and notes["note_split"].params["count"] == 2
    advice = notes["note_split"].text().rpartition("data=")[2]
    assert read(Path(advice))[0] == [["q3", "a3"], ["q4", "a4"]]


def test_folders_and_arrow_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "shop", frame(0, 3), frame(3, 2))
    (folder / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match="data-00001"):
        open_source(folder)
    (tmp_path / "hub").mkdir()
    with pytest.raises(DataError) as caught:
        open_source(tmp_path / "hub")
    assert caught.value.key == "data_folder"
    frame(0, 1).write_parquet(tmp_path / "hub" / "x.parquet")
    with pytest.raises(DataError) as caught:
        open_source(tmp_path / "hub")
    assert caught.value.key == "data_folder_files" and "x.parquet" in caught.value.fix()
    (tmp_path / "a.arrow").write_bytes(b"\xff\xff\xff\xff" + bytes(50))
    with pytest.raises(DataError) as caught:
        values(tmp_path / "a.arrow")
    assert caught.value.key in ("data_arrow", "data_lost")
