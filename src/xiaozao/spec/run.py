"""RunSpec: the parts together, read from YAML, `key=value` and flags, and written back.

    RunSpec.from_options({"model": "...", "data": "...", "rank": 8})      one flat mapping
    read_options(["run.yaml", "rank=8"])                                   a file and overrides -> that mapping

To a user the options are one flat list; that they live in parts is ours alone.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xiaozao.errors import NotFound, Problem, UsageError
from xiaozao.spec.fields import OPTIONS, PARTS, Option, nearest, show
from xiaozao.spec.objectives import READ_BY
from xiaozao.spec.parts import (
    FIRST,
    TEMPLATE_FILES,
    TEMPLATES,
    DataSpec,
    EvalSpec,
    MethodSpec,
    ModelSpec,
    Part,
    TrainSpec,
    data_files,
    split_names,
)
from xiaozao.spec.patterns import broken
from xiaozao.spec.peers import PEERS, Told, told
from xiaozao.spec.yamlfile import read_scalar, read_yaml, write_yaml
from xiaozao.texts.catalogue import has

EQUALS = re.compile("[=＝]")
# Options that change no number of a run: where it lies, what it may take, what is asked of it afterwards. Model and
# data are compared by their contents instead of their names.
FREE = frozenset(
    {"output", "budget", "keep", "questions", "answer_tokens", "model", "source", "data", "validation", "track"}
)
FULL_ONLY = ("apollo-mini", "galore", "badam")  # optimizers that make no sense for matrices as small as an adapter's
PAGED = ("adamw", "adamw8bit", "adafactor")  # those whose states can lie on disk


class RunSpec(Part):
    """All options of a run."""

    model: ModelSpec
    data: DataSpec
    method: MethodSpec
    train: TrainSpec
    evaluate: EvalSpec

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "RunSpec":
        """A flat mapping of options -> RunSpec. Raises UsageError that lists every problem at once."""
        if "fused_update" not in options and (options.get("method"), options.get("stream")) == ("full", "disk"):
            options = {**options, "fused_update": True}  # there is no other way
        problems = [_unknown(name, options) for name in options if name not in OPTIONS]
        brought = {ours for problem in problems for ours in str(problem.params.get("ours", "")).split(", ")}
        parts: dict[str, Part] = {}
        for part, kind in PARTS.items():
            own = {name: options[name] for name in kind.model_fields if name in options}
            try:
                parts[part] = kind.model_validate(own)
            except ValidationError as error:
                problems += [
                    _invalid(one["loc"], one["type"], options)
                    for one in error.errors()
                    if one["type"] != "missing" or one["loc"][0] not in brought
                ]
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

    @property
    def paged(self) -> bool:
        """Whether weights that learn lie on disk, and the optimizer's states with them (loading/trainstore.py)."""
        return self.method.method == "full" and self.model.stream == "disk"

    def with_options(self, **changes: object) -> "RunSpec":
        """The same run with some options changed."""
        return RunSpec.from_options({**self.options(), **changes})

    def decided(self, **changes: object) -> "RunSpec":
        """The same run with some options changed and every remaining `auto` set to its first choice.

        Weights on disk are for models larger than memory, and what all their blocks would keep is larger still.
        """
        options = {**self.options(), **changes}
        first = {name: choice for name, choice in FIRST.items() if options[name] == "auto"}
        if "checkpointing" in first and {**options, **first}["stream"] == "disk":
            first["checkpointing"] = "block"
        return self.with_options(**changes, **first)

    def to_yaml(self) -> str:
        """The flat YAML file that reads back as this spec."""
        return write_yaml(self.options())


def read_options(arguments: Sequence[str]) -> dict[str, Any]:
    """`run.yaml rank=8 length=512` -> one flat mapping; what stands later wins.

    Raises UsageError for an argument that is neither a file nor `key=value`, NotFound for a missing file.
    """
    options: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = EQUALS.sub("=", argument, count=1).partition("=")
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
    """The problems of combinations that are impossible or would silently ignore an option."""
    problems = _method_conflicts(spec, given) + _update_conflicts(spec, given) + _objective_conflicts(spec, given)
    problems += _stream_conflicts(spec)
    if spec.train.micro_batch and spec.train.micro_batch > spec.train.batch and spec.train.devices == 1:
        problems.append(Problem("micro_batch", {"micro_batch": spec.train.micro_batch, "batch": spec.train.batch}))
    if spec.train.steps is not None and spec.train.epochs is not None:
        problems.append(Problem("steps_epochs", {"steps": spec.train.steps, "epochs": spec.train.epochs}))
    if spec.train.patience and spec.data.validation == "none":
        problems.append(Problem("patience_without_validation", {"patience": spec.train.patience}))
    if spec.data.template not in TEMPLATES and not spec.data.template.endswith(TEMPLATE_FILES):
        problems.append(Problem("peer_template", {"name": f"template={spec.data.template[:60]}"}))
    if spec.data.stratify and spec.data.rows is None:
        problems.append(Problem("stratify_without_rows", {"stratify": spec.data.stratify}))
    if spec.data.validation in data_files(spec.data.data):
        problems.append(Problem("validation_is_data", {"path": spec.data.validation}))
    return problems


