"""The types for memory: the plan of a run, as numbers. Bytes are integers, 1 GB = 10^9 bytes."""

from dataclasses import dataclass, replace
from typing import Literal

from xiaozao.spec.pace import StepTime

SAFE = 0.85  # of the budget: a plan without an interval that is above it is tight
PARTS = ("weights", "gradients", "optimizer", "activations", "runtime")
APART = ("load", "answers")  # moments before and after training


@dataclass(frozen=True)
class RowSizes:
    """A micro-batch as its sizes: the tokens of each sequence, and how many of all of them are targets."""

    lengths: tuple[int, ...]
    targets: int

    @property
    def tokens(self) -> int:
        return sum(self.lengths)


@dataclass(frozen=True)
class Reserved:
    """The peaks of a GPU's caching allocator in bytes: memory in use, and memory reserved from the device."""

    allocated: int
    reserved: int


@dataclass(frozen=True)
class Questions:
    """The sizes of a run's questions, which are answered before and after training."""

    number: int
    tokens: int  # of the longest
    answer: int  # tokens, at most


@dataclass(frozen=True)
class Moment:
    """The memory held at one moment of the run, by part."""

    name: str  # "load", "forward", "loss", "backward", "end of backward", "optimizer step", "validation", "answers"
    parts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def plus(self, activations: int) -> "Moment":
        """The same moment with so many more bytes of activations."""
        return Moment(self.name, {**self.parts, "activations": self.parts["activations"] + activations})


Verdict = Literal["fits", "tight", "too_big", "no_budget"]


@dataclass(frozen=True)
class Range:
    """A planned peak with its guaranteed interval, against a budget; bytes. low = high: the plan has no interval."""

    peak: int
    low: int
    high: int
    budget: int  # 0: there is none to compare with

    @property
    def bounded(self) -> bool:
        return self.high > self.low

    @property
    def verdict(self) -> Verdict:
        """`fits`: the upper end of the interval does, or without one the peak does with a share of the budget to spare.
        `tight`: the peak alone does."""
        if not self.budget:
            return "no_budget"
        if self.peak > self.budget:
            return "too_big"
        most = self.high if self.bounded else self.peak / SAFE
        return "fits" if most <= self.budget else "tight"


@dataclass(frozen=True)
class MemoryPlan:
    """A run's memory: its moments, of which the largest is the peak, against a budget; 0 where there is none."""

    moments: tuple[Moment, ...]
    budget_bytes: int
    samples: int  # in a micro-batch
    tokens: int  # in the largest micro-batch
    parameters: int
    trainable: int
    live_bytes: int = 0  # in use at training's peak, without runtime and what the heap keeps; 0 where it is not known
    low_bytes: int = 0  # the guaranteed interval
    high_bytes: int = 0
    cpu: bool = True
    reserved: Reserved | None = None  # of a GPU's allocator, where it is known
    returns: bool = False  # whether the heap has to give large blocks back at once (machine/heap.py)
    keeps_below: int | None = None  # bytes of the resident set, above which the heap gives back what is free
    together: int = 1  # questions that are answered at a time
    beyond: bool = False  # whether the budget is less than weights and states alone, so that nothing was traced
    traced: bool = False  # whether the model was traced; else the numbers are those of a decoder of its size
    step: StepTime | None = None  # None where the machine's pace or the model's work is not known
    seconds: float = 1.0  # that a token takes, beside the same of other plans of a run; no promise of its own

    @property
    def peak(self) -> Moment:
        return max(self.moments, key=lambda moment: moment.total)

    @property
    def peak_bytes(self) -> int:
        return self.peak.total

    def holding(self, reserved: Reserved) -> "MemoryPlan":
        """The plan with the memory that a GPU's allocator holds; what it holds and does not use counts as runtime."""
        more = max(0, reserved.reserved - max(_in_use(one) for one in self.moments if one.name not in APART))
        moments = tuple(
            one if one.name in APART else Moment(one.name, {**one.parts, "runtime": one.parts["runtime"] + more})
            for one in self.moments
        )
        return replace(self, moments=moments, reserved=reserved, low_bytes=0, high_bytes=0)

    @property
    def allocated(self) -> int:
        """The device memory in use at the peak, without the runtime and unused reserved memory."""
        return max(self.reserved.allocated if self.reserved else 0, *(_in_use(one) for one in self.moments))

    @property
    def unused(self) -> int:
        """The device memory that is reserved and unused at the peak; 0 if unknown."""
        return max(0, self.reserved.reserved - self.reserved.allocated) if self.reserved else 0

    @property
    def range(self) -> "Range":
        return Range(self.peak_bytes, self.low_bytes, self.high_bytes, self.budget_bytes)

    @property
    def bounded(self) -> bool:
        """Whether the plan has a guaranteed interval."""
        return self.range.bounded

    @property
    def surely_fits(self) -> bool:
        """Whether the whole interval fits, or there is no budget."""
        return self.range.verdict in ("fits", "no_budget")

    @property
    def fits(self) -> bool:
        """Whether the peak fits, or there is no budget."""
        return self.range.verdict != "too_big"


@dataclass(frozen=True)
class Down:
    """A step down the ladder (plan/ladder.py): an option, what it saves and what it costs."""

    option: str
    before: str
    after: str
    saves_bytes: int  # at the peak
    slower: float  # a step's time over that before


@dataclass(frozen=True)
class Effect:
    """The cost of a larger value of an option: by how much it is larger, and the additional bytes at the peak."""

    option: str
    more: int
    peak_bytes: int  # in addition


@dataclass(frozen=True)
class WayOut:
    """A change that would make a run fit: the changed options, and the peak with them."""

    options: dict[str, str]
    peak_bytes: int

    def words(self) -> dict[str, str]:
        """The parameters of the text about it."""
        named = " ".join(f"{name}={value}" for name, value in self.options.items())
        return {"options": named, "peak": f"{self.peak_bytes / 1e9:.2f}"}


def _in_use(moment: Moment) -> int:
    return moment.total - moment.parts["runtime"]
