"""What a run's steps take and give back, in order: of measure/recording.py, for plan/reserved.py. No torch."""

from dataclasses import dataclass
from typing import NamedTuple

from pydantic import TypeAdapter

from xiaozao.spec.plan import Reserved, RowSizes
from xiaozao.spec.profile import Heads, TraceRequest

VERSION = 2  # of tapes and of their replay; what another version found is replayed again


class Taken(NamedTuple):
    """A block of memory, by a number of its own; bytes."""

    number: int
    size: int


class Given(NamedTuple):
    """The block is free again."""

    number: int


class Attends(NamedTuple):
    """Attention runs, and takes for itself what plan/attention_memory.py says; kind: "forward" or "backward"."""

    kind: str
    heads: Heads


Event = Taken | Given | Attends | RowSizes  # a row: the micro-batch that begins


@dataclass(frozen=True)
class Steps:
    """What is asked: the largest micro-batches, each of which makes a step, and the largest of the validation.

    accumulates: whether a step has more than one micro-batch.
    """

    question: TraceRequest
    rows: tuple[RowSizes, ...]
    accumulates: bool
    validation: RowSizes | None


RESERVED = TypeAdapter(Reserved)
ASKED: TypeAdapter[TraceRequest | Steps] = TypeAdapter(TraceRequest | Steps)
