"""A budget and what the user left open -> a plan with the micro-batch that suits both."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from xiaozao.models.config import read_config
from xiaozao.plan.duration import step_time
from xiaozao.plan.hardware import Hardware, look
from xiaozao.plan.load import Load, ModelShape
from xiaozao.plan.memory import RUNTIMES, answer_bytes, plan
from xiaozao.plan.profiles import Profiles
from xiaozao.plan.traced import Setting, plan_traced
from xiaozao.spec.objectives import sequences
from xiaozao.spec.pace import Asked, Rates
from xiaozao.spec.parts import ATTENTION, MethodSpec, TrainSpec
from xiaozao.spec.plan import MemoryPlan, Row
from xiaozao.spec.profile import Profile, Question
from xiaozao.spec.run import RunSpec

COMPUTE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
ENOUGH_TOKENS = {"cpu": 1024, "cuda": 8192}  # in a micro-batch; more is hardly faster and only takes memory
SAFE = 0.85  # of the budget: above it a plan is tight
SMALL = 10_000_000  # parameters; a smaller model is not worth the seconds of a trace

Rows = Callable[[int], Sequence[Row]]  # a micro-batch -> the largest rows that it makes


@dataclass(frozen=True)
class Sizes:
    """The data as a plan sees it: the largest rows, by micro-batch, of training and of validation."""

    rows: Rows
    validation: Rows


def every_sample(lengths: tuple[int, ...]) -> Sizes:
    """Of data that is not known: all samples alike, each token a target."""

    def rows(micro_batch: int) -> list[Row]:
        return [Row(lengths * micro_batch, sum(lengths) * micro_batch)]

    return Sizes(rows, rows)


@dataclass(frozen=True)
class Setup:
    """A run as a plan sees it, beside model and data; precision and budget must be decided (0: there is none
    to compare with).

    answered: tokens of all questions with their answers. traced: where profiles come from; without it, and for a model
    that cannot be traced, the numbers are those of a decoder of this size.
    """

    method: MethodSpec
    train: TrainSpec
    device: str
    runtime: int  # bytes
    base: str = "none"
    answered: int = 0
    stream: bool = False  # whether the frozen matrices stay on disk
    traced: "Traced | None" = None


def fit(config: Mapping[str, Any], setup: Setup, sizes: Sizes) -> MemoryPlan:
    """The plan with the given micro-batch, or the largest of batch, batch/2, batch/4 ... that fits and suffices."""
    method, train, device, traced = setup.method, setup.train, setup.device, setup.traced
    assert train.budget is not None and method.precision != "auto"
    shape = ModelShape.from_config(config)
    profile = traced.profile(config, setup) if traced and shape.parameters >= SMALL else None
    share = -(-train.batch // train.devices)
    room = SAFE * train.budget if train.budget else math.inf
    choices = [train.micro_batch] if train.micro_batch else [share] if train.fused_update else _halvings(share)
    for size in choices:
        rows = sizes.rows(size)
        load = Load(
            method=method.method, rank=method.rank, targets=method.targets,
            compute_bytes=COMPUTE_BYTES[method.precision], checkpointing=train.checkpointing,
            micro_batch=size, tokens=max(row.tokens for row in rows),
            accumulates=size * train.devices < train.batch, runtime=setup.runtime, cpu=device == "cpu",
            answered=setup.answered, adapter=method.adapter, also=method.also,
            last_blocks=method.last_blocks, base=setup.base, devices=train.devices, optimizer=train.optimizer,
            projection=train.projection_rank, fused=train.fused_update,
            wide=2 if method.weights == "bf16" else 4, stream=setup.stream,
        )  # fmt: skip
        if profile is not None and traced is not None:
            found = _traced(profile, shape, load, traced, rows, sizes.validation(size), train.budget)
            if rates := traced.rates():  # of samples that are alike; the worst rows of real data are not the usual
                micros = [rows[0]] * -(-share // size)
                found = replace(found, step=step_time(profile, micros, traced.attention, found.returns, rates))
        else:
            found = plan(shape, load, train.budget)
        if found.tokens <= ENOUGH_TOKENS[device] and found.peak_bytes <= room:
            return found
    return found


@dataclass(frozen=True)
class Traced:
    """Where profiles come from, the attention that is planned for, and the machine's pace where a time is wanted."""

    profiles: Profiles
    attention: str
    rates: Callable[[], Rates | None] = lambda: None

    def profile(self, config: Mapping[str, Any], setup: Setup) -> Profile | None:
        """None on several devices, with streamed weights, and for a model that cannot be traced."""
        method, train = setup.method, setup.train
        if train.devices > 1 or setup.stream:
            return None
        return self.profiles.get(
            Question(
                config=dict(config), method=method, precision=method.precision, base=setup.base,
                attention=self.attention, checkpointing=train.checkpointing, optimizer=train.optimizer,
                projection_rank=train.projection_rank, fused_update=train.fused_update,
            )
        )  # fmt: skip


