"""A tape: the allocations and frees of a run's steps, from measure/recording.py to plan/reserved.py.

No torch."""

from dataclasses import dataclass
from typing import NamedTuple

from pydantic import TypeAdapter

from xiaozao.spec.plan import Reserved, RowSizes
from xiaozao.spec.profile import Heads, TraceRequest

VERSION = 2  # of tapes and of their replay; what another version found is replayed again


class Taken(NamedTuple):
    """An allocation: the number of the block, and its bytes."""

    number: int
    size: int


class Given(NamedTuple):
    """The block of this number is freed."""

    number: int


class Attends(NamedTuple):
    """Attention runs, and takes for itself what plan/attention_memory.py says; kind: "forward" or "backward"."""

    kind: str
    heads: Heads


Event = Taken | Given | Attends | RowSizes  # a row: the micro-batch that begins


@dataclass(frozen=True)
class Steps:
    """The steps to record: one for each of the largest micro-batches, and the largest validation micro-batch.

    accumulates: whether a step has more than one micro-batch.
    """

    question: TraceRequest
    rows: tuple[RowSizes, ...]
    accumulates: bool
    validation: RowSizes | None


RESERVED = TypeAdapter(Reserved)
ASKED: TypeAdapter[TraceRequest | Steps] = TypeAdapter(TraceRequest | Steps)
