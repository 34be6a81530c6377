"""The options of a run on a command line: flags made from the fields, beside YAML files and `key=value`.

No option is written here: those of a run are fields in spec/parts.py, the flags of a verb are in cli/declared.py.
"""

import contextlib
import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from xiaozao.cli.verb import reader_language
from xiaozao.errors import NotFound
from xiaozao.spec.fields import OPTIONS, Option, show
from xiaozao.spec.parts import data_files, parse_validation
from xiaozao.spec.run import read_options
from xiaozao.spec.yamlfile import read_scalar
from xiaozao.texts.catalogue import Language, has, say

# `--format` says how zao prints; the format of the rows has its own name everywhere but as a flag.
RENAMED = {"format": "data_format"}


class SpecFlag(click.Option):
    """A flag of one field. The value is read as in a file; the spec checks it, so that all mistakes come at once."""

    def __init__(self, option: Option, language: Language, asked: bool) -> None:
        flag = RENAMED.get(option.name, option.name)
        default: str | None = f"{say('cli.default', language)}{say('colon', language)}{show(option.default)}"
        if option.required:
            default = say("cli.required", language) if asked else None
        super().__init__(
            ["--" + flag.replace("_", "-"), flag],
            help=_help(option, language),
            metavar="|".join(option.choices) or _kind(option, language),
            show_default=default,
        )


def spec_flags(
    parts: Sequence[str] = ("model", "data", "method", "train", "evaluate"), asked: Sequence[str] = ("model", "data")
) -> list[click.Parameter]:
    """A flag for every option of these parts. asked: the required options that this verb requires, too."""
    language = reader_language()
    return [SpecFlag(option, language, option.name in asked) for option in OPTIONS.values() if option.part in parts]


def gather(arguments: Sequence[str], flags: Mapping[str, str | None]) -> dict[str, Any]:
    """All given options as one flat mapping: flags win over files and `key=value`, of which the later wins."""
    names = {flag: name for name, flag in RENAMED.items()}
    given = {names.get(flag, flag): read_scalar(value) for flag, value in flags.items() if value is not None}
    return read_options(arguments) | given


def anchored(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same options with local paths made absolute, because the worker runs in another folder.

    Raises NotFound for a data file that is not there: better before a run folder exists than after.
    """
    absolute = {**options, **anchored_files(options)}
    if isinstance(absolute.get("output"), str):
        absolute["output"] = str(Path(absolute["output"]).expanduser().absolute())
    return absolute


def anchored_files(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that name files or the model, with absolute paths. Raises NotFound."""
    absolute = anchored_model(options)
    for name in ("data", "validation", "questions"):
        value = options.get(name)
        if name == "validation":
            with contextlib.suppress(ValueError):  # what it is not is for the spec to say
                value = parse_validation(value)
        if isinstance(value, str) and value != "none":
            files = data_files(value) if name == "data" else (value,)
            absolute[name] = ",".join(_anchored_file(name, file) for file in files)
    return absolute


def _anchored_file(name: str, file: str) -> str:
    path = str(Path(file).expanduser().absolute())
    if not _is_there(path) and not _is_there(path.rpartition("#")[0]):  # FILE.xlsx#SHEET
        raise NotFound("file", name=name, path=path)
    return path


def _is_there(path: str) -> bool:
    """Whether something lies at a path. Raises OSError for a name that no file system takes."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise
        return False
    return True


def anchored_model(options: Mapping[str, Any]) -> dict[str, Any]:
    """The model's path made absolute if it is one on this disk, not the id of a hub."""
    model = options.get("model")
    if not isinstance(model, str) or options.get("source", "auto") not in ("auto", "local"):
        return {}
    path = Path(model).expanduser()
    return {"model": str(path.absolute())} if path.exists() else {}


def _kind(option: Option, language: Language) -> str:
    return say(f"kind.{option.kind.replace(' ', '_')}", language)


def _help(option: Option, language: Language) -> str:
    key = f"unit.{option.unit}"
    unit = say(key, language) if has(key) else option.unit
    return option.help(language) + (f" ({unit})" if unit else "")
