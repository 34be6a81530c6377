"""Where the data files lie, and how a message is told without naming a folder of this machine."""

import os
import re
from pathlib import Path


def find_data(name: str) -> Path:
    """A file by its path, or by its name somewhere below ZAO_DATA. Raises SystemExit."""
    if Path(name).is_file():
        return Path(name)
    below = os.environ.get("ZAO_DATA")
    found = sorted(Path(below).rglob(name)) if below else []
    if not found:
        raise SystemExit(f"there is no file {name}; name it with its path, or its folder by ZAO_DATA=")
    return found[0]


def without_paths(text: str) -> str:
    """The last words of a log, with the folders of this machine cut off."""
    lines = [line for line in text.splitlines() if line.strip()]
    return re.sub(r"(?<![\w.])(?:/[\w.@+-]+)+/", "", lines[-1] if lines else "no word")
