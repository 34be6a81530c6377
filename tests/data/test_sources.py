"""Files -> rows: what is read is the same whatever the bytes look like, and memory does not grow with the file."""

import gzip
import json
import pickle
import tracemalloc
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import openpyxl
import polars
import pytest

from tests.data.folders import write_jsonl
from xiaozao.data.parquet import FIRST
from xiaozao.data.rows import Row
from xiaozao.data.sources import open_source, read_rows
from xiaozao.errors import DataError, Problem

TEXTS = ["您好，请问有什么可以帮您？", "hello\u2028wide\u0085world", "line one\nline two", "😀 naïve"]
ROWS = [{"text": text, "n": index} for index, text in enumerate(TEXTS)]


def rows(path: Path, encoding: str = "auto") -> list[Row | Problem]:
    return list(read_rows(open_source(path, encoding)))


def values(path: Path, encoding: str = "auto") -> list[dict[str, object]]:
    found = rows(path, encoding)
    assert all(isinstance(row, Row) for row in found), found
    return [row.values for row in found if isinstance(row, Row)]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"),
     ("utf-16-le", b""), ("utf-16-be", b""), ("gb18030", b"")],
)  # fmt: skip
@pytest.mark.parametrize("last", [True, False])
def test_bytes_do_not_change_the_rows(tmp_path: Path, encoding: str, mark: bytes, newline: str, last: bool) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    text = newline.join(lines) + (newline if last else "")
    (tmp_path / "a.jsonl").write_bytes(mark + text.encode(encoding))
    assert values(tmp_path / "a.jsonl") == ROWS
    assert open_source(tmp_path / "a.jsonl").encoding == encoding


def test_lines_and_offsets_point_at_the_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text":"您"}\r\n\r\n{"text":"b"}\n'.encode())
    assert [(row.line, row.offset) for row in rows(path) if isinstance(row, Row)] == [(1, 0), (3, 18)]


def test_gb18030_is_not_seen_where_a_byte_of_utf8_is_broken(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS * 3)
    path.write_bytes(path.read_bytes().replace("请".encode(), b"\xe8\xaf", 1))
    found = rows(path)
    assert open_source(path).encoding == "utf-8"
    assert sum(isinstance(row, Problem) for row in found) == 1
    assert isinstance(found[0], Problem) and found[0].params["line"] == 1 and found[0].params["offset"] == 19


