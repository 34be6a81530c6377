"""Sheets that come back: the votes file that the HTML page downloads, or the CSV table that was filled in.

    {"format": "xiaozao-votes", "v": 1, "sheet": "v1f...", "hash": "1f...", "voter": "Anna",
     "votes": [{"pair": "p1f", "choice": "a"}]}

A sheet of another vote is refused with both names, and so is every cell that is no vote, all of them at once.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xiaozao.errors import DataError, NotFound, Problem, UsageError
from xiaozao.evaluate.blind.ballot import Ballot
from xiaozao.evaluate.blind.sheet import FORMAT
from xiaozao.evaluate.blind.votes import CHOICES, Choice, Votes, voter_name
from xiaozao.texts.catalogue import LANGUAGES, say

LARGEST = 10**8  # bytes
ENCODINGS = ("utf-8-sig", "utf-16", "gb18030")  # those in which spreadsheets save


@cache
def words() -> Mapping[str, Choice]:
    """What people write into a cell, in either language, and the choice it means."""
    spelled = {choice: ",".join(say(f"blind.words.{choice}", language) for language in LANGUAGES) for choice in CHOICES}
    return {word.strip(): choice for choice, text in spelled.items() for word in text.replace("，", ",").split(",")}


@dataclass(frozen=True)
class Returned:
    """The votes of one voter in a file."""

    voter: str
    choices: Mapping[str, Choice]


@dataclass(frozen=True)
class Merged:
    """What a file added for one voter: votes that are new, that replace another one, and that were there already."""

    voter: str
    new: Mapping[str, Choice]
    changed: Mapping[str, Choice]
    known: int


def read_sheet(path: Path, ballot: Ballot, voter: str | None) -> list[Returned]:
    """The votes in a file, by voter. voter: the name where the file has none.

    Raises NotFound for a missing file, DataError for one that cannot be used or belongs to another vote.
    """
    text = _text_of(path)
    parse = _from_json if text.lstrip().startswith("{") else _from_csv
    return parse(text, path, ballot, voter)


def merge(returned: Returned, votes: Votes) -> Merged:
    """What is to be recorded. Reading a file twice adds nothing."""
    there = votes.choices.get(returned.voter, {})
    new = {pair: choice for pair, choice in returned.choices.items() if pair not in there}
    changed = {pair: choice for pair, choice in returned.choices.items() if there.get(pair, choice) != choice}
    return Merged(returned.voter, new, changed, len(returned.choices) - len(new) - len(changed))


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise DataError("blind_sheet_large", path=path, bytes=path.stat().st_size, largest=LARGEST)
        raw = path.read_bytes()
    except FileNotFoundError:
        raise NotFound("blind_sheet", path=path) from None
    except IsADirectoryError:
        raise DataError("blind_sheet_unreadable", path=path, detail="folder") from None
    for encoding in ENCODINGS:
        if encoding == "utf-16" and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            continue
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise DataError("blind_sheet_unreadable", path=path, detail=", ".join(ENCODINGS))


def _from_json(text: str, path: Path, ballot: Ballot, voter: str | None) -> list[Returned]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError("blind_sheet_unreadable", path=path, detail=str(error)) from None
    if document.get("format") != FORMAT or not isinstance(document.get("votes"), list):
        raise DataError("blind_sheet_foreign", path=path)
    _check_name(document.get("sheet"), path, ballot)
    known = {pair.id for pair in ballot.pairs}
    choices: dict[str, Choice] = {}
    problems = []
    for place, vote in enumerate(document["votes"], 1):
        pair, choice = (vote.get("pair"), vote.get("choice")) if isinstance(vote, dict) else (None, None)
        if pair not in known or choice not in CHOICES:
            problems.append(Problem("blind_vote", {"place": place, "pair": pair, "choice": choice}))
        elif pair in choices:
            problems.append(Problem("blind_twice", {"place": place, "pair": pair}))
        else:
            choices[pair] = choice
    if problems:
        raise DataError("blind_sheet_votes", problems, path=path, count=len(problems), allowed=", ".join(CHOICES))
    return [Returned(_voter(document.get("voter"), voter, path), choices)]


def _from_csv(text: str, path: Path, ballot: Ballot, voter: str | None) -> list[Returned]:
    rows = _rows(text, path)
    _, header = rows[0]
    places = {name: place for place, name in enumerate(header) if name in ("sheet", "pair", "voter", "vote")}
    if not {"sheet", "pair", "vote"} <= places.keys():
        raise DataError("blind_sheet_foreign", path=path)
    votes: dict[str, dict[str, Choice]] = {}
    known = {pair.id for pair in ballot.pairs}
    problems: list[Problem] = []
    for line, row in rows[1:]:
        cells = {name: row[place].strip() if place < len(row) else "" for name, place in places.items()}
        if not any(row):
            continue
        _check_name(cells["sheet"], path, ballot)
        written = " ".join(unicodedata.normalize("NFKC", cells["vote"]).lower().split()).rstrip(".")
        if not written:
            continue
        chosen = votes.setdefault(_voter(cells.get("voter", "").removeprefix("'"), voter, path), {})
        if cells["pair"] not in known or written not in words():
            problems.append(Problem("blind_vote", {"place": line, "pair": cells["pair"], "choice": cells["vote"]}))
        elif cells["pair"] in chosen:
            problems.append(Problem("blind_twice", {"place": line, "pair": cells["pair"]}))
        else:
            chosen[cells["pair"]] = words()[written]
    if problems:
        raise DataError("blind_sheet_votes", problems, path=path, count=len(problems), allowed="a, b, t, x, s")
    return [Returned(name, chosen) for name, chosen in votes.items()]


def _rows(text: str, path: Path) -> list[tuple[int, list[str]]]:
    """The rows with the line each ends on; the header's names in short. Spreadsheets separate as their country does."""
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise DataError("blind_sheet_unreadable", path=path, detail=str(error)) from None
    if not rows:
        raise DataError("blind_sheet_foreign", path=path)
    header = [name.strip().lower() for name in rows[0][1]]
    return [(1, ["vote" if re.match("vote(?!r)", name) else name for name in header]), *rows[1:]]


def _check_name(given: object, path: Path, ballot: Ballot) -> None:
    if given != ballot.name:
        raise DataError("blind_other_vote", path=path, there=str(given or "-"), ours=ballot.name)


def _voter(given: object, told: str | None, path: Path) -> str:
    """The voter's name: the file's own, else the one that was told."""
    if isinstance(given, str) and given.strip():
        return voter_name(given)
    if told is None:
        raise UsageError("blind_nameless", path=path)
    return told
