"""Tables that say more than they are: gaps, repetitions, one endless cell. Each is refused by its count, quickly."""

import csv
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars
import pytest

from xiaozao.data.encodings import LINE_LIMIT
from xiaozao.data.reading import answers
from xiaozao.data.sources import open_source, read_rows
from xiaozao.errors import DataError, Problem

SPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml"
HEADER = '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>'


def workbook(path: Path, rows: str, shared: str = "", doctype: str = "") -> Path:
    """A workbook with these rows below a header, and these texts after the two of the header."""
    link = f'<Relationship Id="r%d" Type="{OFFICE}/%s" Target="%s"/>'
    links = f'<Relationships xmlns="{PACKAGE}/relationships">%s</Relationships>'
    kind = f'<Override PartName="/xl/%s.xml" ContentType="{SHEET}.%s+xml"/>'
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        + kind % ("workbook", "sheet.main") + kind % ("worksheets/sheet1", "worksheet")
        + kind % ("sharedStrings", "sharedStrings") + "</Types>",
        "_rels/.rels": links % (link % (1, "officeDocument", "xl/workbook.xml")),
        "xl/workbook.xml": f'<workbook {SPACE} xmlns:r="{OFFICE}"><sheets>'
        '<sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": links % (
            link % (1, "worksheet", "worksheets/sheet1.xml") + link % (2, "sharedStrings", "sharedStrings.xml")
        ),
        "xl/sharedStrings.xml": f"{doctype}<sst {SPACE}><si><t>question</t></si><si><t>answer</t></si>{shared}</sst>",
        "xl/worksheets/sheet1.xml": f"<worksheet {SPACE}><sheetData>{HEADER}{rows}</sheetData></worksheet>",
    }  # fmt: skip
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return path


def row(number: int, text: int = 0) -> str:
    return f'<row r="{number}"><c r="A{number}" t="s"><v>{text}</v></c><c r="B{number}" t="s"><v>1</v></c></row>'


def refusal(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        list(read_rows(open_source(path)))
    assert caught.value.what("zh-CN") != caught.value.what("en")
    return caught.value


def test_a_gap_down_to_the_last_row_of_excel_is_only_a_gap(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", row(1_048_576, 1))
    assert path.stat().st_size < 2000
    (last,) = list(read_rows(open_source(path)))
    assert not isinstance(last, Problem)
    assert (last.line, last.values) == (1_048_576, {"question": "answer", "answer": "answer"})


BEYOND = {
    "workbook_rows": row(999_999_999),
    "workbook_columns": '<row r="2"><c r="ZZZZ2"><v>1</v></c></row>',
    "workbook_cells": "".join(f'<row r="{n}"><c r="XFD{n}"><v>1</v></c></row>' for n in range(2, 2000)),
    "workbook_cell": f'<row r="2"><c r="A2" t="inlineStr"><is><t>{"x" * 5_000_000}</t></is></c></row>',
    "workbook_tag": '<row r="2"><c r="A2" ' + " ".join(map('a{}=""'.format, range(400_000))) + "/></row>",
}


@pytest.mark.parametrize("key", BEYOND)
def test_what_is_beyond_is_refused_before_it_is_read(tmp_path: Path, key: str) -> None:
    rows = BEYOND[key] * (12 if key == "workbook_cells" else 1)
    error = refusal(workbook(tmp_path / "a.xlsx", rows))
    (problem,) = error.problems
    assert (error.key, problem.key) == ("data_workbook_part", key)
    assert int(str(problem.params["count"])) > int(str(problem.params["limit"]))


def test_entities_are_refused(tmp_path: Path) -> None:
    doctype = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
    error = refusal(workbook(tmp_path / "a.xlsx", row(2, 2), "<si><t>&b;</t></si>", doctype))
    assert error.params["detail"] == "<!DOCTYPE>"


@pytest.fixture
def small_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozao.data.allowance.FREE", 1_000_000)
    monkeypatch.setattr("xiaozao.data.allowance.RATIO", 100)


def told(kind: str, path: Path) -> Iterator[dict[str, Any]]:
    """The answers of the process that reads, asked here."""
    return (json.loads(answer) for answer in answers({"kind": kind, "path": str(path)}))


@pytest.mark.usefixtures("small_allowance")
@pytest.mark.parametrize("kind", ["xlsx", "parquet"])
def test_a_text_that_is_in_every_row_is_refused_when_it_has_become_too_much(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "xlsx":
        workbook(path, "".join(row(n, 2) for n in range(2, 100)), f"<si><t>{'x' * 100_000}</t></si>")
    else:
        polars.DataFrame({"text": ["x" * 100_000] * 1000}).write_parquet(path)
    *before, last = told(kind, path)
    assert last["error"] == "data_expands" and len(before) <= 11


@pytest.mark.usefixtures("small_allowance")
def test_a_thousand_million_rows_in_a_few_bytes_are_refused_by_their_number(tmp_path: Path) -> None:
    polars.DataFrame({"n": polars.Series([None] * 600_000, dtype=polars.Int8)}).write_parquet(tmp_path / "a.parquet")
    (refused,) = told("parquet", tmp_path / "a.parquet")
    assert (refused["error"], refused["params"]["rows"]) == ("data_expands", 600_000)


@pytest.mark.usefixtures("small_allowance")
def test_a_workbook_that_unpacks_to_too_much_is_refused_without_unpacking_it(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", "<row/>" * 400_000)
    (refused,) = told("xlsx", path)
    assert refused["error"] == "data_workbook_size"


@pytest.mark.parametrize("kind", ["csv", "parquet", "tsv"])
def test_very_many_columns_are_refused_by_their_count(tmp_path: Path, kind: str) -> None:
    names = [f"c{number}" for number in range(20_000)]
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        polars.DataFrame({name: [1] for name in names}).write_parquet(path)
    else:
        path.write_text(("," if kind == "csv" else "\t").join(names) + "\n")
    error = refusal(path)
    assert error.key == "data_wide" and error.params["count"] == 20_000


def test_a_million_columns_of_one_name_take_no_square_of_time(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a," * 1_000_000 + "\n" + "1," * 1_000_000 + "\n")
    assert refusal(tmp_path / "a.csv").params["count"] == 1_000_001


def test_a_cell_of_two_hundred_thousand_characters_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f'question,answer\n"{"x" * 200_000}",b\n')
    (read,) = list(read_rows(open_source(tmp_path / "a.csv")))
    assert not isinstance(read, Problem) and len(read.values["question"]) == 200_000


def test_a_quote_that_is_never_closed_is_told_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question,answer\na,b\n"c,d\n' + "e,f\n" * 10_000)
    before = csv.field_size_limit(20_000)
    try:
        error = refusal(tmp_path / "a.csv")
    finally:
        csv.field_size_limit(before)
    assert before == LINE_LIMIT
    assert error.key == "data_csv_cell" and error.params["line"] == 3 and "quote" in error.fix()


@pytest.mark.parametrize("kind", ["parquet", "xlsx"])
def test_a_damaged_file_prints_nothing_of_its_library(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        polars.DataFrame({"text": ["a"] * 50}).write_parquet(path)
    else:
        workbook(path, row(2))
    data = path.read_bytes()
    keys = set()
    for place in range(4, len(data) - 8, max(1, len(data) // 60)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            list(read_rows(open_source(path)))
        except DataError as error:
            keys.add(error.key)
    assert keys and keys <= {"data_parquet", "data_workbook", "data_lost", "data_binary", "data_expands", "data_wide"}
    assert capfd.readouterr() == ("", "")
