"""What `zao plan` asks: a run whose data is not known, every sample as long as `length` allows. No torch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xiaozao.models.config import read_config
from xiaozao.plan.duration import step_time
from xiaozao.plan.fit import Setup, Sizes, Traced, every_sample, fit
from xiaozao.plan.hardware import Hardware, look
from xiaozao.plan.ladder import Choice, choose
from xiaozao.plan.memory import RUNTIMES
from xiaozao.plan.profiles import Profiles
from xiaozao.spec.objectives import sequences
from xiaozao.spec.pace import Asked, Rates, StepTime
from xiaozao.spec.parts import ATTENTION
from xiaozao.spec.plan import MemoryPlan
from xiaozao.spec.run import RunSpec

Pace = Callable[[Asked], Rates | None]  # how fast this machine is, where that can be measured


def plan_command(
    spec: RunSpec, model_folder: Path, profiles: Profiles | None = None, pace: Pace | None = None
) -> Choice:  # fmt: skip
    """What is open decided by the budget, which is what is free now where none is named.

    pace: asked on a CPU alone, once, and where the model can be traced; then the plan says how long a step takes.
    """
    hardware = look()
    device = "cuda" if spec.model.device == "cuda" or spec.model.device == "auto" and hardware.gpus else "cpu"
    precision = spec.method.precision
    if precision == "auto":
        precision = "bf16" if hardware.fast_bf16 else "fp32"
        if device == "cuda":
            precision = "bf16" if not hardware.gpus or hardware.gpus[0].bf16 else "fp16"
    sharing = spec.train.devices if device == "cpu" else 1  # a GPU is one process's own
    config = read_config(model_folder).values
    attention = ATTENTION[device] if spec.model.attention == "auto" else spec.model.attention
    traced = Traced(profiles, attention) if profiles else None

    def setup_of(one: RunSpec, budget: int) -> Setup:
        method = one.method.model_copy(update={"precision": precision})
        train = one.train.model_copy(update={"budget": budget})
        stream = one.model.stream == "disk"
        return Setup(method, train, device, RUNTIMES[device], one.model.base, stream=stream, traced=traced)

    def ask(one: RunSpec, budget: int, /, returns: bool | None = None) -> MemoryPlan:
        return fit(config, setup_of(one, budget), _sizes(one), returns)

    choice = choose(spec, device, spec.train.budget or free_memory(device, hardware) // sharing, ask)
    if device != "cpu" or pace is None:
        return choice
    asked = Asked(spec.train.threads or hardware.cores, precision, _bits(choice.spec))
    return replace(choice, plan=replace(choice.plan, step=_step(choice, config, setup_of(choice.spec, 0), pace, asked)))


def _step(choice: Choice, config: Mapping[str, Any], setup: Setup, pace: Pace, asked: Asked) -> StepTime | None:
    """The time of a step; none of a model that was not traced, nor of weights that are read from disk meanwhile."""
    traced, plan = setup.traced, choice.plan
    if traced is None or not plan.traced or setup.stream:
        return None
    profile, rates = traced.profile(config, setup), pace(asked)
    if profile is None or rates is None:
        return None
    micros = list(_sizes(choice.spec).rows(plan.micro_batch)) * -(-setup.train.batch // plan.micro_batch)
    return step_time(profile, micros, traced.attention, plan.returns, rates)


def _sizes(spec: RunSpec) -> Sizes:
    return every_sample((spec.data.length,) * sequences(spec.method.objective))


def _bits(spec: RunSpec) -> bool:
    return spec.model.base == "nf4" or spec.train.optimizer == "adamw8bit"


def free_memory(device: str, hardware: Hardware) -> int:
    """What a run may take when no budget is given: what is free now; 0 on a GPU that is not here."""
    if device == "cpu":
        return hardware.memory_available
    return hardware.gpus[0].memory_free if hardware.gpus else 0