def test_latin1_is_not_taken_for_chinese(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("question,answer\nOù est l'été déjà né ?,Là-bas mon café crème\n".encode("latin-1"))
    assert open_source(path).encoding == "cp1252"
    assert values(path) == [{"question": "Où est l'été déjà né ?", "answer": "Là-bas mon café crème"}]


@pytest.mark.parametrize(
    ("text", "kind", "count"),
    [
        (json.dumps(ROWS), "json", 4),
        (json.dumps(ROWS, indent=2), "json", 4),
        ("\n\n  " + json.dumps(ROWS), "json", 4),
        (json.dumps(ROWS[0]), "jsonl", 1),
        (json.dumps(ROWS[0], indent=2), "json", 1),
        ("\n".join(json.dumps(row, indent=2) for row in ROWS), "json", 4),
        ("\n".join(json.dumps(row) for row in ROWS), "jsonl", 4),
        ("[]", "json", 0),
        ("[ ]\n", "json", 0),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.txt", "a"])
def test_json_is_recognised_by_content(tmp_path: Path, text: str, kind: str, count: int, name: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert open_source(tmp_path / name).kind == kind
    assert values(tmp_path / name) == ROWS[:count]


def test_array_elements_carry_their_line_and_bad_ones_do_not_stop_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a":"您"},\n {"b":NaN},\n {"c":1,"c":2}, 7,\n {"d":4}]', encoding="utf-8")
    found = rows(path)
    keys = [row.key if isinstance(row, Problem) else row.values for row in found]
    assert keys == [{"a": "您"}, "row_not_a_number", "row_duplicate_key", "row_not_object", {"d": 4}]
    lines = [row.params["line"] if isinstance(row, Problem) else row.line for row in found]
    assert lines == [1, 2, 3, 3, 4]
    last = found[-1]
    assert isinstance(last, Row) and path.read_bytes()[last.offset :] == b'{"d":4}]'


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_csv_with_any_delimiter_and_quoted_newlines(tmp_path: Path, delimiter: str, name: str) -> None:
    header = delimiter.join(("question", "answer", "=cmd()"))
    body = delimiter.join(('"a\nb"', '"say ""hi"""', "=HYPERLINK(1)"))
    (tmp_path / name).write_text(f"{header}\n{body}\n\n{delimiter * 2}\n{body}\n", encoding="utf-8")
    row = {"question": "a\nb", "answer": 'say "hi"', "=cmd()": "=HYPERLINK(1)"}
    assert values(tmp_path / name) == [row, row]
    assert [one.line for one in rows(tmp_path / name) if isinstance(one, Row)] == [2, 6]


def test_csv_from_excel_in_china(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("问题,答案\r\n多久发货？,付款后48小时内发货。\r\n".encode("gb18030"))
    assert values(tmp_path / "a.csv") == [{"问题": "多久发货？", "答案": "付款后48小时内发货。"}]


def test_csv_row_with_a_broken_byte_does_not_stop_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"question,answer\na,b\nc,\xff\xfe\nd,e\n")
    found = rows(tmp_path / "a.csv")
    assert [isinstance(row, Problem) for row in found] == [False, True, False]
    assert isinstance(found[1], Problem) and found[1].params == {"line": 3, "offset": 22, "encoding": "UTF-8"}


def test_parquet_in_slices(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": None}, {"role": "assistant", "content": "b"}]
    odd = {"when": datetime(2024, 3, 5, 14, 2), "day": date(2024, 3, 5), "price": Decimal("1.50"), "raw": b"\xff"}
    many = 3 * FIRST + 1
    frame = polars.DataFrame({"messages": [turns] * many, "n": list(range(many)), "odd": [odd] * many})
    frame.write_parquet(tmp_path / "a.jsonl")
    found = values(tmp_path / "a.jsonl")
    assert found == [{"messages": turns, "n": number, "odd": odd} for number in range(many)]


def test_workbook_values_are_text_or_dates(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.append([None, None])
    sheet.append(["问题", "答案", "time"])
    sheet.append(["价格？", 42, datetime(2024, 3, 5, 14, 2)])
    sheet.append([None, None, None])
    sheet.append(["b", "=1+1"])
    book.save(tmp_path / "a.csv")
    assert open_source(tmp_path / "a.csv").kind == "xlsx"
    assert values(tmp_path / "a.csv") == [
        {"问题": "价格？", "答案": "42", "time": datetime(2024, 3, 5, 14, 2)},
        {"问题": "b", "答案": None, "time": None},
    ]


def test_text_file_is_a_row_per_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n two\u2028three \n", encoding="utf-8")
    assert values(tmp_path / "a.txt") == [{"text": "one"}, {"text": " two\u2028three "}]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (gzip.compress(b'{"text":"a"}', mtime=0), "gzip"),
        (pickle.dumps({"text": "a"}), "pickle"),
        (b"\x7fELF" + bytes(60), "ELF"),
        (b"PK\x03\x04" + bytes(60), "zip"),
        (b"GGUF" + bytes(60), "GGUF"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"\xd0\xcf\x11\xe0" + bytes(60), "xls"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.parquet"])
def test_binaries_are_refused_by_content(tmp_path: Path, content: bytes, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=kind) as caught:
        open_source(tmp_path / name)
    assert caught.value.key == "data_binary"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "gb18030"])
def test_a_line_without_end_is_skipped_in_bounded_memory(tmp_path: Path, encoding: str) -> None:
    """U+0A0A and U+010A hold newline bytes that are no newlines in UTF-16."""
    path = tmp_path / "a.jsonl"
    before, after = '{"text":"\u010a\u0a0a您"}', '{"text":"b"}'
    path.write_bytes(f"{before}\n".encode(encoding) + ("x\u0a0a" * 30_000 + f"\n{after}\n").encode(encoding))
    found = list(read_rows(open_source(path, encoding.removesuffix("-le").removesuffix("-be"))
                           if encoding != "utf-16-be" else open_source(path), limit=1000))  # fmt: skip
    assert [row.key if isinstance(row, Problem) else row.values["text"] for row in found] == [
        "\u010a\u0a0a您", "row_line_too_long", "b",
    ]  # fmt: skip
    assert isinstance(found[1], Problem) and found[1].params["line"] == 2


def test_huge_single_line_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text":"a"}\n{"text":"')
        file.seek(200_000_000)
        file.write(b'"}\n{"text":"b"}\n')
    tracemalloc.start()
    found = rows(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row.params["line"] if isinstance(row, Problem) else row.line for row in found] == [1, 2, 3]
    assert peak < 120_000_000


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    line = {"a.csv": "a" * 1000 + ",b\n", "a.jsonl": json.dumps({"text": "a" * 1000}) + "\n"}
    path = tmp_path / name
    with path.open("w", encoding="utf-8") as file:
        if name == "a.json":
            file.write("[" + (json.dumps({"text": "a" * 1000}) + ",\n") * 20_000 + '{"text":"b"}]')
        else:
            file.write("q,answer\n" if name == "a.csv" else "")
            file.writelines(line[name] for _ in range(20_000))
    source = open_source(path)
    tracemalloc.start()
    count = sum(1 for _ in read_rows(source))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count >= 20_000
    assert peak < 12_000_000


@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_and_tables_from_windows_read_the_same(tmp_path: Path, name: str, mark: bytes) -> None:
    (tmp_path / name).write_bytes(b'question,answer\na,"b\nc"\n')
    (tmp_path / f"w{name}").write_bytes(mark + b'question,answer\r\na,"b\r\nc"\r\n')
    assert values(tmp_path / f"w{name}") == values(tmp_path / name)
