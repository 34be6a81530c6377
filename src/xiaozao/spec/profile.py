"""The type for traced steps: their memory and work as numbers, written by measure/trace.py, read by plan/. No torch.

A model is traced with few blocks at a few sizes, and what each moment holds is written as a sum of coefficients times
these variables, so that any number of blocks and any micro-batch follow by arithmetic:

    one, tokens T, padded tokens P of attention's buckets, targets N, the rows of a chunk of logits, and attention's own
    transient bytes, forward and backward (plan/attention_memory.py)

Beside the bytes stands the work of a step (measure/work.py), likewise as coefficients: its time is planned from it.
"""

from dataclasses import dataclass

from pydantic import TypeAdapter

from xiaozao.spec.parts import MethodSpec

VERSION = 10  # of what is written; a profile of another version is traced again
VARIABLES = ("one", "tokens", "padded", "targets", "chunk", "forward", "backward")
Line = tuple[float, ...]  # a coefficient, in bytes, for each of VARIABLES
WORK_VARIABLES = ("one", "tokens", "padded", "targets", "chunks")  # chunks of logits
COSTS = ("flops", "operands", "moved", "heavy", "unpacked", "eight_bit", "fresh", "calls")  # as in measure/work.py


@dataclass(frozen=True)
class TraceRequest:
    """What a profile depends on: the model's config and what of a run changes how memory is used."""

    config: dict[str, object]
    method: MethodSpec
    precision: str  # the compute dtype
    base: str
    attention: str
    checkpointing: str
    optimizer: str
    projection_rank: int
    fused_update: bool
    stream: bool = False  # whether the frozen matrices stay on disk


@dataclass(frozen=True)
class Amount:
    """Bytes or parameters of a model: outside its blocks, and in each block."""

    outside: float
    block: float

    def of(self, blocks: int) -> int:
        return round(self.outside + self.block * blocks)


@dataclass(frozen=True)
class Stretch:
    """A part of a step: linear functions of the sizes, whose maximum is its memory, and what a further block adds.

    gradients: the share of it that is gradients, in the same form. All are bytes beside weights and optimizer states.
    """

    name: str  # "forward", "loss", "backward", "end of backward", "optimizer step", "validation"
    lines: tuple[Line, ...]
    further: Line
    gradients: Amount


@dataclass(frozen=True)
class Heads:
    """The attention of a block: query heads, key heads, their width and that of the values, and a window."""

    heads: int
    kv_heads: int
    width: int
    value_width: int
    window: int | None


@dataclass(frozen=True)
class Attended:
    """How often a piece of a step computes attention of that shape for a bucket; kind: "forward" or "backward"."""

    heads: Heads
    kind: str
    times: float


@dataclass(frozen=True)
class Work:
    """What a piece of a step computes in the whole model; attention's own work is left to plan/attention_work.py."""

    name: str  # "fresh" and "later": a step's first micro-batch, and each that follows; "update"
    costs: tuple[Line, ...]  # of each of COSTS: a coefficient for each of WORK_VARIABLES
    attended: tuple[Attended, ...]


@dataclass(frozen=True)
class Profile:
    """A model and a method, traced; bytes unless said otherwise."""

    version: int
    blocks: int  # of the model
    traced: int  # blocks that the lines are of
    parameters: Amount  # how many
    trainable: Amount  # how many
    weights: Amount
    states: Amount  # of the optimizer
    largest: int  # that loading holds beside the weights
    bytes: int  # of a number in the compute dtype
    attention: tuple[Heads, ...]  # the different ones
    fresh: tuple[Stretch, ...]  # of a step's first micro-batch
    accumulating: tuple[Stretch, ...]  # of a later one, on top of all gradients; and of what follows the last
    work: tuple[Work, ...]


QUESTION, PROFILE = TypeAdapter(TraceRequest), TypeAdapter(Profile)
