"""The journal: append-only, read by offset, whole after a crash."""

import json
from pathlib import Path

import pytest

from xiaozao.events import Noticed, Progress
from xiaozao.store.journal import Journal, read_events, read_records


def _journal(path: Path, count: int, start: int = 0) -> None:
    with Journal(path, clock=lambda: 1.0) as journal:
        for number in range(start, start + count):
            journal.record(Progress("tokens", number, 10))


def test_records_are_numbered_from_one_and_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    _journal(path, 3)
    records, offset = read_records(path)
    assert [record["seq"] for record in records] == [1, 2, 3]
    assert offset == path.stat().st_size
    assert list(read_events(path)) == [Progress("tokens", number, 10) for number in range(3)]


def test_what_is_recorded_is_what_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Journal(path, clock=lambda: 2.0004) as journal:
        record = journal.record(Progress("tokens", 1, 2))
    assert record == {"v": 1, "seq": 1, "time": 2.0, "type": "progress", "stage": "tokens", "done": 1, "total": 2}
    assert json.loads(path.read_text(encoding="utf-8")) == record


def test_numbers_go_on_when_a_journal_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    _journal(path, 2)
    _journal(path, 2, 2)
    assert [record["seq"] for record in read_records(path)[0]] == [1, 2, 3, 4]


def test_a_reader_goes_on_from_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert read_records(path) == ([], 0)
    _journal(path, 1)
    _, offset = read_records(path)
    assert read_records(path, offset) == ([], offset)
    _journal(path, 2, 1)
    assert [record["seq"] for record in read_records(path, offset)[0]] == [2, 3]


def test_a_line_that_is_still_being_written_is_not_seen(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    _journal(path, 1)
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"v":1,"seq":2,"ty')
    assert read_records(path)[1] == whole
    assert len(read_records(path)[0]) == 1


@pytest.mark.parametrize("tail", [b'{"v":1,"seq":9,"type":"pro', b"\x00" * 500, b"{", "\u4e2d".encode()[:2]])
def test_what_a_crash_left_half_written_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "events.jsonl"
    _journal(path, 2)
    with path.open("ab") as file:
        file.write(tail)
    _journal(path, 1, 2)
    assert [record["seq"] for record in read_records(path)[0]] == [1, 2, 3]
    for line in path.read_text(encoding="utf-8").splitlines():
        json.loads(line)


@pytest.mark.parametrize("damage", [b"\x00" * 64, b"not json", b"3", b'"text"', b"[1]"])
def test_a_damaged_line_in_the_middle_is_passed_over(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "events.jsonl"
    _journal(path, 2)
    with path.open("ab") as file:
        file.write(damage + b"\n")
    _journal(path, 1, 2)
    assert [record["seq"] for record in read_records(path)[0]] == [1, 2, 3]


def test_a_torn_journal_at_every_byte_keeps_its_whole_lines(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    with Journal(whole, clock=lambda: 1.0) as journal:
        for text in ("一", "二"):
            journal.record(Noticed("x", {"text": text}))
    data = whole.read_bytes()
    torn = tmp_path / "torn.jsonl"
    for length in range(len(data) + 1):
        torn.write_bytes(data[:length])
        lines = data[:length].count(b"\n")
        assert len(read_records(torn)[0]) == lines
        with Journal(torn, clock=lambda: 1.0) as journal:
            assert journal.record(Progress("tokens", 1, 1))["seq"] == lines + 1


def test_an_event_of_another_version_does_not_stop_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"v":9,"seq":1,"type":"future"}\n{"v":1,"seq":2,"type":"progress","stage":"a","done":1,"total":1}\n'
    )
    assert list(read_events(path)) == [Progress("a", 1, 1)]
