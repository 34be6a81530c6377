"""Decides a run's open options by its budget: the fastest combination that fits, from rung to rung with less memory.

No torch.

    a rung     optimizer, base and stream, from what costs nothing of quality to what costs time as well
    on it      every checkpointing, micro-batch and way of the heap: the same numbers in more or less memory

The first rung with a way that surely fits is taken, and on it the fastest. Where plans have no interval, one that
should fit is enough: a rehearsal follows, and less precise weights are a high price for a margin that nobody measured.
What the user named is kept on every rung.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from typing import Protocol

from xiaozao.errors import UsageError
from xiaozao.spec.parts import FIRST
from xiaozao.spec.plan import Down, Effect, MemoryPlan, Reserved, WayOut
from xiaozao.spec.run import RunSpec

Changes = dict[str, str]

# How activations are kept, by device: the fastest first.
CHECKPOINTING = {"cpu": ("none", "selective", "block"), "cuda": ("none", "selective", "block", "offload")}
# From the least harm to the most: eight bits of the optimizer's states, of the frozen weights, four of them; then
# weights that are read from disk again and again, which change nothing but the time. Where the system has room to keep
# the files in memory, these come before fewer bits: of the same numbers, in 1.1 to 1.3 times the time
# (docs/budgets.md).
RUNGS: tuple[Changes, ...] = (
    {},
    {"optimizer": "adamw8bit"},
    {"base": "int8"},
    {"base": "int8", "optimizer": "adamw8bit"},
    {"base": "nf4"},
    {"base": "nf4", "optimizer": "adamw8bit"},
    {"stream": "disk"},
    {"stream": "disk", "optimizer": "adamw8bit"},
    {"stream": "disk", "base": "nf4"},
    {"stream": "disk", "base": "nf4", "optimizer": "adamw8bit"},
)
NEEDS = {"adamw8bit": "bitsandbytes", "nf4": "bitsandbytes"}  # packages that are not always there
PAGED: Changes = {"stream": "disk", "fused_update": "true"}  # for all parameters; asks for the whole batch at a time
LEAN: tuple[Changes, ...] = (
    {"checkpointing": "block"}, {"base": "nf4"}, {"stream": "disk"}, {"optimizer": "adafactor"}, {"micro_batch": "1"},
    {"fused_update": "true"}, {"weights": "bf16", "precision": "bf16"}, PAGED, {"method": "lora"},
)  # fmt: skip
TOGETHER: tuple[Changes, ...] = (
    {"checkpointing": "block", "base": "nf4", "stream": "disk"},
    {"checkpointing": "block", "optimizer": "adafactor", "weights": "bf16", "precision": "bf16", "micro_batch": "1"},
)
SHORTEST = 64  # tokens; a shorter length is no way out
WAYS = 3
MATTERS = {"micro_batch": 1, "length": 256, "rank": 16}  # whose effects are told
# Of the steps down that are told; what becomes of freed memory comes last.
ORDER = ("micro_batch", "checkpointing", "optimizer", "base", "stream")


Holds = Callable[[RunSpec], Reserved | None]  # a decided run -> what a GPU's allocator holds, where that is known


def unknown(spec: RunSpec) -> None:
    """The default for `holds`: the allocator's memory is unknown for every run."""


class Planner(Protocol):
    """Plans a run in which every option but the micro-batch is decided, and that too if it is given."""

    def __call__(self, spec: RunSpec, budget: int, /, returns: bool | None = None) -> MemoryPlan:
        """A budget of 0 is none at all; `returns`: the heap's way, or the better one."""
        ...


@dataclass(frozen=True)
class Choice:
    """A run with all options decided, its plan, the steps that led to it, and, if it does not fit, the ways out."""

    spec: RunSpec
    plan: MemoryPlan
    steps: tuple[Down, ...] = ()
    ways: tuple[WayOut, ...] = ()
    effects: tuple[Effect, ...] = ()
    unpaced: bool = False  # whether this machine's pace was asked for in vain


