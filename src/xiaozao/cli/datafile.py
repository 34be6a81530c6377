"""What the verbs share that read a data file and write others: how it is read, and asking before a file is replaced."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xiaozao.cli.asked import READING, WITH_MODEL
from xiaozao.cli.console import Output
from xiaozao.cli.options import anchored_files
from xiaozao.errors import UsageError
from xiaozao.spec.parts import DataSpec, data_files, parse_validation
from xiaozao.spec.run import RunSpec

__all__ = ["WITH_MODEL", "agree_to_write", "data_spec", "share"]


def data_spec(file: str, options: Mapping[str, Any], output: Output, more: Sequence[str] = ()) -> DataSpec:
    """How a file is read. Options that take effect only in training are named in a hint. Raises UsageError, NotFound.

    more: options besides READING that have an effect.
    """
    given = {"model": "none", **options, "data": file}
    spec = RunSpec.from_options({**given, **anchored_files({"data": file})})
    if unread := sorted(options.keys() - {*READING, *more, "data", "model"}):
        output.note("data.unread", names=", ".join(unread))
    return spec.data


def share(name: str, value: object) -> float | int:
    """A share of the rows, or a number of them; 0 for none. Raises UsageError."""
    try:
        parsed = parse_validation(value)
    except ValueError:
        parsed = None
    if parsed == "none":
        return 0
    if isinstance(parsed, bool) or not isinstance(parsed, int | float) or parsed < 0:
        raise UsageError("split_share", name=name, value=value)
    return parsed


def agree_to_write(output: Output, spec: DataSpec, paths: Sequence[Path]) -> None:
    """Ask where files are there already. Raises UsageError if they may not be replaced, or are what is read."""
    read = [Path(name) for name in data_files(spec.data)]
    for path in paths:
        above = next((folder for folder in path.absolute().parents if folder.exists()), path.parent)
        if path.is_dir() or not above.is_dir():
            raise UsageError("writes_folder" if path.is_dir() else "no_folder", path=path if path.is_dir() else above)
        if path.exists() and any(one.exists() and one.samefile(path) for one in read):
            raise UsageError("writes_input", path=path)
    there = [path for path in paths if path.exists()]
    names = ", ".join(str(path) for path in there)
    if there and not output.confirm("data.replace", names=names):
        raise UsageError("not_replaced", names=names)