def _traced(
    profile: Profile, shape: ModelShape, load: Load, traced: Traced, rows: Sequence[Row], validation: Sequence[Row],
    budget: int,
) -> MemoryPlan:  # fmt: skip
    """With a heap that keeps what it may need again, which is faster; else with one that gives it back."""
    for returns in (False, True):
        setting = Setting(
            attention=traced.attention, micro_batch=load.micro_batch, accumulates=load.accumulates,
            runtime=load.runtime, cpu=load.cpu, returns=returns, answers=answer_bytes(shape, load), budget=budget,
        )  # fmt: skip
        found = plan_traced(profile, rows, validation, setting)
        if not budget or not load.cpu or found.high_bytes <= SAFE * budget:
            break
    return found


def plan_command(
    spec: RunSpec, model_folder: Path, profiles: Profiles | None = None,
    pace: Callable[[Asked], Rates | None] | None = None,
) -> MemoryPlan:  # fmt: skip
    """The plan of a run whose data is not known: every sample as long as `length` allows.

    pace: how fast this machine is; asked on a CPU alone, and only where the model can be traced.
    """
    hardware = look()
    device = "cuda" if spec.model.device == "cuda" or spec.model.device == "auto" and hardware.gpus else "cpu"
    precision = spec.method.precision
    if precision == "auto":
        precision = "bf16" if hardware.fast_bf16 else "fp32"
        if device == "cuda":
            precision = "bf16" if not hardware.gpus or hardware.gpus[0].bf16 else "fp16"
    sharing = spec.train.devices if device == "cpu" else 1  # a GPU is one process's own
    budget = spec.train.budget or free_memory(device, hardware) // sharing
    method = spec.method.model_copy(update={"precision": precision})
    train = spec.train.model_copy(update={"budget": budget})
    config = read_config(model_folder).values
    sizes = every_sample((spec.data.length,) * sequences(method.objective))
    attention = ATTENTION[device] if spec.model.attention == "auto" else spec.model.attention
    bits = spec.model.base == "nf4" or train.optimizer == "adamw8bit"
    asked = Asked(spec.train.threads or hardware.cores, precision, bits)
    rates = cache(lambda: pace(asked) if pace and device == "cpu" else None)
    traced = Traced(profiles, attention, rates) if profiles else None
    stream = spec.model.stream == "disk"
    if stream and train.checkpointing == "none":  # as worker/resolve.py decides it
        train = train.model_copy(update={"checkpointing": "block"})
    return fit(
        config, Setup(method, train, device, RUNTIMES[device], spec.model.base, stream=stream, traced=traced), sizes
    )


def free_memory(device: str, hardware: Hardware) -> int:
    """What a run may take when no budget is given: what is free now; 0 on a GPU that is not here."""
    if device == "cpu":
        return hardware.memory_available
    return hardware.gpus[0].memory_free if hardware.gpus else 0


def _halvings(batch: int) -> list[int]:
    sizes = [batch]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    return sizes