def choose(
    spec: RunSpec, device: str, budget: int, ask: Planner, cached: bool = False, holds: Holds = unknown
) -> Choice:
    """Decide what is `auto`, and the micro-batch. The choice's plan says whether it fits; 0 is no budget at all.

    cached: whether the system would keep weights on disk in memory, beside the budget (plan/streaming.py).
    holds: of a GPU; a choice stands only where all that its allocator holds fits. Raises UsageError for offload
    without a GPU.
    """
    if spec.train.checkpointing == "offload" and device == "cpu":
        raise UsageError("offload_cpu")
    top = spec.decided()
    best = Choice(top, ask(top, budget))
    comfort = ask(top, 0)
    if best.plan.surely_fits and best.plan.samples == comfort.samples and not best.plan.returns:
        if held := _first([best], holds):
            return _told(held, top, comfort, ask)
    tried = [best]
    for rung in _rungs(spec, cached, device):
        choices = []
        for way in _ways(spec, rung, device):
            choice = best if way == top else Choice(way, ask(way, budget))
            if choice.plan.traced < comfort.traced and not choice.plan.beyond:  # it cannot be computed so
                continue
            choices.append(choice)
            if rung and not choice.plan.surely_fits:
                break
        tried += choices
        if held := _first(_in_order(choices), holds):
            return _told(held, top, comfort, ask)
    if held := _first([one for one in tried if one.plan.fits], holds):
        return _told(held, top, comfort, ask)
    least = _pinned(min(tried, key=lambda one: one.plan.peak_bytes))
    if least.plan.beyond:  # what it would really take
        exact = ask(least.spec, 0, True if device == "cpu" else None)
        least = replace(least, plan=replace(exact, budget_bytes=budget))
    least = _holding(least, holds)
    return replace(least, ways=tuple(_ways_out(spec, least, budget, ask)))


def _rungs(spec: RunSpec, cached: bool, device: str) -> Iterator[Changes]:
    """The rungs that change only open options, have their packages installed, and go with the rest of the run."""
    opened = {name for name in FIRST if spec.options()[name] == "auto"}
    for rung in sorted(RUNGS, key=lambda one: cached and "base" in one):
        if rung.keys() <= opened and all(_is_here(value) for value in rung.values()):
            try:
                way = spec.decided(**rung)
            except UsageError:
                continue
            if device == "cpu" or not way.paged:  # a GPU cannot compute with it yet
                yield rung


def _ways(spec: RunSpec, rung: Changes, device: str) -> list[RunSpec]:
    """Every checkpointing on a rung; the leanest first where without it there is no need to look at the others."""
    first = spec.decided(**rung)
    if spec.train.checkpointing != "auto" or first.model.stream == "disk":  # all that blocks keep would be too much
        return [first]
    kinds = CHECKPOINTING[device]
    return [spec.decided(**{**rung, "checkpointing": kind}) for kind in (reversed(kinds) if rung else kinds)]


def _is_here(value: str) -> bool:
    return value not in NEEDS or find_spec(NEEDS[value]) is not None


def _in_order(choices: Sequence[Choice]) -> list[Choice]:
    """The fastest of those that surely fit; then, where plans have no interval, the leanest of those that should."""
    fitting = [one for one in choices if one.plan.surely_fits]
    likely = [one for one in choices if one.plan.fits and not one.plan.bounded and not one.plan.surely_fits]
    return [
        *sorted(fitting, key=lambda one: one.plan.seconds), *sorted(likely, key=lambda one: one.plan.peak_bytes)
    ]  # fmt: skip


def _first(choices: Sequence[Choice], holds: Holds) -> Choice | None:
    """The first choice that fits, including the memory that an allocator holds for it."""
    return next((held for one in choices if (held := _holding(one, holds)).plan.fits), None)


def _holding(choice: Choice, holds: Holds) -> Choice:
    """The choice with the memory that an allocator holds, if it is known."""
    reserved = holds(_pinned(choice).spec) if choice.plan.traced else None
    return choice if reserved is None else replace(choice, plan=choice.plan.holding(reserved))


