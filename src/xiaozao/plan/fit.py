"""Chooses the micro-batch: a budget and a run with all other options decided -> the plan of the fastest that fits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xiaozao.plan.answers import choices
from xiaozao.plan.duration import TYPICAL, TYPICAL_HALF, step_time
from xiaozao.plan.memory import always, churned, head_tile, plan
from xiaozao.plan.profile_cache import Profiles
from xiaozao.plan.streaming import heap_returns
from xiaozao.plan.traced import Setting, plan_traced
from xiaozao.plan.workload import Load, ModelShape
from xiaozao.spec.parts import MethodSpec, TrainSpec
from xiaozao.spec.plan import MemoryPlan, Questions, Reserved, RowSizes
from xiaozao.spec.profile import Profile, TraceRequest
from xiaozao.spec.tape import Steps

COMPUTE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
ENOUGH_TOKENS = {"cpu": 1024, "cuda": 8192}  # in a micro-batch; more is hardly faster and only takes memory
CERTAIN = 0.9  # of what arithmetic says of weights and states: a budget below it is hopeless
SMALL = 10_000_000  # parameters; a smaller model is not worth the seconds of a trace

Rows = Callable[[int], Sequence[RowSizes]]  # a micro-batch -> the largest rows that it makes


@dataclass(frozen=True)
class Sizes:
    """The data as a plan sees it: the largest rows, by micro-batch, of training and of validation."""

    rows: Rows
    validation: Rows


def every_sample(lengths: tuple[int, ...]) -> Sizes:
    """The sizes for unknown data: all samples of the same length, each token a target."""

    def rows(size: int) -> list[RowSizes]:
        return [RowSizes(lengths * size, sum(lengths) * size)]

    return Sizes(rows, rows)


def shortened(rows: Rows, length: int) -> Rows:
    """The sizes with every sample cut to at most so many tokens."""

    def short(size: int) -> list[RowSizes]:
        kept = [(tuple(min(one, length) for one in row.lengths), row.targets) for row in rows(size)]
        return [RowSizes(lengths, min(targets, sum(lengths))) for lengths, targets in kept]

    return short


@dataclass(frozen=True)
class Setup:
    """A run as a plan sees it, beside model and data; precision and budget must be decided (0: there is none
    to compare with).

    questions: those that are answered before and after training. traced: where profiles come from; without it, and for
    a model that cannot be traced, the numbers are those of a decoder of this size.
    """

    method: MethodSpec
    train: TrainSpec
    device: str
    runtime: int  # bytes
    base: str = "none"
    questions: Questions | None = None
    stream: bool = False  # whether the frozen matrices stay on disk
    traced: "Traced | None" = None


def fit(config: Mapping[str, Any], setup: Setup, sizes: Sizes, returns: bool | None = None) -> MemoryPlan:
    """The fastest that surely fits of batch, batch/2, batch/4 ... samples at a time and of both ways of the heap.

    What the setup names is kept, and `returns` where it is given. Where nothing surely fits: the smallest.
    """
    method, train, traced = setup.method, setup.train, setup.traced
    assert train.budget is not None and method.precision != "auto"
    shape = ModelShape.from_config(config)
    share = -(-train.batch // train.devices)
    counts = [train.micro_batch] if train.micro_batch else [share] if train.fused_update else _halvings(share)
    beyond = 0 < train.budget < CERTAIN * always(shape, _load(setup, counts[-1], sizes.rows(counts[-1])))
    profile = traced.profile(config, setup) if traced and shape.parameters >= SMALL and not beyond else None
    plans: list[MemoryPlan] = []
    for size in counts:
        rows = sizes.rows(size)
        if size != counts[-1] and max(row.tokens for row in rows) > ENOUGH_TOKENS[setup.device]:
            continue
        load = _load(setup, size, rows)
        if profile is not None and traced is not None:
            plans += _traced(profile, shape, load, traced, rows, sizes.validation(size), setup, returns)
        else:
            planned = plan(shape, load, train.budget, setup.questions)
            plans.append(replace(planned, seconds=_slowness(setup, size, False), beyond=beyond))
    fitting = [one for one in plans if one.surely_fits]
    if fitting:
        return min(fitting, key=lambda one: one.seconds)
    return min(plans, key=lambda one: max(one.peak_bytes, one.high_bytes))


def _load(setup: Setup, size: int, rows: Sequence[RowSizes]) -> Load:
    method, train = setup.method, setup.train
    return Load(
        method=method.method, rank=method.rank, targets=method.targets,
        compute_bytes=COMPUTE_BYTES[method.precision], checkpointing=train.checkpointing,
        samples=size, tokens=max(row.tokens for row in rows),
        accumulates=size * train.devices < train.batch, runtime=setup.runtime, cpu=setup.device == "cpu",
        adapter=method.adapter, also=method.also,
        last_blocks=method.last_blocks, base=setup.base, devices=train.devices, optimizer=train.optimizer,
        projection=train.projection_rank, fused=train.fused_update,
        wide=2 if method.weights == "bf16" else 4, stream=setup.stream,
    )  # fmt: skip


@dataclass(frozen=True)
class Traced:
    """The source of profiles, and the kind of attention that is planned for."""

    profiles: Profiles
    attention: str

    def profile(self, config: Mapping[str, Any], setup: Setup) -> Profile | None:
        """None on several devices, for a model that cannot be traced, for activations in the host's memory, which the
        trace would count as the device's, and for weights that train on disk."""
        return self.profiles.get(self._question(config, setup)) if _traceable(setup) else None

    def reserved(self, config: Mapping[str, Any], setup: Setup, sizes: Sizes) -> Reserved | None:
        """What a GPU's allocator holds for a run whose micro-batch is decided; None likewise, and on a CPU."""
        size = setup.train.micro_batch
        if size is None or setup.device == "cpu" or not _traceable(setup):
            return None
        rows = tuple(sizes.rows(size))
        widest = max(sizes.validation(size), key=lambda row: row.tokens, default=None)
        steps = Steps(self._question(config, setup), rows, size < setup.train.batch, widest)
        return self.profiles.reserved(steps)

    def _question(self, config: Mapping[str, Any], setup: Setup) -> TraceRequest:
        method, train = setup.method, setup.train
        return TraceRequest(
            config=dict(config), method=method, precision=method.precision, base=setup.base, attention=self.attention,
            checkpointing=train.checkpointing, optimizer=train.optimizer, projection_rank=train.projection_rank,
            fused_update=train.fused_update, stream=setup.stream,
        )  # fmt: skip


