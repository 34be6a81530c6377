"""Folders that Hugging Face's `datasets` saves: one split, or several of which one is read.

shop/dataset_info.json, state.json, data-00000-of-00002.arrow ...       one split
shop/dataset_dict.json, train/, test/                                   several
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xiaozao.errors import DataError

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
DATA = {".jsonl", ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".txt", ".arrow"}
NAMED = 10  # files that a message names


@dataclass(frozen=True)
class Split:
    """The shards of one split, in order, and the other splits that lie beside it with their rows."""

    shards: tuple[Path, ...]
    others: tuple[tuple[str, int], ...] = ()
    name: str = ""


def open_folder(path: Path) -> Split:
    """The split of a folder that is read. Raises DataError for a folder that holds no saved data set."""
    splits = _read(path / SPLITS).get("splits")
    if isinstance(splits, list) and splits:
        names = [str(name) for name in splits if (path / str(name)).is_dir()]
        if names:
            name = "train" if "train" in names else names[0]
            others = tuple((other, _rows(path / other)) for other in names if other != name)
            return Split(_shards(path / name), others, name)
    if (path / INFO).is_file() or (path / STATE).is_file():
        return Split(_shards(path))
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in DATA and file.is_file())
    named = ", ".join(str(file) for file in files[:NAMED])
    if files:
        raise DataError("data_folder_files", path=path, count=len(files), files=named)
    raise DataError("data_folder", path=path)


def _shards(folder: Path) -> tuple[Path, ...]:
    """The shards that state.json lists, else all by name. Raises DataError where there is none or one misses."""
    listed = _read(folder / STATE).get("_data_files")
    parts = listed if isinstance(listed, list) else []
    names = [str(part.get("filename")) for part in parts if isinstance(part, dict)]
    shards = [folder / Path(name).name for name in names] or sorted(folder.glob("*.arrow"))
    missing = next((shard for shard in shards if not shard.is_file()), None)
    if missing is not None or not shards:
        raise DataError("data_shards", path=folder, missing=missing.name if missing else "*.arrow")
    return tuple(shards)


def _rows(folder: Path) -> int:
    """The number of rows that a split says it has; 0 where it says nothing."""
    splits = _read(folder / INFO).get("splits")
    counts = splits.get(folder.name) if isinstance(splits, dict) else None
    rows = counts.get("num_examples") if isinstance(counts, dict) else None
    return rows if isinstance(rows, int) else 0


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
