"""The identity of a model: the SHA-256 over its weight files."""

import hashlib
from functools import lru_cache
from pathlib import Path


def weights_hash(folder: Path) -> str:
    """The SHA-256 over all weight files of a model folder, in the order of their names."""
    return _hash(tuple((path, *_state(path)) for path in sorted(folder.glob("*.safetensors"))))


@lru_cache(maxsize=4)  # a run asks twice, and reading a large model takes minutes
def _hash(files: tuple[tuple[Path, int, int], ...]) -> str:
    total = hashlib.sha256()
    for path, _, _ in files:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