def _traceable(setup: Setup) -> bool:
    paged = setup.stream and setup.method.method == "full"
    return setup.train.devices == 1 and setup.train.checkpointing != "offload" and not paged


def _traced(
    profile: Profile, shape: ModelShape, load: Load, traced: Traced, rows: Sequence[RowSizes],
    validation: Sequence[RowSizes],
    setup: Setup, returns: bool | None,
) -> list[MemoryPlan]:  # fmt: skip
    """With a heap that keeps what it may need again, and with one that gives it back, as it does tiles of a stream."""
    ways = [False, True] if load.cpu else [False]
    if load.stream and heap_returns(shape.largest):
        ways = [True]
    elif returns is not None:
        ways = [returns]
    assert setup.train.budget is not None
    plans = []
    micros = -(-setup.train.batch // (load.samples * setup.train.devices))
    for way in ways:
        setting = Setting(
            attention=traced.attention, samples=load.samples, accumulates=load.accumulates,
            runtime=load.runtime, cpu=load.cpu, returns=way, churn=churned(shape, load),
            answers=choices(shape, load, setup.questions), budget=setup.train.budget, tile=head_tile(shape, load),
        )  # fmt: skip
        planned = plan_traced(profile, rows, validation, setting)
        # By the token, since the worst rows of real data are not the usual; and with typical rates whatever this
        # machine's are, so that a plan and the run that follows it decide alike.
        rates = TYPICAL_HALF if setup.method.precision == "bf16" else TYPICAL
        step = step_time(profile, [rows[0]] * micros, traced.attention, way, rates)
        plans.append(replace(planned, seconds=(step.total - step.update) / (rows[0].tokens * micros)))
    return plans


def _slowness(setup: Setup, size: int, returns: bool) -> float:
    """The share of the work that is recomputed: orders plans by speed if no step was traced. It is no time."""
    again = {"none": 1.0, "selective": 1.15, "block": 1.33, "offload": 1.4}[setup.train.checkpointing]
    return again * (1.3 if returns else 1.0) * (1 + 0.05 / size)


def _halvings(batch: int) -> list[int]:
    sizes = [batch]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    return sizes
