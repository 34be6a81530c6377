"""Results as lines of JSON: a frozen dataclass a line, so that a bench that is interrupted keeps what it has."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def read_rows(path: Path, kind: type[Kind]) -> list[Kind]:
    """All lines of a results file; an absent file is an empty one."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [kind(**json.loads(line)) for line in lines if line.strip()]


def write_rows(path: Path, rows: Iterable[Any]) -> None:
    """The whole file anew, one line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in rows)
    path.write_text(text, encoding="utf-8")
