"""Translates another tool's configuration file into our options, and lists what was left out and why.

    read_peer_file(Path("llama3_lora_sft.yaml"))  ->  Translation(options, taken, left)

Everything in the file stands either among `taken` or among `left`. The rules are the table in peers.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xiaozao.errors import Problem
from xiaozao.spec.fields import OPTIONS, show
from xiaozao.spec.parts import DATA_FILE
from xiaozao.spec.peers import Told, plain_name, told
from xiaozao.spec.run import peer_problem, read_file, written

INFO = "dataset_info.json"  # LLaMA-Factory's names of data sets
INFO_LIMIT = 10_000_000  # bytes


@dataclass(frozen=True)
class Taken:
    """An option of the other tool, and our options that it became."""

    name: str
    value: Any
    ours: Mapping[str, Any]

    def words(self) -> dict[str, str]:
        """`lora_rank=8` and `rank=8`."""
        return {"theirs": f"{self.name}={_shown(self.value)}", "ours": written(self.ours)}


@dataclass(frozen=True)
class Translation:
    """The file as a flat mapping of our options. `left` gives for every other line the reason why it was left out."""

    options: Mapping[str, Any]
    taken: tuple[Taken, ...]
    left: tuple[Problem, ...]


def read_peer_file(path: Path) -> Translation:
    """A YAML file of another tool. Raises UsageError where it is no mapping, NotFound where it is not there."""
    return translate(_with_files(read_file(path)))


def translate(theirs: Mapping[str, Any]) -> Translation:
    """Translate the options in their order.

    If two become the same option of ours, the first wins and the other is reported.
    """
    options: dict[str, Any] = {}
    makers: dict[str, str] = {}
    taken, left = [], []
    for name, value in theirs.items():
        counterpart = _told(name, value, theirs)
        other = next((makers[ours] for ours, one in counterpart.ours.items() if options.get(ours, one) != one), None)
        if other is not None:
            left.append(Problem("peer_twice", {"name": name, "write": written(counterpart.ours), "other": other}))
        elif counterpart.ours:
            taken.append(Taken(name, value, counterpart.ours))
            options |= counterpart.ours
            makers |= dict.fromkeys(counterpart.ours, name)
        else:
            left.append(peer_problem(name, value, counterpart))
    return Translation(options, tuple(taken), tuple(left))


def _told(name: str, value: Any, theirs: Mapping[str, Any]) -> Told:
    counterpart = told(name, value, theirs)
    if counterpart is not None:
        files = str(counterpart.ours.get("data", "")).split(",") if counterpart.text == "data" else []
        named = all(DATA_FILE.search(one) or Path(one).exists() for one in files)
        return counterpart if named else Told({}, "dataset_name")
    if plain_name(name) in OPTIONS:
        return Told({plain_name(name): value}, "is") if value is not None else Told({}, "open")
    return Told({}, "unknown")


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else show(value)


def _with_files(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the names of LLaMA-Factory's data sets as the files that its dataset_info.json names for them."""
    options = dict(theirs)
    for name in ("dataset", "eval_dataset"):
        value = theirs.get(name)
        if isinstance(value, str):
            folder = Path(str(theirs.get("dataset_dir") or "data"))
            known = _dataset_files(folder)
            options[name] = ",".join(known.get(one.strip(), one.strip()) for one in value.split(","))
    return options


def _dataset_files(folder: Path) -> dict[str, str]:
    path = folder / INFO
    try:
        if path.stat().st_size > INFO_LIMIT:
            return {}
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(entries, dict):
        return {}
    named = {name: one.get("file_name") for name, one in entries.items() if isinstance(one, dict)}
    return {name: str(folder / file) for name, file in named.items() if isinstance(file, str)}
