"""One field -> a command-line flag, a form input, a row in the JSON schema and in the docs.

`OPTIONS` is the flat list of all options in the order of the parts. Whatever shows or reads options walks this list.
"""

import difflib
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from xiaozao.spec.parts import DataSpec, EvalSpec, Mark, MethodSpec, ModelSpec, Part, TrainSpec
from xiaozao.texts.catalogue import Language, say

PARTS: dict[str, type[Part]] = {
    "model": ModelSpec,
    "data": DataSpec,
    "method": MethodSpec,
    "train": TrainSpec,
    "evaluate": EvalSpec,
}


@dataclass(frozen=True)
class Option:
    """The description of one option, read from its field."""

    name: str
    part: str
    kind: str  # "text", "whole number", "number", "choice", "names", "size", "number or text"
    choices: tuple[str, ...]
    default: object
    required: bool
    unit: str

    @property
    def flag(self) -> str:
        """`save_every` -> `--save-every`."""
        return "--" + self.name.replace("_", "-")

    def help(self, language: Language = "en") -> str:
        """One sentence on what the option does."""
        return say(f"option.{self.name}", language)


def _alternatives(annotation: object) -> list[Any]:
    """The types of a union without None, or the single type."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [one for one in get_args(annotation) if one is not type(None)]
        return [get_args(one)[0] if get_origin(one) is Annotated else one for one in kinds]
    return [annotation]


def _kind(name: str, info: FieldInfo) -> tuple[str, tuple[str, ...]]:
    kinds = _alternatives(info.annotation)
    if len(kinds) > 1:
        return "number or text", ()
    named = get_args(kinds[0])[0] if get_origin(kinds[0]) is tuple else None
    if get_origin(named) is Literal:
        return "names", tuple(str(choice) for choice in get_args(named))
    if get_origin(kinds[0]) is Literal:
        return "choice", tuple(str(choice) for choice in get_args(kinds[0]))
    if name == "budget":
        return "size", ()
    if kinds[0] is bool:
        return "choice", ("true", "false")
    return {int: "whole number", float: "number", str: "text"}.get(kinds[0], "names"), ()


def _option(part: str, name: str, info: FieldInfo) -> Option:
    kind, choices = _kind(name, info)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    required = info.default is PydanticUndefined
    return Option(name, part, kind, choices, None if required else info.default, required, str(extra.get("unit", "")))


OPTIONS: dict[str, Option] = {
    name: _option(part, name, info) for part, cls in PARTS.items() for name, info in cls.model_fields.items()
}


def marked(mark: Mark) -> frozenset[str]:
    """The options whose fields have this mark (spec/parts.py)."""
    return frozenset(
        name for part in PARTS.values() for name, info in part.model_fields.items() if mark in info.metadata
    )


def nearest(name: str, known: list[str]) -> str:
    """The known name most like `name`, or an empty string."""
    close = difflib.get_close_matches(name.replace("-", "_").lower(), known, n=1, cutoff=0.5)
    return close[0] if close else ""


def json_schema() -> dict[str, Any]:
    """A JSON schema of the flat configuration file, for editors and forms."""
    properties: dict[str, Any] = {}
    for part in PARTS.values():
        schema = part.model_json_schema()
        for name, field in schema["properties"].items():
            properties[name] = {**field, "description": OPTIONS[name].help()}
            properties[name].pop("title", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Xiaozao run",
        "type": "object",
        "additionalProperties": False,
        "required": [option.name for option in OPTIONS.values() if option.required],
        "properties": properties,
    }


def options_page() -> str:
    """docs/options.md: a table of every option, both languages."""
    lines = [
        "# Options",
        "",
        "Generated from the fields of `xiaozao/spec/parts.py`; `make docs` writes it anew.",
        "The names are the same in a YAML file, as `key=value`, as `--flags`, and in Python;",
        "only `format` is `--data-format` as a flag, because `--format` says how zao prints.",
        "",
        "| option | value | default | what it does | 说明 |",
        "|---|---|---|---|---|",
    ]
    for option in OPTIONS.values():
        value = " \\| ".join(f"`{choice}`" for choice in option.choices) or option.kind
        value += f" ({option.unit})" if option.unit else ""
        default = "**required**" if option.required else f"`{show(option.default)}`"
        lines.append(f"| `{option.name}` | {value} | {default} | {option.help('en')} | {option.help('zh-CN')} |")
    return "\n".join(lines) + "\n"


def show(value: object) -> str:
    """A value as a user would write it: tuples with commas, None as `null`, booleans in small letters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
