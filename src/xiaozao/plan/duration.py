"""The time of a step: a traced profile, the step's micro-batches and the machine's rates -> seconds. No torch.

    seconds = sum over kinds of work of  how much (spec.profile.Work) / how fast (spec.pace.Rates)

Kinds of work are taken to follow each other, as they do on a CPU. Memory that is new to the process costs a page fault
each 4 kB: where the heap gives large blocks back at once, all storages are new; where it keeps them, those of a step's
peak are, because the loop gives the heap back between steps (machine/heap.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from xiaozao.plan.attention_memory import buckets
from xiaozao.plan.attention_work import attended
from xiaozao.plan.memory import CHUNK
from xiaozao.plan.traced import levels
from xiaozao.plan.workload import ModelShape
from xiaozao.spec.pace import Rates, StepTime
from xiaozao.spec.plan import RowSizes
from xiaozao.spec.profile import COSTS, Profile, Work

Costs = tuple[float, ...]  # one number for each of COSTS
PRODUCTS, MEMORY = ("flops", "operands"), ("moved", "heavy", "unpacked", "eight_bit")

# One core of an AMD EPYC in fp32, and of one that multiplies bf16 fast in bf16 (python -m xiaozao.measure.calibrate):
# for what has to be compared where nothing was measured. An order between two ways of training follows from them; a
# time does not. (The first's eight_bit is what it was before, times what the second's gained by a faster update.)
TYPICAL = Rates(
    flops=61e9, operands=7.5e9, moved=13e9, heavy=0.58e9, unpacked=0.9e9, eight_bit=0.05e9, fresh=1.35e9, calls=0.95e5
)  # fmt: skip
TYPICAL_HALF = Rates(
    flops=220e9, operands=12e9, moved=26e9, heavy=1.7e9, unpacked=4.8e9, eight_bit=0.11e9, fresh=2.5e9, calls=0.95e5
)  # fmt: skip


def step_time(profile: Profile, rows: Sequence[RowSizes], attention: str, returns: bool, rates: Rates) -> StepTime:
    """One optimizer step over these micro-batches, in order; `returns`: the heap gives large blocks back at once.

    attention is the kind that the plan is for; the work of those beside "batched" is taken to be the same.
    """
    pieces = {one.name: one for one in profile.work}
    done = [work_of(pieces["later" if number else "fresh"], row, profile.bytes) for number, row in enumerate(rows)]
    update = work_of(pieces["update"], rows[0], profile.bytes)
    costs = dict(zip(COSTS, map(sum, zip(*done, strict=True)), strict=True))
    if not returns:
        costs["fresh"] = max(levels(profile, row, attention) for row in rows)
    spent = _seconds(costs, rates)
    moving = _seconds({**dict(zip(COSTS, update, strict=True)), **({} if returns else {"fresh": 0.0})}, rates)
    return StepTime(
        products=sum(spent[name] for name in PRODUCTS), memory=sum(spent[name] for name in MEMORY),
        fresh=spent["fresh"], calls=spent["calls"], update=sum(moving.values()),
    )  # fmt: skip


def least_hours(config: Mapping[str, Any], checkpointing: str, tokens: int, length: int, rates: Rates) -> float:
    """Hours of LoRA over so many tokens in samples of `length`, at least: the matrix products of a dense decoder alone.

    For a model that is not here to be traced. A frozen matrix multiplies in forward and once in backward, and in
    forward once more where blocks are computed again; attention as in plan/attention_work.py, over half of all pairs.
    """
    shape = ModelShape.from_config(config)
    head = shape.vocabulary * shape.hidden
    blocks = shape.parameters - head * (1 if shape.tied else 2)
    again = 1 if checkpointing == "block" else 0
    pairs = shape.blocks * shape.query * length / 2
    flops = 2 * blocks * (2 + again) + 4 * head + 2 * pairs * (2 + 5 + 2 * again)
    return tokens * flops / rates.flops / 3600


def work_of(piece: Work, row: RowSizes, wide: int) -> Costs:
    """The amount of each kind of work of a piece of a step, for a row. wide: bytes of a number in the compute dtype."""
    groups = buckets(row.lengths)
    numbers = 1.0, row.tokens, sum(one.padded for one in groups), row.targets, -(-row.targets // CHUNK)
    costs_of = [sum(a * b for a, b in zip(line, numbers, strict=True)) for line in piece.costs]
    for attention in piece.attended:
        for group in groups:
            costs = attended(attention.heads, attention.kind, group, wide)
            costs_of = [a + attention.times * b for a, b in zip(costs_of, costs, strict=True)]
    return tuple(costs_of)


def _seconds(costs: Mapping[str, float], rates: Rates) -> dict[str, float]:
    fast = vars(rates)
    return {name: max(0.0, count) / fast[name] for name, count in costs.items()}