def _pinned(choice: Choice) -> Choice:
    return replace(choice, spec=choice.spec.with_options(micro_batch=choice.plan.samples))


def _told(choice: Choice, top: RunSpec, comfort: MemoryPlan, ask: Planner) -> Choice:
    """The choice with its steps: from the run without a budget, one changed option at a time."""
    choice = _pinned(choice)
    size = max(comfort.samples, choice.plan.samples)  # larger than in comfort it may be where weights are read
    now = top.with_options(micro_batch=size)
    told, plans = [], [ask(now, 0, comfort.returns)]
    for name in ORDER:
        before, after = (str(one.options()[name]) for one in (now, choice.spec))
        if before != after:
            try:
                now = now.with_options(**{name: choice.spec.options()[name]})
            except UsageError:  # not without what comes later
                continue
            told.append((name, before, after))
            plans.append(ask(now, 0, comfort.returns))
    if choice.plan.traced:  # formulas know one way of the heap
        before, after = _way(plans[-1], plans[-1]), _way(choice.plan, plans[-1])
        if before != after:
            told.append(("heap", before, after))
            plans.append(choice.plan)
    steps = [
        Down(*one, last.peak_bytes - new.peak_bytes, new.seconds / last.seconds)
        for one, (last, new) in zip(told, pairwise(plans), strict=True)
    ]
    return replace(choice, steps=tuple(steps))


def _way(plan: MemoryPlan, free: MemoryPlan) -> str:
    """What becomes of freed memory; `free` is the same run without a budget."""
    return "returns" if plan.returns else "keeps_less" if plan.peak_bytes < free.peak_bytes else "keeps"


def _ways_out(spec: RunSpec, least: Choice, budget: int, ask: Planner) -> list[WayOut]:
    """At most three changes of the user's options that make the run fit; the last one is the smallest budget."""
    ways: list[WayOut] = []
    length = spec.data.length
    shorter = [{"length": str(one)} for one in _halves(length)]
    for changes in (*LEAN, *shorter, *({**one, "length": str(min(length, 256))} for one in TOGETHER)):
        if len(ways) == WAYS - 1 or any(changes.keys() <= one.options.keys() for one in ways):
            continue
        if not all(_is_here(value) for value in changes.values()):
            continue
        try:
            way = spec.decided(**changes) if changes is PAGED else least.spec.with_options(**changes)
        except UsageError:
            continue
        if way != least.spec and (least.plan.cpu or not way.paged):
            peak = ask(way, budget).peak_bytes + least.plan.unused  # an allocator would hold about as much beside it
            if peak <= budget:
                ways.append(WayOut(changes, peak))
    return [*ways, larger_budget(least.plan)]


def effects(choice: Choice, ask: Planner) -> tuple[Effect, ...]:
    """The memory that one more sample at a time, 256 more tokens a sample, or a rank larger by 16 would take."""
    spec, returns = choice.spec, choice.plan.returns
    now, costs = ask(spec, 0, returns).peak_bytes, []
    for option, more in MATTERS.items():
        value = spec.options()[option]
        changes = {option: value + more}
        if option == "micro_batch" and value * spec.train.devices >= spec.train.batch:
            changes["batch"] = spec.train.batch + spec.train.devices
        try:
            larger = spec.with_options(**changes)
        except UsageError:  # a method without ranks, a rank that is too large
            continue
        costs.append(Effect(option, more, ask(larger, 0, returns).peak_bytes - now))
    return tuple(costs)


def larger_budget(plan: MemoryPlan) -> WayOut:
    """The smallest budget that would fit."""
    most = max(plan.peak_bytes, plan.high_bytes)
    return WayOut({"budget": f"{-(-most // 10**7) / 100:.2f}GB"}, plan.peak_bytes)


def _halves(length: int) -> Sequence[int]:
    halves = []
    while (length := length // 2) >= SHORTEST:
        halves.append(length)
    return halves
