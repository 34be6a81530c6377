"""python -m xiaozao.data.reading: reads parquet and xlsx in a process of its own, which may crash or be killed.

A question is {"kind": ..., "path": ..., "arguments": [...]}; an answer {"rows": [[number, values], ...]}, a note on the
file {"note": [key, params]}, or in place of all that would
follow {"error": key, "params": ..., "problems": [[key, params], ...]}. What JSON does not know is {MARK: [kind, text]}.
All answers to a question together have no more bytes than a file of its size may unpack to.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

from xiaozao.data.allowance import MARK, most_bytes
from xiaozao.errors import DataError, Problem
from xiaozao.machine.apart import Json, serve

TOGETHER = 65_536  # characters of rows in one answer
DAMAGED = {"parquet": "data_parquet", "xlsx": "data_workbook", "arrow": "data_arrow"}
READERS = {
    "parquet": "xiaozao.data.parquet", "xlsx": "xiaozao.data.workbook", "arrow": "xiaozao.data.arrow"
}  # fmt: skip


def answers(question: Json) -> Iterator[str]:
    """The rows of a file, or what is wrong with it."""
    path = Path(question["path"])
    try:
        reader = import_module(READERS[question["kind"]])
        yield from _rows(path, reader.rows_of(path, *question.get("arguments", ())))
    except DataError as error:
        problems = [[one.key, _plain(one.params)] for one in error.problems]
        yield json.dumps({"error": error.key, "params": _plain(error.params), "problems": problems})
    except (RecursionError, MemoryError) as error:
        params = {"path": str(path), "detail": type(error).__name__}
        yield json.dumps({"error": DAMAGED[question["kind"]], "params": params, "problems": []})


def _rows(path: Path, rows: Iterable[tuple[int, Any] | Problem]) -> Iterator[str]:
    limit, told, waiting, length = most_bytes(path), 0, list[str](), 0
    for row in rows:
        if isinstance(row, Problem):
            yield json.dumps({"note": [row.key, _plain(row.params)]})
            continue
        number, values = row
        text = json.dumps([number, values], default=_told)
        waiting.append(text)
        length += len(text)
        if told + length > limit:
            raise DataError("data_expands", path=path, size=path.stat().st_size, limit=limit, rows=number)
        if length > TOGETHER:
            yield f'{{"rows": [{",".join(waiting)}]}}'
            told, waiting, length = told + length, [], 0
    yield f'{{"rows": [{",".join(waiting)}]}}'


def _told(value: Any) -> Any:
    kinds = {datetime: "datetime", date: "date", time: "time"}
    if type(value) in kinds:
        return {MARK: [kinds[type(value)], value.isoformat()]}
    if isinstance(value, timedelta):
        return {MARK: ["timedelta", repr(value.total_seconds())]}
    if isinstance(value, Decimal):
        return {MARK: ["decimal", str(value)]}
    if isinstance(value, bytes):
        return {MARK: ["bytes", value.hex()]}
    return str(value)


def _plain(params: Mapping[str, object]) -> dict[str, object]:
    return {name: value if isinstance(value, int | float) else str(value) for name, value in params.items()}


if __name__ == "__main__":
    sys.exit(serve(answers))
