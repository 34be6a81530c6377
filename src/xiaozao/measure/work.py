"""Counts the work of operations from the shapes of their inputs and outputs, to plan the time of a step.

    flops      of matrix products                       operands   bytes that products read and write
    moved      bytes that all else reads and writes     heavy      elements of soft-max, silu, mixed dtypes: slow ones
    unpacked   weights made of four bits                eight_bit  elements moved with states of eight bits
    fresh      bytes of new storages                    calls      operations

Views are calls and nothing else. What looks up rows of a table reads those rows, not the table.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xiaozao.spec.profile import COSTS, Attended, Heads, Line, Work

PLACES = {name: place for place, name in enumerate(COSTS)}
PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "addmm_": (1, 2), "baddbmm": (1, 2), "baddbmm_": (1, 2)}
HEAVY = (
    "silu", "silu_backward", "_softmax", "_softmax_backward_data", "gelu", "gelu_backward", "sigmoid",
    "sigmoid_backward", "exp", "tanh", "tanh_backward", "cos", "sin", "pow", "log", "bernoulli_", "normal_", "randint",
)  # fmt: skip
LOOKUPS = ("embedding", "index_select", "index", "gather")
SCATTERS = ("index_put_", "_index_put_impl_", "index_add_", "scatter_add_")
UNCOUNTED = ("_unsafe_view", "detach", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
ONLY_WRITTEN = ("copy_", "fill_", "zero_")
UNPACKING = ("dequantize_4bit", "dequantize_blockwise")


class Phase(NamedTuple):
    """A phase of a step: a kind of work, and the number of the block that does it."""

    kind: Literal["between", "forward", "loss", "backward", "optimizer step", "validation"]
    block: int | None = None

    @property
    def in_a_pass(self) -> bool:
        """Whether it belongs to a micro-batch, and not to what follows a step's last one."""
        return self not in (UPDATE, VALIDATION)


BETWEEN, LOSS, UPDATE, VALIDATION = Phase("between"), Phase("loss"), Phase("optimizer step"), Phase("validation")


