"""The cache of prepared data: a folder per fingerprint, complete or absent.

    CACHE/data/<fingerprint>/train/*.npy  validation/*.npy  summary.json

A folder is written under another name and renamed when it is complete. A damaged folder (sizes differ, summary missing)
is made again.
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from xiaozao.data.conversations import ConversationFile
from xiaozao.data.samples import Samples
from xiaozao.errors import EnvironmentProblem, Problem
from xiaozao.spec.objectives import Kind
from xiaozao.spec.parts import DataSpec

VERSION = 5  # counts changes of this package that change samples
SUMMARY = "summary.json"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Counts:
    """Numbers of rows by outcome, both files together: rows_read == rows_used + rows_validation + sum(dropped).

    In a chat log a row is a message. problems: the first of the rows that were dropped as unusable;
    overlap: training rows whose question is also in the validation file; untrained: answers without loss, because their
    sample did not fit; unreasoned: turns whose reasoning is left out (rendering.py); reasoned: rows that are rendered
    with thinking turned on; alike: held-out rows that have a near duplicate in training, because the file is of few
    patterns.
    """

    rows_read: int
    rows_used: int
    rows_validation: int
    dropped: dict[str, int]
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    overlap: int = 0
    untrained: int = 0
    unreasoned: int = 0
    reasoned: int = 0
    alike: int = 0


@dataclass(frozen=True)
class PreparedData:
    """Samples ready for training."""

    train: Samples
    validation: Samples | None
    counts: Counts
    fingerprint: str


def fingerprint_of(spec: DataSpec, kind: Kind, seed: int, tokenizer: str, files: Sequence[ConversationFile]) -> str:
    """The name of prepared data: a hash of everything that the samples depend on.

    It covers the bytes and the recognised formats of the files, the tokenizer and template, the options of the data,
    the objective, the seed, and the version of this code. Paths are not part of it.
    """
    options: dict[str, Any] = spec.model_dump(mode="json")
    options.pop("data")
    if isinstance(spec.validation, str) and spec.validation != "none":
        options.pop("validation")
    contents = [
        [*map(_file_hash, file.source.inputs), file.source.kind, file.source.encoding, file.source.sheet]
        for file in files
    ]
    document = json.dumps([VERSION, kind, seed, tokenizer, options, contents], sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()


def open_or_make(folder: Path, fingerprint: str, make: Callable[[Path], Counts]) -> PreparedData:
    """The prepared data in `folder`. If there is no complete one, `make` fills a new folder."""
    prepared = _open(folder, fingerprint)
    if prepared is None:
        _make(folder, make)
        prepared = _open(folder, fingerprint)
    if prepared is None:
        raise EnvironmentProblem("data_cache", path=folder)
    return prepared


def _make(folder: Path, make: Callable[[Path], Counts]) -> None:
    fresh = folder.with_name(f"{folder.name}.{uuid4().hex[:8]}.part")
    try:
        fresh.mkdir(parents=True)
        counts = make(fresh)
        sizes = {str(file.relative_to(fresh).as_posix()): file.stat().st_size for file in sorted(fresh.glob("*/*.npy"))}
        summary = json.dumps({"counts": asdict(counts), "sizes": sizes}, ensure_ascii=False, default=str)
        (fresh / SUMMARY).write_text(summary, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    except OSError as error:
        if folder.is_dir():
            return  # another process was faster
        if error.errno == errno.ENOSPC:
            raise EnvironmentProblem("disk_full", path=folder.parent) from None
        raise EnvironmentProblem("not_writable", path=folder.parent, detail=error.strerror or error) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _open(folder: Path, fingerprint: str) -> PreparedData | None:
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if any((folder / name).stat().st_size != size for name, size in summary["sizes"].items()):
            return None
        counts = dict(summary["counts"])
        for name in ("problems", "notes"):
            counts[name] = tuple(Problem(**one) for one in counts[name])
        validation = Samples.open(folder / "validation") if (folder / "validation").is_dir() else None
        return PreparedData(Samples.open(folder / "train"), validation, Counts(**counts), fingerprint)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
