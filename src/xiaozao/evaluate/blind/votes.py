"""The votes of a blind vote: an append-only file, each line on the disk before the next question is shown.

    {"v": 1, "type": "voted", "time": ..., "voter": "Anna", "pair": "p1f", "choice": "a", "by": "terminal"}
    {"v": 1, "type": "undone", ...}      takes a vote back
    {"v": 1, "type": "issued", ...}      a sheet was written for a voter ("" where it has no name yet)
    {"v": 1, "type": "revealed", "why": "finished" | "decided" | "asked", ...}

The last line about a voter and a pair counts. A line that a crash left half written is passed over.
"""

import json
import os
import time
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from xiaozao.errors import UsageError

Choice = Literal["a", "b", "tie", "bad", "skip"]
CHOICES: tuple[Choice, ...] = ("a", "b", "tie", "bad", "skip")
Why = Literal["finished", "decided", "asked"]
NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
LONGEST_NAME = 60


@dataclass(frozen=True)
class Votes:
    """What was voted so far. choices: voter -> pair -> choice, in the order they were made.

    issued: for whom sheets were written. returned: voters of whom a sheet came back. damaged: lines passed over.
    """

    choices: Mapping[str, Mapping[str, Choice]]
    issued: frozenset[str]
    returned: frozenset[str]
    revealed: tuple[Why, float] | None
    damaged: int

    @property
    def voters(self) -> tuple[str, ...]:
        """Everybody who voted at all, in the order they began."""
        return tuple(voter for voter, chosen in self.choices.items() if chosen)

    def open(self, voter: str, pairs: Collection[str]) -> int:
        """How many of the pairs a voter has not voted on."""
        return len(set(pairs) - set(self.choices.get(voter, {})))


class VoteLog:
    """The file of the votes. pairs: the ids that can be voted on."""

    def __init__(self, path: Path, pairs: Collection[str], clock: Callable[[], float] = time.time) -> None:
        self._path, self._pairs, self._clock = path, frozenset(pairs), clock

    def read(self) -> Votes:
        """Everything that was voted."""
        choices: dict[str, dict[str, Choice]] = {}
        issued, returned = set(), set()
        revealed: tuple[Why, float] | None = None
        lines = self._path.read_bytes().split(b"\n") if self._path.is_file() else []
        damaged = 0
        for line in filter(None, lines):
            record = self._parse(line)
            match record.get("type"):
                case "voted":
                    chosen = choices.setdefault(record["voter"], {})
                    chosen.pop(record["pair"], None)  # voted anew: it is the last vote now
                    chosen[record["pair"]] = record["choice"]
                    if record.get("by") == "file":
                        returned.add(record["voter"])
                case "undone":
                    choices.get(record["voter"], {}).pop(record["pair"], None)
                case "issued":
                    issued.add(record["voter"])
                case "revealed":
                    revealed = revealed or (record["why"], record["time"])
                case _:
                    damaged += 1
        return Votes(choices, frozenset(issued), frozenset(returned), revealed, damaged)

    def vote(self, voter: str, pair: str, choice: Choice, by: Literal["terminal", "file"] = "terminal") -> None:
        """Record a vote."""
        self._append({"type": "voted", "voter": voter, "pair": pair, "choice": choice, "by": by})

    def undo(self, voter: str) -> str | None:
        """Take back the last vote of a voter; returns its pair, or None if there is none."""
        chosen = list(self.read().choices.get(voter, {}))
        if not chosen:
            return None
        self._append({"type": "undone", "voter": voter, "pair": chosen[-1]})
        return chosen[-1]

    def issue(self, voter: str) -> None:
        """Record that a sheet was written."""
        self._append({"type": "issued", "voter": voter})

    def reveal(self, why: Why) -> None:
        """Record that the result was shown, and so that the vote is over."""
        self._append({"type": "revealed", "why": why})

    def _append(self, record: dict[str, Any]) -> None:
        """Write one line and wait until it is on the disk. After a torn line it begins a new one."""
        whole = {"v": 1, "time": round(self._clock(), 3), **record}
        text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | NO_LINKS, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            torn = False
            if size:
                os.lseek(descriptor, size - 1, os.SEEK_SET)
                torn = os.read(descriptor, 1) != b"\n"
            rest = (b"\n" if torn else b"") + text.encode() + b"\n"
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _parse(self, line: bytes) -> dict[str, Any]:
        """The record in a line; nothing for one that is damaged, or is about a pair that is not in this vote."""
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return {}
        if not isinstance(record, dict) or not isinstance(record.get("time"), int | float):
            return {}
        kind, voter, pair = record.get("type"), record.get("voter"), record.get("pair")
        known = isinstance(pair, str) and pair in self._pairs
        whole = {
            "voted": isinstance(voter, str) and known and record.get("choice") in CHOICES,
            "undone": isinstance(voter, str) and known,
            "issued": isinstance(voter, str),
            "revealed": record.get("why") in ("finished", "decided", "asked"),
        }
        return cast(dict[str, Any], record) if isinstance(kind, str) and whole.get(kind) else {}


def voter_name(given: str) -> str:
    """A voter's name, in one spelling. Raises UsageError for one that is empty, too long or not printable."""
    name = " ".join(unicodedata.normalize("NFKC", given).split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise UsageError("blind_voter", name=given, longest=LONGEST_NAME)
    return name
