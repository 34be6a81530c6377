"""Decides every option that the user left open, once, at a run's first start; the result is kept in resolved.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from xiaozao.data.prepare import PreparedData
from xiaozao.machine.hardware import Hardware
from xiaozao.machine.resident import rss
from xiaozao.plan.fit import Setup, Sizes, Traced, fit, shortened
from xiaozao.plan.ladder import Choice, Holds, Planner, choose, unknown
from xiaozao.plan.lengths import order_of
from xiaozao.plan.profile_cache import Profiles
from xiaozao.plan.streaming import stays_cached
from xiaozao.plan.workload import ModelShape
from xiaozao.spec.objectives import BETAS, GAMMA, KINDS, Kind
from xiaozao.spec.parts import ATTENTION, EPOCHS, MethodSpec
from xiaozao.spec.plan import MemoryPlan, Questions, Reserved
from xiaozao.spec.run import FULL_ONLY, RunSpec
from xiaozao.train.ranks import Place

# By kind of data. Preferences are learned in small steps: the papers' 5e-7 to 1e-6 for all parameters, ten to twenty
# times that for adapters, as TRL advises and LLaMA-Factory's and alignment-handbook's recipes (5e-6 to 5e-5) have it.
LEARNING_RATES: dict[Kind, dict[str, float]] = {
    "answers": {"lora": 2e-4, "full": 2e-5},
    "texts": {"lora": 2e-4, "full": 2e-5},
    "pairs": {"lora": 2e-5, "full": 1e-6},
    "verdicts": {"lora": 2e-5, "full": 1e-6},
}
VALIDATION_SHARE = 0.15  # of the run's time, at most
VALIDATIONS = 10


def resolve(
    spec: RunSpec, data: PreparedData, config: Mapping[str, Any], device: str, hardware: Hardware, ask: Planner,
    here: int = 1, holds: Holds = unknown,
) -> Choice:  # fmt: skip
    """The same run with every open option decided, and how it was. here: its processes on this machine."""
    objective = spec.method.objective
    spec = spec.with_options(
        device=device,
        precision=_precision(spec, device, hardware),
        attention=ATTENTION[device] if spec.model.attention == "auto" else spec.model.attention,
        threads=spec.train.threads or max(1, hardware.cores // here),
        learning_rate=spec.train.learning_rate or LEARNING_RATES[KINDS[objective]][spec.method.method],
        beta=spec.method.beta or BETAS.get(objective),
        gamma=GAMMA if objective == "simpo" and spec.method.gamma is None else spec.method.gamma,
        epochs=spec.train.epochs if spec.train.steps else spec.train.epochs or EPOCHS,
        alpha=_alpha(spec.method) if spec.method.method == "lora" else None,
        budget=spec.train.budget
        or (hardware.free(device) // here + rss() if device == "cpu" else hardware.free(device)),
    )
    if spec.train.fused_update:  # a gradient that is gone at once cannot be added to
        spec = spec.with_options(micro_batch=-(-spec.train.batch // spec.train.devices))
    budget = spec.train.budget
    assert budget is not None
    free = hardware.memory_available - budget
    cached = device == "cpu" and stays_cached(ModelShape.from_config(config).parameters, free)
    choice = choose(spec, device, budget, ask, cached, holds)
    spec = choice.spec.with_options(switch_every=_switch_every(choice.spec, data, config))
    every = spec.train.eval_every or _eval_every(spec, data)
    return replace(choice, spec=spec.with_options(eval_every=every, save_every=spec.train.save_every or every))


def on_devices(spec: RunSpec, place: Place, resumed: bool, own_budget: bool = True) -> RunSpec:
    """The run on its actual number of processes, which may differ from the requested or the former one.

    own_budget: the user named it, for one process; else it is this machine's free memory, which processes share.
    """
    train, before = spec.train, spec.train.devices
    if before == place.world:
        return spec
    changes: dict[str, object] = {"devices": place.world}
    if resumed:  # what was decided for the devices it began on
        share, size = -(-train.batch // place.world), train.micro_batch or 1
        changes["micro_batch"] = share if train.fused_update else min(size, share)
        if spec.model.device == "cpu":
            changes["threads"] = max(1, (train.threads or 1) * before // place.world)
            if train.budget is not None and not own_budget:
                changes["budget"] = train.budget * before // place.world
    return spec.with_options(**changes)


@dataclass(frozen=True)
class Plans:
    """The plans of a run on its real data, in whatever way (plan.ladder.Planner)."""

    sizes: Sizes
    config: Mapping[str, Any]
    runtime: int
    profiles: Profiles
    questions: Questions | None = None

    def __call__(self, way: RunSpec, budget: int, /, returns: bool | None = None) -> MemoryPlan:
        return fit(self.config, self._setup(way, budget), self._short(way), returns)

    def holds(self, way: RunSpec) -> Reserved | None:
        """What the allocator of its GPU holds, where that is known."""
        setup = self._setup(way, 0)
        assert setup.traced
        return setup.traced.reserved(self.config, setup, self._short(way))

    def _setup(self, way: RunSpec, budget: int) -> Setup:
        return Setup(
            way.method, way.train.model_copy(update={"budget": budget}), way.model.device, self.runtime,
            way.model.base, self.questions, way.model.stream == "disk", Traced(self.profiles, way.model.attention),
        )  # fmt: skip

    def _short(self, way: RunSpec) -> Sizes:
        length = way.data.length
        return Sizes(shortened(self.sizes.rows, length), shortened(self.sizes.validation, length))


def _precision(spec: RunSpec, device: str, hardware: Hardware) -> str:
    if spec.method.precision != "auto":
        return spec.method.precision
    if device == "cuda" and spec.method.weights == "fp32":
        # Cards before Ampere emulate bf16, slowly; in fp16 they are fast.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return hardware.precision(device, spec.method.weights)


def _switch_every(spec: RunSpec, data: PreparedData, config: Mapping[str, Any]) -> int | None:
    """The papers' 200 updates for a projection; for a block their 100, or fewer, so that all have a turn in the run."""
    if spec.train.switch_every or spec.train.optimizer not in FULL_ONLY:
        return spec.train.switch_every
    if spec.train.optimizer != "badam":
        return 200
    turns = (spec.method.last_blocks or ModelShape.from_config(config).blocks) + 2
    return min(100, max(1, order_of(spec, data, spec.train.batch).steps // turns))


def _alpha(method: MethodSpec) -> float:
    """As given, else a scale of 2 at the default rank; rsLoRA's idea is an alpha that does not follow the rank."""
    if method.alpha is not None:
        return method.alpha
    return {"rslora": 8.0, "pissa": float(method.rank)}.get(method.adapter, 2.0 * method.rank)


def _eval_every(spec: RunSpec, data: PreparedData) -> int:
    """About ten validations in a run, fewer where they would take more than their share of the time."""
    order = order_of(spec, data)
    steps = order.steps
    if data.validation is None:
        return max(1, steps // VALIDATIONS)
    cost = int(sum(data.validation.lengths)) / 3  # a forward pass is a third of a training step
    per_step = int(sum(data.train.lengths)) / order.steps_per_epoch
    return min(steps, max(1, steps // VALIDATIONS, round(cost / (VALIDATION_SHARE * per_step))))
