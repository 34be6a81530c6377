"""What a workbook hides: rows behind a filter, columns, sheets. Nobody sees it, so it is told and not learned."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import openpyxl
import pytest
from openpyxl.worksheet.worksheet import Worksheet

from tests.data.test_headers import read
from xiaozao.errors import DataError
from xiaozao.texts.catalogue import LANGUAGES

ROWS: Sequence[Sequence[Any]] = [
    ("question", "answer", "status"),
    ("Where is it?", "On its way.", "ok"),
    ("Is it red?", "No.", "bad"),
    ("Is it big?", "Yes.", "ok"),
    ("Is it old?", "Very.", "bad"),
]


def book(path: Path, change: Callable[[Worksheet], object], **sheets: Sequence[Sequence[Any]]) -> Path:
    workbook = openpyxl.Workbook()
    sheet = workbook.worksheets[0]
    sheet.title = "FAQ"
    for row in ROWS:
        sheet.append(list(row))
    for title, rows in sheets.items():
        other = workbook.create_sheet(title)
        for row in rows:
            other.append(list(row))
    change(sheet)
    workbook.save(path)
    return path


def filtered(sheet: Worksheet) -> None:
    sheet.auto_filter.ref = "A1:C5"
    sheet.auto_filter.add_filter_column(2, ["ok"])
    for row in (3, 5):
        sheet.row_dimensions[row].hidden = True


def test_rows_that_a_filter_hides_are_left_out_and_counted(tmp_path: Path) -> None:
    talks, notes = read(book(tmp_path / "a.xlsx", filtered))
    assert talks == [["Where is it?", "On its way."], ["Is it big?", "Yes."]]
    assert notes["note_hidden_rows_filter"].params["count"] == 2


@pytest.mark.parametrize("mark", ['hidden="1"', 'hidden="true"', 'ht="0"'])
def test_rows_hidden_by_hand_or_without_height_are_left_out(tmp_path: Path, mark: str) -> None:
    def hide(sheet: Worksheet) -> None:
        for row in (2, 4):
            sheet.row_dimensions[row].hidden = True

    path = tmp_path / "b.xlsx"
    with zipfile.ZipFile(book(tmp_path / "a.xlsx", hide)) as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            after.writestr(name, before.read(name).replace(b'hidden="1"', mark.encode()))
    talks, notes = read(path)
    assert talks == [["Is it red?", "No."], ["Is it old?", "Very."]] and notes["note_hidden_rows"].params["count"] == 2


def test_hidden_columns_are_not_read(tmp_path: Path) -> None:
    def hide(sheet: Worksheet) -> None:
        sheet["D1"], sheet["D2"] = "context", "A text that nobody sees in this sheet."
        sheet.column_dimensions["D"].hidden = True

    talks, notes = read(book(tmp_path / "a.xlsx", hide))
    assert talks[0] == ["Where is it?", "On its way."]
    assert notes["note_hidden_columns"].params == {"count": 1, "columns": "D (context)"}


def test_a_hidden_answer_is_named_in_the_error(tmp_path: Path) -> None:
    def hide(sheet: Worksheet) -> None:
        sheet.column_dimensions["B"].hidden = True

    with pytest.raises(DataError, match=r"B \(answer\)"):
        read(book(tmp_path / "a.xlsx", hide))


@pytest.mark.parametrize("state", ["hidden", "veryHidden"])
def test_a_hidden_sheet_is_not_taken_for_the_first(tmp_path: Path, state: Literal["hidden", "veryHidden"]) -> None:
    def hide(sheet: Worksheet) -> None:
        sheet.sheet_state = state

    path = book(tmp_path / "a.xlsx", hide, Seen=[("question", "answer"), ("a", "b")])
    talks, notes = read(path)
    assert talks == [["a", "b"]] and notes["note_sheet_hidden"].params["count"] == 5
    advice = notes["note_sheet_hidden"].text("zh-CN").rpartition("data=")[2]
    assert len(read(Path(advice))[0]) == 4
    talks, notes = read(book(tmp_path / "b.xlsx", hide, Empty=[]))
    assert len(talks) == 4 and notes["note_sheet_hidden_read"].params == {"read": "FAQ"}


def test_a_sheet_with_nothing_to_see_is_refused_in_words(tmp_path: Path) -> None:
    def hide(sheet: Worksheet) -> None:
        for row in range(1, 6):
            sheet.row_dimensions[row].hidden = True

    with pytest.raises(DataError) as caught:
        read(book(tmp_path / "a.xlsx", hide))
    assert caught.value.key == "data_hidden" and caught.value.params["count"] == 5
    assert len({caught.value.fix(language) for language in LANGUAGES}) == 2
