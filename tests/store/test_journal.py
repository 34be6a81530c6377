"""The journal: append-only, read by offset, whole after a crash."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xiaozao.errors import EnvironmentProblem
from xiaozao.events import Ended, Noticed, Progress
from xiaozao.runs.follow import follow
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


STEP = {"v": 1, "seq": 3, "time": 1.0, "type": "step", "step": 1}
DAMAGED = {
    "a number that is a text": {"v": 1, "seq": "x", "time": 1.0, "type": "noticed", "key": "k"},
    "a number without end": {"v": 1, "seq": 10**30, "time": 1.0, "type": "noticed", "key": "k"},
    "a number below none": {"v": 1, "seq": -3, "time": 1.0, "type": "noticed", "key": "k"},
    "a step without fields": STEP,
    "a field of another kind": {"v": 1, "seq": 3, "time": 1.0, "type": "progress", "stage": "s", "done": "x"},
    "no time": {"v": 1, "seq": 3, "time": None, "type": "noticed", "key": "k"},
    "no type": {"v": 1, "seq": 3, "time": 1.0, "type": 7},
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_record_that_is_none_is_passed_over_and_set_aside(tmp_path: Path, name: str) -> None:
    path = tmp_path / "events.jsonl"
    _journal(path, 2)
    line = json.dumps(DAMAGED[name])
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    assert len(list(read_events(path))) == len(read_records(path)[0]) == 2
    with Journal(path, clock=lambda: 1.0) as journal:
        assert journal.damaged == 1
        assert journal.record(Progress("tokens", 2, 10))["seq"] == 3
    assert path.with_suffix(".damaged.jsonl").read_text(encoding="utf-8") == line + "\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["events.damaged.jsonl", "events.jsonl"]
    with Journal(path) as journal:
        assert journal.damaged == 0
    assert [record["seq"] for record in read_records(path)[0]] == [1, 2, 3]


def test_who_follows_a_journal_that_is_mended_misses_nothing_and_sees_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    _journal(path, 2)
    with path.open("ab") as file:
        file.write(b"damaged" * 100 + b"\n")
    lives = iter([True, True, False])
    seen: list[int] = []
    for record in follow(path, lambda: next(lives)):
        if record is None and len(seen) == 2:
            _journal(path, 1, 2)
        elif record is not None:
            seen.append(record["done"])
    assert seen == [0, 1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be moved there")
@pytest.mark.parametrize("how", ["renamed", "deleted"])
def test_a_journal_that_is_gone_takes_no_more_events_but_the_last(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with Journal(folder / "events.jsonl") as journal:
        journal.record(Progress("tokens", 0, 10))
        folder.rename(tmp_path / "moved") if how == "renamed" else shutil.rmtree(folder)
        with pytest.raises(EnvironmentProblem, match="was renamed, moved or deleted"):
            journal.record(Progress("tokens", 1, 10))
        journal.record(Ended("failed"), last=True)
    if how == "renamed":
        assert len(list(read_events(tmp_path / "moved" / "events.jsonl"))) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_what_a_full_disk_tore_does_not_spoil_what_comes_after(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    code = """
import resource, sys
from pathlib import Path
from xiaozao.events import Noticed
from xiaozao.store.journal import Journal
with Journal(Path(sys.argv[1])) as journal:
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
    for text in ("a", "b" * 200):
        try:
            journal.record(Noticed(text))
        except OSError:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    journal.record(Noticed("c"))
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert list(read_events(path)) == [Noticed("a"), Noticed("c")]
