"""What `zao plan` asks: a run whose data is not known, every sample as long as `length` allows. No torch."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from xiaozao.models.config import read_config
from xiaozao.plan.fit import Setup, Traced, every_sample, fit
from xiaozao.plan.hardware import Hardware, look
from xiaozao.plan.ladder import Choice, choose, effects
from xiaozao.plan.memory import RUNTIMES
from xiaozao.plan.profiles import Profiles
from xiaozao.spec.objectives import sequences
from xiaozao.spec.pace import Asked, Rates
from xiaozao.spec.parts import ATTENTION
from xiaozao.spec.plan import MemoryPlan
from xiaozao.spec.run import RunSpec


def plan_command(
    spec: RunSpec, model_folder: Path, profiles: Profiles | None = None,
    pace: Callable[[Asked], Rates | None] | None = None,
) -> Choice:  # fmt: skip
    """What is open decided by the budget, which is what is free now where none is named.

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
    config = read_config(model_folder).values
    attention = ATTENTION[device] if spec.model.attention == "auto" else spec.model.attention

    @cache
    def paced(bits: bool) -> Rates | None:
        return pace(Asked(spec.train.threads or hardware.cores, precision, bits)) if pace and device == "cpu" else None

    traced = Traced(profiles, attention, lambda setup: paced(setup.in_bits)) if profiles else None

    def ask(one: RunSpec, budget: int, /, returns: bool | None = None) -> MemoryPlan:
        method = one.method.model_copy(update={"precision": precision})
        train = one.train.model_copy(update={"budget": budget})
        stream = one.model.stream == "disk"
        setup = Setup(method, train, device, RUNTIMES[device], one.model.base, stream=stream, traced=traced)
        return fit(config, setup, every_sample((one.data.length,) * sequences(method.objective)), returns)

    choice = choose(spec, device, spec.train.budget or free_memory(device, hardware) // sharing, ask)
    return replace(choice, effects=effects(choice, ask))


def free_memory(device: str, hardware: Hardware) -> int:
    """What a run may take when no budget is given: what is free now; 0 on a GPU that is not here."""
    if device == "cpu":
        return hardware.memory_available
    return hardware.gpus[0].memory_free if hardware.gpus else 0
