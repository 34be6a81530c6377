"""RunSpec: the parts together, read from YAML, `key=value` and flags, and written back.

    RunSpec.from_options({"model": "...", "data": "...", "rank": 8})      one flat mapping
    read_options(["run.yaml", "rank=8"])                                   a file and overrides -> that mapping

To a user the options are one flat list; that they live in parts is ours alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xiaozao.errors import NotFound, Problem, UsageError
from xiaozao.spec.fields import OPTIONS, PARTS, nearest, show
from xiaozao.spec.parts import DataSpec, EvalSpec, MethodSpec, ModelSpec, Part, TrainSpec
from xiaozao.spec.yamlfile import read_scalar, read_yaml, write_yaml


class RunSpec(Part):
    """Everything that is asked of a run."""

    model: ModelSpec
    data: DataSpec
    method: MethodSpec
    train: TrainSpec
    evaluate: EvalSpec

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "RunSpec":
        """A flat mapping of options -> RunSpec. Raises UsageError that lists every problem at once."""
        problems = [_unknown(name) for name in options if name not in OPTIONS]
        parts: dict[str, Part] = {}
        for part, kind in PARTS.items():
            own = {name: options[name] for name in kind.model_fields if name in options}
            try:
                parts[part] = kind.model_validate(own)
            except ValidationError as error:
                problems += [_invalid(one["loc"], one["type"], options) for one in error.errors()]
        problems = list({(problem.key, str(problem.params)): problem for problem in problems}.values())
        if not problems:
            spec = cls.model_validate(parts)
            problems = conflicts(spec, options)
        if problems:
            raise UsageError("spec", problems=problems, count=len(problems))
        return spec

    def options(self) -> dict[str, Any]:
        """The flat mapping that from_options reads."""
        return {name: value for part in PARTS for name, value in getattr(self, part)}

    def with_options(self, **changes: object) -> "RunSpec":
        """The same run with some options changed."""
        return RunSpec.from_options({**self.options(), **changes})

    def to_yaml(self) -> str:
        """The flat YAML file that reads back as this spec."""
        return write_yaml(self.options())


def read_options(arguments: Sequence[str]) -> dict[str, Any]:
    """`run.yaml rank=8 length=512` -> one flat mapping; what stands later wins.

    Raises UsageError for an argument that is neither a file nor `key=value`, NotFound for a missing file.
    """
    options: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name.isidentifier():
            options[name] = read_scalar(value)
        elif argument.endswith((".yaml", ".yml")):
            options.update(read_file(Path(argument)))
        else:
            raise UsageError("argument", argument=argument)
    return options


def read_file(path: Path) -> dict[str, Any]:
    """The options in a YAML file."""
    try:
        return read_yaml(path.read_text(encoding="utf-8-sig"), str(path))
    except FileNotFoundError:
        raise NotFound("config_missing", path=path) from None
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError("config_unreadable", path=path, detail=error) from None


def conflicts(spec: RunSpec, given: Mapping[str, Any]) -> list[Problem]:
    """Combinations that cannot be, or that would silently ignore what the user wrote."""
    found = []
    if spec.method.method == "full":
        for name in ("rank", "alpha", "targets"):
            if given.get(name) not in (None, getattr(MethodSpec(), name)):
                found.append(Problem("only_lora", {"name": name, "value": show(given[name])}))
    if spec.train.micro_batch and spec.train.micro_batch > spec.train.batch:
        found.append(Problem("micro_batch", {"micro_batch": spec.train.micro_batch, "batch": spec.train.batch}))
    if spec.train.patience and spec.data.validation == "none":
        found.append(Problem("patience_without_validation", {"patience": spec.train.patience}))
    if spec.data.stratify and spec.data.rows is None:
        found.append(Problem("stratify_without_rows", {"stratify": spec.data.stratify}))
    if spec.data.validation == spec.data.data:
        found.append(Problem("validation_is_data", {"path": spec.data.data}))
    return found


def _unknown(name: str) -> Problem:
    close = nearest(str(name), list(OPTIONS))
    return Problem("unknown_option_near" if close else "unknown_option", {"name": name, "nearest": close})


def _invalid(location: tuple[int | str, ...], kind: str, options: Mapping[str, Any]) -> Problem:
    """What pydantic found, in our words: the option, the value that came, and what is allowed."""
    option = OPTIONS[str(location[0])]
    if kind == "missing":
        return Problem("missing_option", {"name": option.name})
    allowed = " | ".join(option.choices) or option.kind
    allowed += f" ({option.unit})" if option.unit else ""
    bounds = _bounds(option.name, option.part)
    params = {"name": option.name, "value": repr(options.get(option.name)), "allowed": allowed + bounds}
    close = nearest(str(options.get(option.name)), list(option.choices))
    return Problem("bad_value_near", {**params, "nearest": close}) if close else Problem("bad_value", params)


def _bounds(name: str, part: str) -> str:
    """` >= 1, <= 1024` for a field that has bounds."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = [
        f"{sign} {getattr(meta, attribute)}"
        for meta in PARTS[part].model_fields[name].metadata
        for attribute, sign in signs.items()
        if getattr(meta, attribute, None) is not None
    ]
    return f" {', '.join(found)}" if found else ""
