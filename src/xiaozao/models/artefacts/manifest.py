"""manifest.json: size and SHA-256 of every file of a folder, written last, so that it vouches for all of them.

{"schema":1,"files":{"adapter.safetensors":{"size":1234,"sha256":"..."}}}
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xiaozao.errors import ArtefactError
from xiaozao.models.artefacts.disk import Disk

SCHEMA = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Entry:
    """What the manifest says of one file."""

    size: int
    sha256: str


def write_manifest(folder: Path, disk: Disk) -> None:
    """Sync every file of a flat folder, then write what vouches for them, then sync the names."""
    files = {}
    for path in sorted(folder.iterdir()):
        disk.sync_file(path)
        files[path.name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    # Compact, without a final newline: every byte carries meaning, so that any flipped bit shows.
    text = json.dumps({"schema": SCHEMA, "files": files}, ensure_ascii=False, separators=(",", ":"))
    disk.write_bytes(folder / MANIFEST, text.encode())
    disk.sync_file(folder / MANIFEST)
    disk.sync_folder(folder)


def read_manifest(folder: Path) -> dict[str, Entry]:
    """The files that should be there. Raises ArtefactError where it is absent, damaged or from the future."""
    path = folder / MANIFEST
    try:
        for link in (folder, path):
            if link.is_symlink():
                raise ArtefactError("checkpoint_special", folder=link.parent, file=link.name)
        if not path.is_file():
            raise ArtefactError("checkpoint_incomplete", folder=folder, file=MANIFEST)
        manifest = read_mapping(path)
        schema = manifest["schema"]
        if type(schema) is not int:
            raise TypeError(schema)
        if schema > SCHEMA:
            raise ArtefactError("checkpoint_future", folder=folder, file=MANIFEST, schema=schema, known=SCHEMA)
        if schema != SCHEMA or set(manifest) != {"schema", "files"}:
            raise ValueError(schema)
        return {_plain(name): Entry(**one) for name, one in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
        raise ArtefactError("checkpoint_manifest", folder=folder, file=MANIFEST) from None


def check_files(folder: Path, listed: dict[str, Entry]) -> None:
    """Raise ArtefactError for the first file that is not what the manifest says, or that is a link or special file."""
    name = MANIFEST
    try:
        for item in folder.iterdir():
            name = item.name
            if item.is_symlink() or not (item.is_file() or item.is_dir()):
                raise ArtefactError("checkpoint_special", folder=folder, file=name)
        for name, entry in listed.items():
            _check(folder, name, entry)
    except OSError as error:
        raise ArtefactError("checkpoint_unreadable", folder=folder, file=name, detail=error) from None


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ValueError, RecursionError, OSError."""
    value = json.loads(path.read_bytes(), object_pairs_hook=_unique)
    if not isinstance(value, dict):
        raise ValueError(type(value).__name__)
    return value


def _check(folder: Path, name: str, entry: Entry) -> None:
    path = folder / name
    if not path.is_file():
        raise ArtefactError("checkpoint_missing", folder=folder, file=name)
    size = path.stat().st_size
    if size != entry.size:
        raise ArtefactError("checkpoint_size", folder=folder, file=name, expected=entry.size, found=size)
    if _sha256(path) != entry.sha256:
        raise ArtefactError("checkpoint_hash", folder=folder, file=name, size=size)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(name: str) -> str:
    """A manifest names files beside it, never a path to elsewhere."""
    if name in ("", ".", "..", MANIFEST) or re.search(r"[/\\:\0]", name):
        raise ValueError(name)
    return name


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two equal keys json would silently keep the last, and one file would lose its entry."""
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("duplicate key")
    return mapping
