"""A blind vote, frozen: the pairs that voters see, and the key that says which answer is whose.

    AnswerPair* -> freeze -> Ballot   pairs.json   what voters see, and a commitment to the key
                          -> Key      sides.json   the sides, the repeated pairs, and a salt

The commitment is SHA-256 over the salt and the sides. It is shown before the first vote; the salt and the sides are
shown after the last, so that everybody can check that no side was changed in between.
"""

import hashlib
import json
import os
import random
import secrets
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from xiaozao.errors import ArtefactError, UsageError
from xiaozao.evaluate.blind.pairs import AnswerPair, Source
from xiaozao.store.files import RunFolder, VoteFolder, vote_folders

Side = Literal["a", "b"]
SIDES: tuple[Side, Side] = ("a", "b")
QUESTIONS = 50
REPEATS = 5
APART = 10  # a repeated pair comes at least so many questions after the first time, where there are as many


@dataclass(frozen=True)
class Pair:
    """A question with two answers. The id is random: it tells neither the side nor whether the pair is repeated."""

    id: str
    question: str
    a: str
    b: str

    @property
    def texts(self) -> dict[Side, str]:
        return {"a": self.a, "b": self.b}


@dataclass(frozen=True)
class Ballot:
    """What voters may see. same: how many questions had the same answer twice and are not asked."""

    pairs: tuple[Pair, ...]
    commitment: str
    same: int

    @property
    def hash(self) -> str:
        """The hash of everything that a voter sees; a sheet that comes back must name it."""
        return hashlib.sha256(_canonical(self.document()).encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def name(self) -> str:
        """The hash in short. A letter comes first, so that a spreadsheet takes it for a text."""
        return f"v{self.hash[:16]}"

    def document(self) -> dict[str, object]:
        return {
            "v": 1, "commitment": self.commitment, "same": self.same, "pairs": [asdict(one) for one in self.pairs],
        }  # fmt: skip


@dataclass(frozen=True)
class Key:
    """Which answer is whose. repeats: a repeated pair -> the pair it repeats with its sides swapped.

    source: the hash of the answers that were read. seed: drawn when the vote was made, after the answers.
    """

    salt: str
    seed: int
    tuned_on: dict[str, Side]
    repeats: dict[str, str]
    source: str

    @property
    def mapping(self) -> str:
        """What the commitment is to."""
        return _canonical({"repeats": self.repeats, "tuned_on": self.tuned_on})

    @property
    def commitment(self) -> str:
        """`printf '%s\\n%s' SALT MAPPING | sha256sum` gives the same."""
        return hashlib.sha256(f"{self.salt}\n{self.mapping}".encode()).hexdigest()

    @property
    def asked(self) -> tuple[str, ...]:
        """The ids of the pairs that count: all but the repeated ones."""
        return tuple(id for id in self.tuned_on if id not in self.repeats)


@dataclass(frozen=True)
class BlindVote:
    """A vote on disk."""

    folder: VoteFolder
    ballot: Ballot
    key: Key

    def order(self, voter: str) -> tuple[Pair, ...]:
        """All pairs in the order of one voter: shuffled, a repeated pair well after the first time."""
        draw = random.Random(f"{self.ballot.hash}:{voter}")
        asked = sorted(self.key.asked)
        draw.shuffle(asked)
        repeats = sorted(self.key.repeats)
        draw.shuffle(repeats)
        for repeat in repeats:
            first = asked.index(self.key.repeats[repeat]) + 1
            asked.insert(draw.randint(min(first + APART, len(asked)), len(asked)), repeat)
        pairs = {pair.id: pair for pair in self.ballot.pairs}
        return tuple(pairs[id] for id in asked)


def freeze(source: Source, name: str, seed: int | None = None, salt: str | None = None) -> tuple[Ballot, Key]:
    """Draw up to QUESTIONS pairs, hide their sides, half on each, and repeat some with swapped sides.

    seed, salt: drawn here unless a test hands them in. Raises UsageError where all answers are the same.
    """
    seed = secrets.randbits(64) if seed is None else seed
    draw = random.Random(seed)
    count = min(QUESTIONS, len(source.pairs))
    chosen = [source.pairs[at] for at in sorted(draw.sample(range(len(source.pairs)), count))]
    asked = [pair for pair in chosen if not pair.same]
    if not asked:
        raise UsageError("blind_all_same", name=name, count=count)
    ids = _ids(draw, len(asked) + min(REPEATS, len(asked)))
    shown = {ids[at]: (pair, side) for at, (pair, side) in enumerate(zip(asked, _sides(draw, len(asked)), strict=True))}
    repeats: dict[str, str] = {}
    for again, first in zip(ids[len(asked) :], draw.sample(ids[: len(asked)], len(ids) - len(asked)), strict=True):
        pair, side = shown[first]
        shown[again], repeats[again] = (pair, _other(side)), first
    key = Key(
        salt=secrets.token_hex(16) if salt is None else salt,
        seed=seed,
        tuned_on={id: side for id, (_, side) in sorted(shown.items())},
        repeats=dict(sorted(repeats.items())),
        source=source.digest,
    )
    pairs = tuple(_laid(id, pair, side) for id, (pair, side) in sorted(shown.items()))
    return Ballot(pairs, key.commitment, count - len(asked)), key


def open_vote(run: RunFolder) -> BlindVote | None:
    """The latest vote of a run; None if there is none yet."""
    folders = vote_folders(run)
    return load(folders[-1]) if folders else None


def start_vote(run: RunFolder, ballot: Ballot, key: Key) -> BlindVote:
    """Write a vote into the next folder of its own. If another process was first, its vote is the one that counts."""
    run.blind.mkdir(exist_ok=True)
    before = vote_folders(run)
    number = int(before[-1].path.name) + 1 if before else 1
    made = VoteFolder(Path(tempfile.mkdtemp(prefix=".new-", dir=run.blind)))
    try:
        _write(made.sides, {"v": 1, **asdict(key)}, 0o600)
        _write(made.pairs, {"hash": ballot.hash, **ballot.document()}, 0o644)
        try:
            made.path.rename(run.blind / str(number))
        except OSError:
            if not (run.blind / str(number)).is_dir():
                raise
    finally:
        shutil.rmtree(made.path, ignore_errors=True)
    return load(VoteFolder(run.blind / str(number)))


def load(folder: VoteFolder) -> BlindVote:
    """Read a vote and check that nothing of it was changed. Raises ArtefactError."""
    document, sides = _read(folder.pairs), _read(folder.sides)
    try:
        ballot = Ballot(
            tuple(Pair(*(_text(one[name]) for name in ("id", "question", "a", "b"))) for one in document["pairs"]),
            _text(document["commitment"]), int(document["same"]),
        )  # fmt: skip
        key = Key(
            salt=_text(sides["salt"]), seed=int(sides["seed"]), source=_text(sides["source"]),
            tuned_on={_text(id): _side(side) for id, side in sides["tuned_on"].items()},
            repeats={_text(again): _text(first) for again, first in sides["repeats"].items()},
        )  # fmt: skip
        frozen = _text(document["hash"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError("blind_damaged", path=folder.path, detail=f"{type(error).__name__}: {error}") from None
    if ballot.hash != frozen:
        raise ArtefactError("blind_changed", path=folder.pairs, there=ballot.hash, frozen=frozen)
    if key.commitment != ballot.commitment:
        raise ArtefactError("blind_changed", path=folder.sides, there=key.commitment, frozen=ballot.commitment)
    if set(key.tuned_on) != {pair.id for pair in ballot.pairs} or not set(key.repeats.values()) <= set(key.asked):
        raise ArtefactError("blind_damaged", path=folder.sides, detail="tuned_on")
    return BlindVote(folder, ballot, key)


def _sides(draw: random.Random, count: int) -> list[Side]:
    """The side of the tuned model in each of `count` pairs: as often one as the other, in random order."""
    sides = [*SIDES] * (count // 2) + ([draw.choice(SIDES)] if count % 2 else [])
    draw.shuffle(sides)
    return sides


def _ids(draw: random.Random, count: int) -> list[str]:
    """Random ids, all different. A letter comes first, so that a spreadsheet takes them for texts."""
    ids: dict[str, None] = {}
    while len(ids) < count:
        ids[f"p{draw.getrandbits(32):08x}"] = None
    return list(ids)


def _laid(id: str, pair: AnswerPair, side: Side) -> Pair:
    """A pair with the tuned answer on the given side."""
    a, b = (pair.tuned, pair.base) if side == "a" else (pair.base, pair.tuned)
    return Pair(id, pair.question, a, b)


def _other(side: Side) -> Side:
    return "b" if side == "a" else "a"


def _side(value: object) -> Side:
    if value not in SIDES:
        raise ValueError(value)
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value


def _canonical(document: object) -> str:
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _write(path: Path, document: dict[str, object], mode: int) -> None:
    """Write a file and wait until it is on the disk."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write((json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "surrogatepass"))
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError("blind_damaged", path=path, detail=f"{type(error).__name__}: {error}") from None
    if not isinstance(document, dict):
        raise ArtefactError("blind_damaged", path=path, detail=type(document).__name__)
    return document