def _method_conflicts(spec: RunSpec, given: Mapping[str, Any]) -> list[Problem]:
    """What the method, the kind of adapter and the base do not go with."""
    problems, method = [], spec.method
    lora = method.method == "lora"
    foreign = ("last_blocks",) if lora else ("adapter", "rank", "alpha", "targets", "also", "lora_plus")
    for name in foreign:
        if given.get(name) is not None and getattr(method, name) != getattr(MethodSpec(), name):
            key = "only_full" if lora else "only_lora"
            problems.append(Problem(key, {"name": name, "value": show(given[name])}))
    if not lora and spec.model.base not in ("auto", "none"):
        problems.append(Problem("full_base", {"base": spec.model.base}))
    if lora and method.adapter == "pissa" and spec.model.base not in ("auto", "none"):
        problems.append(Problem("pissa_base", {"base": spec.model.base}))
    for target in method.targets:
        if (detail := broken(target)) is not None:
            problems.append(Problem("target_pattern", {"target": target, "detail": detail}))
    return problems


def _update_conflicts(spec: RunSpec, given: Mapping[str, Any]) -> list[Problem]:
    """What the optimizer, the fused update and bf16 weights do not go with."""
    problems, train, method = [], spec.train, spec.method
    if method.method == "lora" and train.optimizer in FULL_ONLY:
        problems.append(Problem("optimizer_full", {"optimizer": train.optimizer}))
    if train.projection_rank != TrainSpec().projection_rank and train.optimizer != "galore":
        params = {"name": "projection_rank", "value": train.projection_rank, "optimizers": "galore"}
        problems.append(Problem("only_optimizer", params))
    if train.switch_every is not None and train.optimizer not in FULL_ONLY:
        params = {"name": "switch_every", "value": train.switch_every, "optimizers": ", ".join(FULL_ONLY)}
        problems.append(Problem("only_optimizer", params))
    if train.fused_update and train.micro_batch is not None and train.micro_batch * train.devices < train.batch:
        params = {"micro_batch": train.micro_batch, "batch": train.batch, "devices": train.devices}
        problems.append(Problem("fused_accumulates", params))
    if train.devices > train.batch:
        problems.append(Problem("devices_batch", {"devices": train.devices, "batch": train.batch}))
    elif train.devices > 1 and train.micro_batch is not None and train.micro_batch > -(-train.batch // train.devices):
        params = {"micro_batch": train.micro_batch, "devices": train.devices, "batch": train.batch}
        problems.append(Problem("devices_micro_batch", {**params, "most": -(-train.batch // train.devices)}))
    if train.devices > 1 and train.optimizer == "badam":  # FSDP sums the gradients of all blocks, on turn or not
        problems.append(Problem("devices_optimizer", {"devices": train.devices, "optimizer": train.optimizer}))
    if train.fused_update and method.precision == "fp16":
        problems.append(Problem("fused_fp16"))
    if method.weights == "bf16" and method.method == "lora":
        problems.append(Problem("only_full", {"name": "weights", "value": "bf16"}))
    if method.weights == "bf16" and method.last_blocks is not None:
        problems.append(Problem("weights_last_blocks", {"last_blocks": method.last_blocks}))
    if method.weights == "bf16" and method.precision not in ("auto", "bf16"):
        problems.append(Problem("weights_precision", {"precision": method.precision}))
    return problems


def _stream_conflicts(spec: RunSpec) -> list[Problem]:
    """What weights that stay on disk do not go with: whatever changes them, or wants them whole."""
    if spec.model.stream != "disk":
        return []
    problems = []
    if spec.paged:
        problems += _paged_conflicts(spec)
    if spec.train.devices > 1:
        problems.append(Problem("stream_devices", {"devices": spec.train.devices}))
    if spec.method.adapter == "pissa":
        problems.append(Problem("stream_pissa"))
    if whole := [name for name in spec.method.also if name != "norms"]:
        problems.append(Problem("stream_also", {"names": ",".join(whole)}))
    return problems


def _paged_conflicts(spec: RunSpec) -> list[Problem]:
    """What all parameters on disk do not go with: they move in the middle of backward, as their gradients come."""
    problems = []
    if not spec.train.fused_update:
        problems.append(Problem("paged_update"))
    if spec.train.optimizer not in ("auto", *PAGED):
        params = {"optimizer": spec.train.optimizer, "known": ", ".join(PAGED)}
        problems.append(Problem("paged_optimizer", params))
    if spec.method.last_blocks is not None:
        problems.append(Problem("paged_last_blocks", {"last_blocks": spec.method.last_blocks}))
    return problems


def _objective_conflicts(spec: RunSpec, given: Mapping[str, Any]) -> list[Problem]:
    """What the objective does not read."""
    objective = spec.method.objective
    problems = [
        Problem("only_objective", {"name": name, "value": show(given[name]), "objective": objective,
                                   "objectives": ", ".join(readers)})
        for name, readers in READ_BY.items()
        if objective not in readers
        and given.get(name) is not None
        and getattr(spec.method, name) != getattr(MethodSpec(), name)
    ]  # fmt: skip
    if objective == "pretrain" and spec.data.truncation != "drop":
        problems.append(Problem("pretrain_truncation", {"truncation": spec.data.truncation}))
    return problems


def _unknown(name: str, options: Mapping[str, Any]) -> Problem:
    """The problem of an unknown name: another tool's option, a misspelled option, or neither."""
    value = options[name]
    counterpart = told(name, value, options)
    if counterpart is not None:
        return peer_problem(name, value, counterpart)
    close = nearest(str(name), [*OPTIONS, *PEERS])
    if close not in OPTIONS:
        peer = told(close, value, options) if close else None
        close = written(peer.ours) if peer is not None and peer.ours else nearest(str(name), list(OPTIONS))
    return Problem("unknown_option_near" if close else "unknown_option", {"name": name, "nearest": close})


def peer_problem(name: str, value: Any, counterpart: Told) -> Problem:
    """The problem that explains an option of another tool."""
    params = {
        "name": name,
        "value": show(value),
        "ours": ", ".join(counterpart.ours),
        "write": written(counterpart.ours),
    }
    text = "as" if counterpart.text == "is" and [*counterpart.ours.values()] != [value] else counterpart.text
    return Problem(f"peer_{text}", params)


def written(options: Mapping[str, Any]) -> str:
    """`method=lora base=nf4`."""
    return " ".join(f"{name}={show(value)}" for name, value in options.items())


def _invalid(location: tuple[int | str, ...], kind: str, options: Mapping[str, Any]) -> Problem:
    """A pydantic error as a problem: the option, the given value, and what is allowed."""
    option = OPTIONS[str(location[0])]
    if kind == "missing":
        return Problem("missing_option", {"name": option.name})
    if option.name == "validation":
        return Problem("bad_validation", {"name": option.name, "value": show(options.get(option.name))})
    value = options.get(option.name)
    names = split_names(value)
    if len(location) > 1 and isinstance(location[1], int) and isinstance(names, list | tuple):
        value = names[location[1]]  # the one name of several that is wrong
    params = {
        "name": option.name,
        "value": value if isinstance(value, str) else repr(value),
        "allowed": _allowed(option),
    }
    peer = told(option.name, value, options) if option.choices else None
    if peer is not None and peer.ours:
        return peer_problem(option.name, value, peer)
    close = nearest(str(value), list(option.choices))
    return Problem("bad_value_near", {**params, "nearest": close}) if close else Problem("bad_value", params)


def _allowed(option: Option) -> dict[str, object]:
    """What an option takes, as a text that is said in the reader's language: its choices, or kind, unit and bounds."""
    kind: object = " | ".join(option.choices) or {"text": f"kind.{option.kind.replace(' ', '_')}"}
    bounds = _bounds(option.name, option.part)
    if not option.unit:
        return {"text": "allowed", "kind": kind, "bounds": bounds}
    unit = f"unit.{option.unit}"
    return {
        "text": "allowed.unit",
        "kind": kind,
        "unit": {"text": unit} if has(unit) else option.unit,
        "bounds": bounds,
    }


def _bounds(name: str, part: str) -> str:
    """` >= 1, <= 1024` for a field that has bounds."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        f"{sign} {getattr(meta, attribute)}"
        for meta in PARTS[part].model_fields[name].metadata
        for attribute, sign in signs.items()
        if getattr(meta, attribute, None) is not None
    ]
    return f" {', '.join(bounds)}" if bounds else ""
