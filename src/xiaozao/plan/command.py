"""The plan of `zao plan`: of a run on its data, or without data with every sample as long as `length` allows.

No torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from xiaozao.hub.folder import read_config
from xiaozao.machine.hardware import Hardware, look
from xiaozao.plan.duration import step_time
from xiaozao.plan.fit import Setup, Sizes, Traced, every_sample, fit, shortened
from xiaozao.plan.ladder import Choice, choose, effects
from xiaozao.plan.lengths import Lengths
from xiaozao.plan.memory import RUNTIMES
from xiaozao.plan.profile_cache import Profiles
from xiaozao.plan.streaming import stays_cached
from xiaozao.plan.workload import ModelShape
from xiaozao.spec.objectives import sequences
from xiaozao.spec.pace import Asked, Rates
from xiaozao.spec.parts import ATTENTION
from xiaozao.spec.plan import MemoryPlan, Reserved, RowSizes
from xiaozao.spec.profile import Profile
from xiaozao.spec.run import RunSpec


def plan_command(
    spec: RunSpec, model_folder: Path, profiles: Profiles | None = None,
    pace: Callable[[Asked], Rates | None] | None = None, known: Lengths | None = None, hardware: Hardware | None = None,
) -> Choice:  # fmt: skip
    """Decide the open options by the budget and plan the run. Without a budget, the free memory is used.

    hardware: the machine, with what was measured of it; None looks at what it says of itself.
    pace: how fast this machine is; asked once, on a CPU alone, where the model is traced and in memory.
    known: the lengths of the data, where it was read; the plan is that of a worker then.
    """
    hardware = hardware or look()
    device = hardware.device(spec.model.device)
    sharing = spec.train.devices if device == "cpu" else 1  # a GPU is one process's own
    config = read_config(model_folder).values
    attention = ATTENTION[device] if spec.model.attention == "auto" else spec.model.attention

    traced = Traced(profiles, attention) if profiles else None
    shape = ModelShape.from_config(config)

    def precision(one: RunSpec) -> str:
        return (
            hardware.precision(device, one.method.weights) if one.method.precision == "auto" else one.method.precision
        )

    def setup_of(one: RunSpec, budget: int) -> Setup:
        method = one.method.model_copy(update={"precision": precision(one)})
        train = one.train.model_copy(update={"budget": budget})
        stream = one.model.stream == "disk"
        return Setup(method, train, device, RUNTIMES[device], one.model.base, stream=stream, traced=traced)

    def ask(one: RunSpec, budget: int, /, returns: bool | None = None) -> MemoryPlan:
        return fit(config, setup_of(one, budget), _sizes(one, known), returns)

    budget = spec.train.budget or hardware.free(device) // sharing
    cached = device == "cpu" and stays_cached(shape.parameters, hardware.memory_available - budget)

    def holds(one: RunSpec) -> Reserved | None:
        return traced.reserved(config, setup_of(one, 0), _sizes(one, known)) if traced else None

    choice = choose(spec, device, budget, ask, cached, holds)
    if choice.plan.fits:
        larger = effects(choice, ask)  # of data that is known, a larger `length` changes nothing
        choice = replace(choice, effects=tuple(one for one in larger if known is None or one.option != "length"))
    if device == "cuda" or traced is None or pace is None:
        return choice
    profile = traced.profile(config, setup_of(choice.spec, 0)) if choice.plan.traced else None
    bits = choice.spec.model.base == "nf4" or choice.spec.train.optimizer == "adamw8bit"
    if profile is None or choice.spec.model.stream == "disk":  # how fast the disk is, nobody has measured
        return choice
    rates = pace(Asked(spec.train.threads or hardware.cores, precision(choice.spec), bits))
    micros = _micros(choice, known)
    return _timed(choice, profile, attention, rates, micros) if rates else replace(choice, unpaced=True)


def _sizes(spec: RunSpec, known: Lengths | None) -> Sizes:
    """Those of the data where it was read, cut to `length`; else of samples that are all as long as that."""
    length = spec.data.length
    if known is None:
        return every_sample((length,) * sequences(spec.method.objective))
    return Sizes(shortened(known.sizes.rows, length), shortened(known.sizes.validation, length))


def _micros(choice: Choice, known: Lengths | None) -> list[RowSizes]:
    """The micro-batches of a step, of samples of the average length where the data was read."""
    size, batch = choice.plan.samples, choice.spec.train.batch
    if known is not None:
        return known.usual(size, batch)
    rows, (whole, rest) = _sizes(choice.spec, None).rows, divmod(batch, size)
    return [*rows(size)] * whole + ([*rows(rest)] if rest else [])


def _timed(choice: Choice, profile: Profile, attention: str, rates: Rates, micros: Sequence[RowSizes]) -> Choice:
    """With how long a step of these micro-batches takes at these rates."""
    plan = choice.plan
    return replace(choice, plan=replace(plan, step=step_time(profile, micros, attention, plan.returns, rates)))
