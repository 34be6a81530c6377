import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluate.blind.runs import a_vote, log_of
from xiaozao.errors import UsageError
from xiaozao.evaluate.blind.votes import VoteLog, voter_name


@pytest.fixture
def log(tmp_path: Path) -> VoteLog:
    return VoteLog(tmp_path / "votes.jsonl", ["p1", "p2", "p3"], clock=lambda: 5.0)


def test_votes_are_there_again_in_their_order(log: VoteLog) -> None:
    log.vote("Anna", "p2", "a")
    log.vote("Anna", "p1", "bad")
    log.vote("Ben", "p1", "skip")
    votes = log.read()
    assert votes.choices == {"Anna": {"p2": "a", "p1": "bad"}, "Ben": {"p1": "skip"}}
    assert list(votes.choices["Anna"]) == ["p2", "p1"]
    assert votes.voters == ("Anna", "Ben")
    assert (votes.open("Anna", ["p1", "p2", "p3"]), votes.open("Cleo", ["p1"])) == (1, 1)


def test_the_last_vote_is_taken_back_and_then_the_one_before(log: VoteLog) -> None:
    log.vote("Anna", "p1", "a")
    log.vote("Ben", "p3", "b")
    log.vote("Anna", "p2", "b")
    assert [log.undo("Anna") for _ in range(3)] == ["p2", "p1", None]
    assert log.read().choices == {"Anna": {}, "Ben": {"p3": "b"}}
    assert log.read().voters == ("Ben",)


def test_a_pair_that_was_voted_twice_is_undone_cleanly(log: VoteLog) -> None:
    """The second vote replaces the first, and is the last one; taken back, the pair has none."""
    log.vote("Anna", "p1", "a")
    log.vote("Anna", "p2", "tie")
    log.vote("Anna", "p1", "b")
    assert log.read().choices == {"Anna": {"p2": "tie", "p1": "b"}}
    assert log.undo("Anna") == "p1"
    assert log.read().choices == {"Anna": {"p2": "tie"}}


def test_what_is_recorded_is_kept_whole_and_never_rewritten(log: VoteLog, tmp_path: Path) -> None:
    path, before = tmp_path / "votes.jsonl", b""
    for number in range(6):
        log.vote("Anna", f"p{number % 3 + 1}", "a") if number % 2 else log.undo("Anna")
        now = path.read_bytes() if path.exists() else b""
        assert now.startswith(before)
        before = now
    assert all(json.loads(line)["time"] == 5.0 for line in before.splitlines())


def test_a_line_that_a_crash_left_half_written_costs_that_vote_alone(log: VoteLog, tmp_path: Path) -> None:
    log.vote("Anna", "p1", "a")
    log.vote("Anna", "p2", "b")
    path = tmp_path / "votes.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert log.read().choices == {"Anna": {"p1": "a"}}
    log.vote("Anna", "p3", "tie")
    votes = log.read()
    assert (votes.choices, votes.damaged) == ({"Anna": {"p1": "a", "p3": "tie"}}, 1)


@pytest.mark.parametrize(
    "line",
    [
        "nonsense", "[]", "{}", "null", '{"time": 1}',
        '{"type": "voted", "time": 1, "voter": "A", "pair": "p9", "choice": "a"}',
        '{"type": "voted", "time": 1, "voter": "A", "pair": "p1", "choice": "c"}',
        '{"type": "voted", "time": 1, "voter": 7, "pair": "p1", "choice": "a"}',
        '{"type": "voted", "time": 1, "voter": "A", "pair": ["p1"], "choice": "a"}',
        '{"type": "undone", "time": 1, "voter": "A"}', '{"type": ["voted"], "time": 1}',
        '{"type": "revealed", "time": 1, "why": "bored"}', '{"type": "counted", "time": 1}',
        '{"type": "voted", "voter": "A", "pair": "p1", "choice": "a"}',
    ],
)  # fmt: skip
def test_a_line_that_is_no_vote_is_passed_over_and_counted(log: VoteLog, tmp_path: Path, line: str) -> None:
    log.vote("Anna", "p1", "a")
    with (tmp_path / "votes.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    log.vote("Anna", "p2", "a")
    votes = log.read()
    assert (votes.choices, votes.damaged) == ({"Anna": {"p1": "a", "p2": "a"}}, 1)


def test_sheets_and_the_reveal_are_recorded(log: VoteLog) -> None:
    log.issue("Ben")
    log.issue("")
    log.vote("Ben", "p1", "a", by="file")
    log.reveal("asked")
    log.reveal("finished")
    votes = log.read()
    assert votes.issued == {"Ben", ""} and votes.returned == {"Ben"}
    assert votes.revealed == ("asked", 5.0)  # the first time counts


def test_the_file_is_the_owners_and_no_link_is_followed(log: VoteLog, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "votes.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        log.vote("Anna", "p1", "a")
    (tmp_path / "votes.jsonl").unlink()
    log.vote("Anna", "p1", "a")
    assert (tmp_path / "votes.jsonl").stat().st_mode & 0o077 == 0


KILLED = """
import os, signal, sys
from pathlib import Path
from xiaozao.evaluate.blind.votes import VoteLog
log = VoteLog(Path(sys.argv[1]), sys.argv[2:])
for number, pair in enumerate(sys.argv[2:]):
    log.vote("Anna", pair, "a")
    sys.stdout.write(".")
    sys.stdout.flush()
    if number == 11:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="no such signal")
def test_nothing_is_lost_when_the_voter_is_killed(tmp_path: Path) -> None:
    vote = a_vote(tmp_path / "run")
    order = [pair.id for pair in vote.order("Anna")]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(vote.folder.votes), *order], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "." * 12
    assert list(log_of(vote).read().choices["Anna"]) == order[:12]


@pytest.mark.parametrize(
    ("given", "name"),
    [("Anna", "Anna"), ("  小 王 ", "小 王"), ("Ａnna", "Anna"), ("A\tB", "A B"), ("é" * 60, "é" * 60)],
)
def test_a_name_has_one_spelling(given: str, name: str) -> None:
    assert voter_name(given) == name


@pytest.mark.parametrize("given", ["", "  ", "a" * 61, "\x1b[31m", "\ud800", "\u202e"])
def test_a_name_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a voter"):
        voter_name(given)
