"""What crosses rows about time: how fast this machine does each kind of work, and how long a step takes."""

from dataclasses import dataclass

from pydantic import TypeAdapter

VERSION = 3  # of what is written; rates of another version are measured again


@dataclass(frozen=True)
class Rates:
    """How fast a machine is, with so many threads, in one dtype: a second's worth of each of spec.profile.COSTS.

    fresh: bytes of memory that the system gives anew. calls: operations started. Where bits were not asked for,
    unpacked and eight_bit are typical ones.
    """

    flops: float
    operands: float
    moved: float
    heavy: float
    unpacked: float
    eight_bit: float
    fresh: float
    calls: float


@dataclass(frozen=True)
class Asked:
    """What rates depend on, beside the machine: how many threads, the compute dtype, and whether weights in four bits
    or states in eight are used, whose package alone takes as long to import as all else to measure."""

    threads: int
    precision: str
    bits: bool = False


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step, by what they go to."""

    products: float
    memory: float  # passes over memory, soft-max, weights that are unpacked
    fresh: float  # memory that the system gives anew
    calls: float
    update: float  # the optimizer

    @property
    def total(self) -> float:
        return self.products + self.memory + self.fresh + self.calls + self.update


RATES, ASKED = TypeAdapter(Rates), TypeAdapter(Asked)