@dataclass
class Tally:
    """The work of a piece of code: a number for each of COSTS, and how often attention ran, by its shape."""

    costs: list[float] = field(default_factory=lambda: [0.0] * len(COSTS))
    attended: Counter[tuple[Heads, str]] = field(default_factory=Counter)

    def add(self, name: str, count: float) -> None:
        self.costs[PLACES[name]] += count

    def count(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
        """One operation; new storages are told apart (ledger.py)."""
        kind = _kind(func)
        if kind == "none":
            return
        self.add("calls", 1)
        if kind == "view":
            return
        outputs = _tensors([out])
        if kind == "product":
            factor, other = (args[place] for place in PRODUCTS[func.overloadpacket.__name__])
            self.add("flops", 2.0 * factor.numel() * other.shape[-1])
            self.add("operands", _bytes([factor, other]) + _bytes(outputs) * _written(func))
        elif kind == "eight_bit":
            self.add(kind, _tensors(args)[0].numel())
        elif kind in ("unpacked", "heavy"):
            self.add(kind, sum(one.numel() for one in outputs))
        elif kind == "lookup":
            self.add("moved", 2.0 * _bytes(outputs))
        elif kind == "scatter":
            self.add("moved", 3.0 * _bytes(_tensors(args)[-1:]))
        elif _mixed(_tensors([*args, *kwargs.values()])) and not func.overloadpacket.__name__.endswith("copy_"):
            self.add("heavy", sum(one.numel() for one in outputs))
        else:
            self.add("moved", _moved(func, args, kwargs, outputs))

    def plus(self, other: "Tally", times: float = 1.0) -> "Tally":
        """The sum of both tallies, the other one multiplied."""
        costs = [a + times * b for a, b in zip(self.costs, other.costs, strict=True)]
        keys = {*self.attended, *other.attended}
        # A Counter holds integers by its type alone; shares of a model's blocks are whole numbers as well.
        return Tally(costs, Counter({key: self.attended[key] + round(times * other.attended[key]) for key in keys}))


@dataclass(frozen=True)
class Further:
    """The blocks that were not traced: how many, and what of an update each of them makes."""

    blocks: int
    share: float


def pieces(
    fresh: Sequence[dict[Phase, Tally]], later: Sequence[dict[Phase, Tally]], numbers: Sequence[Line], further: Further
) -> tuple[Work, ...]:
    """The pieces of a step (spec.profile.Work) from counts by phase at as many sizes as there are variables.

    numbers: the variables' values at each size. Blocks that were not traced are as the second.
    """
    made = []
    for name, sizes, updates in (("fresh", fresh, False), ("later", later, False), ("update", later, True)):
        tallies = []
        for size in sizes:
            ours = {phase: one for phase, one in size.items() if (phase == UPDATE if updates else phase.in_a_pass)}
            whole = _total(ours.values())
            if updates:
                tallies.append(whole.plus(whole, further.blocks * further.share))
            else:
                block = _total(one for phase, one in ours.items() if phase.block == 1)
                tallies.append(whole.plus(block, further.blocks))
        made.append(_lined_up(name, tallies, numbers))
    return tuple(made)


def _lined_up(name: str, tallies: Sequence[Tally], numbers: Sequence[Line]) -> Work:
    """Each cost as a line through its values at the sizes."""
    values = np.array(numbers, dtype=np.float64)
    lines = np.linalg.solve(values, np.array([one.costs for one in tallies], dtype=np.float64)).T.tolist()
    attended = (Attended(heads, kind, float(times)) for (heads, kind), times in tallies[0].attended.items() if times)
    return Work(name, tuple(tuple(round(one, 3) for one in line) for line in lines), tuple(attended))


def _total(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total = total.plus(tally)
    return total


@cache
def _kind(func: Any) -> str:
    """How an operation is counted; "none" for what asks for a property alone, "" for one pass over memory."""
    name = func.overloadpacket.__name__
    if func.namespace == "prim":
        return "none"
    if func.is_view or name in UNCOUNTED:
        return "view"
    if name == "adamw8bit":
        return "eight_bit"
    kinds = (
        ("product", PRODUCTS),
        ("unpacked", UNPACKING),
        ("heavy", HEAVY),
        ("lookup", LOOKUPS),
        ("scatter", SCATTERS),
    )
    return next((kind for kind, names in kinds if name in names), "")


@cache
def _passes(func: Any) -> tuple[tuple[str, int], ...]:
    """The arguments of an operation, and how often each is gone through: what is changed in place, twice."""
    name, passes = func.overloadpacket.__name__, []
    for argument in func._schema.arguments:
        written = argument.alias_info is not None and argument.alias_info.is_write
        only = name in ONLY_WRITTEN or argument.kwarg_only
        passes.append((argument.name, -1 if written and only else -2 if written else 1))
    return tuple(passes)


def _written(func: Any) -> int:
    return 2 if func.overloadpacket.__name__.endswith("_") else 1


def _moved(func: Any, args: Sequence[Any], kwargs: dict[str, Any], outputs: list[Tensor]) -> float:
    """Bytes read and written; what is changed in place is none of the outputs."""
    moved, changed = 0.0, set[int]()
    for place, (name, times) in enumerate(_passes(func)):
        tensors = _tensors([args[place] if place < len(args) else kwargs.get(name)])
        moved += _bytes(tensors) * abs(times)
        if times < 0:
            changed.update(id(tensor) for tensor in tensors)
    return moved + _bytes(one for one in outputs if id(one) not in changed)


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    tensors: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, list | tuple):
            tensors += [inner for inner in value if isinstance(inner, Tensor)]
    return tensors


def _bytes(tensors: Iterable[Tensor]) -> float:
    """What is expanded lies in memory once."""
    return float(sum(min(one.numel() * one.itemsize, one.untyped_storage().nbytes()) for one in tensors))


def _mixed(inputs: list[Tensor]) -> bool:
    """Whether whole tensors of different dtypes meet, which computes an element at a time; a copy converts fast."""
    return len(inputs) > 1 and len({one.dtype for one in inputs if one.numel() > 1 and one.dtype != torch.int64}) > 1
