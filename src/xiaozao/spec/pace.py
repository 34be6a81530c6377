"""The types for times: how fast a machine does each kind of work, and how long a step takes."""

from dataclasses import dataclass

from pydantic import TypeAdapter

VERSION = 3  # of what is written; rates of another version are measured again


@dataclass(frozen=True)
class Rates:
    """The speed of a machine with so many threads and a dtype: the amount per second of each of spec.profile.COSTS.

    fresh: bytes of new memory pages. calls: operations started. If the work with bits was not measured, `unpacked` and
    `eight_bit` have typical values.
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
    """What rates depend on beside the machine: threads, dtype, and whether 4-bit weights or 8-bit states are used.

    Importing the package for those bits takes as long as measuring all other rates, so it is done only on request."""

    threads: int
    precision: str
    bits: bool = False


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step, by kind of work."""

    products: float
    memory: float  # passes over memory, soft-max, weights that are unpacked
    fresh: float  # memory that the system gives anew
    calls: float
    update: float  # the optimizer

    @property
    def total(self) -> float:
        return self.products + self.memory + self.fresh + self.calls + self.update


RATES, ASKED = TypeAdapter(Rates), TypeAdapter(Asked)
