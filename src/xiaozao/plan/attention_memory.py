"""The temporary memory of attention, in bytes, beyond its inputs and outputs. No torch.

The traced step (measure/trace.py) leaves them out, because they do not grow evenly with the tokens: samples of like
length are computed together, a block of queries at a time (models/layers/batched.py). Here the same blocks are gone
through, and what is alive at each product is added up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xiaozao.spec.profile import Heads

STEP = 32  # as in models/layers/attention.py: lengths are rounded up to a multiple of it
BLOCK = 128  # as in models/layers/batched.py: queries at a time


@dataclass(frozen=True)
class Bucket:
    """Samples that attention computes together: their number, and their padded length."""

    samples: int
    size: int

    @property
    def padded(self) -> int:
        return self.samples * self.size


def buckets(lengths: Sequence[int]) -> list[Bucket]:
    """The samples of a row by their length, rounded up."""
    sizes = [-(-length // STEP) * STEP for length in lengths]
    return [Bucket(sizes.count(size), size) for size in sorted(set(sizes))]


def transients(kind: str, heads: Sequence[Heads], groups: Sequence[Bucket], wide: int) -> tuple[int, int]:
    """The largest temporary memory of one attention call, in bytes: of forward, and of backward.

    Each maximum is taken over all buckets and all kinds of attention of the model. wide: bytes per element.
    """
    bytes_of = [TRANSIENTS[kind](one, group, wide) for one in heads for group in groups]
    return max((f for f, _ in bytes_of), default=0), max((b for _, b in bytes_of), default=0)


def _batched(shape: Heads, group: Bucket, wide: int) -> tuple[int, int]:
    """models/layers/batched.py, line by line. A copy is none where one sample's heads lie as the product wants them."""
    n, size = group.samples, group.size
    window = shape.window if shape.window and shape.window < size else None
    many, grouped = n > 1, n > 1 or shape.heads > shape.kv_heads
    forward = backward = 0
    before = Alive()
    for start in range(0, size, BLOCK):
        rows, first = min(BLOCK, size - start), max(0, start - window + 1) if window else 0
        span = start + rows - first
        queries, outputs = n * shape.heads * rows * shape.width, n * shape.heads * rows * shape.value_width
        keys, values = n * shape.kv_heads * span * shape.width, n * shape.kv_heads * span * shape.value_width
        scores = n * shape.heads * rows * span
        copied = (queries if grouped else 0) + (keys if many else 0)
        forward = max(
            forward,
            before.scores + before.outputs + copied + scores,
            before.outputs + scores + (values if many else 0) + outputs,
        )
        copies = copied + (outputs if grouped else 0) + (values if many else 0)
        backward = max(
            backward,
            before.copies + before.scores + before.keys + copied + scores,  # the weights, once more
            copies + before.scores + before.keys + scores + values,  # the gradient of the values
            copies + before.scores + before.keys + 2 * scores,
            copies + before.keys + 3 * scores,  # through the soft-max
            copies + scores + queries + before.keys,
            copies + scores + queries + keys,
        )
        before = Alive(scores, outputs, copies, keys)
    return wide * forward, wide * backward


@dataclass(frozen=True)
class Alive:
    """What of the block of queries before is still there, in numbers."""

    scores: int = 0
    outputs: int = 0
    copies: int = 0
    keys: int = 0


def _fused(shape: Heads, group: Bucket, wide: int) -> tuple[int, int]:
    """PyTorch's own, which takes few keys for many queries as they are: the queries' gradient in fp32 (Dao 2023)."""
    return 0, 4 * group.padded * shape.heads * shape.width if wide < 4 else 0


def _eager(shape: Heads, group: Bucket, wide: int) -> tuple[int, int]:
    """The textbook form, a block of queries at a time: scores, what is hidden, soft-max in fp32, and its way back."""
    scores = group.samples * shape.heads * min(BLOCK, group.size) * group.size
    repeated = group.padded * shape.heads * (shape.width + shape.value_width) * wide
    return repeated + scores * (2 * wide + 8), 2 * repeated + scores * (4 * wide + 12)


TRANSIENTS = {"batched": _batched, "sdpa": _fused, "eager": _eager}
