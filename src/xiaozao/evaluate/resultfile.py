"""result.json of an evaluation: written whole, with a hash of itself, and taken for a result only if the hash agrees.

A result that was cut, edited or replaced is no result: it is judged anew from the recorded answers.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

from xiaozao.errors import ArtefactError
from xiaozao.hub.jsonfile import read_object
from xiaozao.store.files import write_whole

VERSION = 1


def write_result(path: Path, result: Mapping[str, object]) -> None:
    """Write a result, whole or not at all."""
    document = {"v": VERSION, **{name: _told(value) for name, value in result.items()}}
    text = json.dumps({**document, "sha256": _hash(document)}, ensure_ascii=False, indent=1)
    write_whole(path, text.encode())


def is_whole(path: Path) -> bool:
    """Whether a file is a result as it was written."""
    if not path.is_file():
        return False
    try:
        document = read_object(path)
    except ArtefactError:
        return False
    told = document.pop("sha256", None)
    return document.get("v") == VERSION and told == _hash(document)


def _told(value: object) -> object:
    """A value as JSON has it: null for a bound that is infinite, as that of the mean of a single item."""
    if isinstance(value, Mapping):
        return {str(name): _told(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_told(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _hash(document: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
