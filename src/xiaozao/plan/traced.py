"""The memory of a run at each moment, computed from a traced profile and the run's rows. No torch.

live    weights + optimizer's states + the highest line of the moment at the row's size      bytes that are in use
peak    runtime + live + what the heap may keep between its blocks                           the resident set
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xiaozao.plan.answers import as_many_as_fit
from xiaozao.plan.attention_memory import buckets, transients
from xiaozao.plan.memory import CHUNK, COMPILED, heap_keeps
from xiaozao.spec.plan import MemoryPlan, Moment, RowSizes
from xiaozao.spec.profile import Line, Profile, Stretch

# Where large blocks go back to the system at once, what remains: small blocks, and pages of 4 kB that are not full.
RETURNED, RETURNED_MOST = (0.01, 5_000_000), (0.05, 40_000_000)


@dataclass(frozen=True)
class Setting:
    """What a plan needs beside the profile."""

    attention: str
    samples: int
    accumulates: bool
    runtime: int
    cpu: bool
    returns: bool  # whether the heap gives large blocks back at once
    churn: int  # bytes that may be taken anew from one look at the memory to the next
    answers: list[tuple[int, int]]  # choices: questions at a time, and bytes beside the weights (plan/answers.py)
    budget: int
    tile: int = 0  # bytes of weights on disk that may be there once more than is planned


def plan_traced(
    profile: Profile, rows: Sequence[RowSizes], validation: Sequence[RowSizes], setting: Setting
) -> MemoryPlan:
    """The plan of the largest rows of a run, each of which may be the worst at some moment."""
    runtime = setting.runtime + (COMPILED if setting.cpu else 0)
    steady = {
        "runtime": runtime, "weights": profile.weights.of(profile.blocks), "gradients": 0,
        "optimizer": profile.states.of(profile.blocks), "activations": 0,
    }  # fmt: skip
    loading = {**steady, "optimizer": 0, "activations": profile.largest}
    moments = [Moment("load", loading)]
    training = profile.accumulating if setting.accumulates else profile.fresh
    after = [one for one in profile.accumulating if one.name in ("optimizer step", "validation")]
    for stretch in (*(one for one in training if one not in after), *after):
        these = validation if stretch.name == "validation" and validation else rows
        level = max(_level(profile, stretch, _numbers(profile, row, setting.attention)) for row in these)
        gradients = min(stretch.gradients.of(profile.blocks), level)
        moments.append(Moment(stretch.name, {**steady, "gradients": gradients, "activations": level - gradients}))
    together = 1
    if setting.answers:
        beside = {**steady, "optimizer": 0}
        together, taken = as_many_as_fit(setting.answers, max(one.total for one in moments) - sum(beside.values()))
        moments.append(Moment("answers", {**beside, "activations": taken}))
    load, steps = moments[0], moments[1:]
    highest = max(steps, key=lambda one: one.total)
    held, held_most = _held(setting, highest)
    steps = [one.plus(held) for one in steps]
    spare = RETURNED_MOST[1] if setting.cpu else 0  # what was needed for reading is given back before a step begins
    return MemoryPlan(
        moments=(load, *steps), budget_bytes=setting.budget, samples=setting.samples,
        tokens=max(row.tokens for row in rows), parameters=profile.parameters.of(profile.blocks),
        trainable=profile.trainable.of(profile.blocks), live_bytes=highest.total - runtime,
        low_bytes=max(load.total, highest.total) - (COMPILED if setting.cpu else 0),
        high_bytes=max(load.total + spare, highest.total + held_most),
        returns=setting.returns, together=together, traced=True, cpu=setting.cpu,
        keeps_below=highest.total + held - setting.churn if setting.cpu and not setting.returns else None,
    )  # fmt: skip


def _held(setting: Setting, highest: Moment) -> tuple[int, int]:
    """The bytes that the heap holds beside live memory: the expected number, and the guaranteed upper bound.

    If the heap keeps freed memory, the run limits how much; a smaller budget leaves it less, down to what is allocated
    anew between two checks of the gauge.
    """
    if not setting.cpu:
        return 0, 0
    most, returned = (_share(highest, one) for one in (RETURNED_MOST, RETURNED))
    if setting.returns:
        return returned, most
    most += setting.tile
    kept = heap_keeps(highest.parts["activations"], setting.churn)
    if setting.budget:
        kept = max(setting.churn, min(kept, setting.budget - highest.total - most))
    return kept, kept + most


def _share(moment: Moment, held: tuple[float, int]) -> int:
    return round(max(held[0] * moment.parts["activations"], held[1]))


def levels(profile: Profile, row: RowSizes, attention: str) -> int:
    """The bytes beside weights and states at a row's highest moment of forward and backward, gradients left out."""
    numbers = _numbers(profile, row, attention)
    return max(_level(profile, one, numbers) - one.gradients.of(profile.blocks) for one in profile.fresh)


def _numbers(profile: Profile, row: RowSizes, attention: str) -> Line:
    """The values of spec.profile.VARIABLES for a row."""
    groups = buckets(row.lengths)
    forward, backward = transients(attention, profile.attention, groups, profile.bytes)
    padded, chunk = sum(one.padded for one in groups), min(CHUNK, row.targets)
    return 1.0, row.tokens, padded, row.targets, chunk, forward, backward


def _level(profile: Profile, stretch: Stretch, numbers: Line) -> int:
    further = profile.blocks - profile.traced
    highest = max(sum(a * b for a, b in zip(line, numbers, strict=True)) for line in stretch.lines)
    return round(highest + further * sum(a * b for a, b in zip(stretch.further, numbers, strict=True)))
