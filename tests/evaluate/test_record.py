"""Answers as they come: written once, kept through crashes, read again."""

from dataclasses import replace
from pathlib import Path

import pytest

from xiaozao.evaluate.record import Record, Records, read_records, write_records

FIRST = Record("base", "facts.en", "en-00", "3f2a", "Paris\u2028\r\n\x1b[31m", 1.0, 2, 0.25)
SECOND = replace(FIRST, item="en-01", answer="罗马", value=0.0)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with Records(path) as records:
        records.add([FIRST, SECOND])
        records.add([FIRST])  # known already
    assert list(read_records(path)) == [FIRST, SECOND]
    assert len(path.read_bytes().splitlines()) == 2


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_a_crash_left_is_cut_off_and_the_others_stay(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with Records(path) as records:
        records.add([FIRST, SECOND])
    path.write_bytes(path.read_bytes()[:-cut])
    with Records(path) as records:
        assert list(records.known.values()) == [FIRST]
        records.add([SECOND])
    assert list(read_records(path)) == [FIRST, SECOND]


def test_lines_that_are_no_records_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write_records(path, [FIRST])
    good = path.read_bytes()
    bad = [b"[]", b"{}", b'{"v":1}', b"\x00" * 8, good.strip().replace(b'"value":1.0', b'"value":NaN'),
           good.strip().replace(b'"value":1.0', b'"value":"1"'), good.strip().replace(b'"v":1', b'"v":2')]  # fmt: skip
    path.write_bytes(b"\n".join([*bad, good]))
    assert list(read_records(path)) == [FIRST]
    assert list(read_records(tmp_path / "none")) == []


def test_a_later_record_of_the_same_item_counts(tmp_path: Path) -> None:
    with Records(tmp_path / "answers.jsonl") as records:
        records.add([FIRST])
        records.add([replace(FIRST, asked="other")])
        assert records.known[FIRST.key].asked == "other"
