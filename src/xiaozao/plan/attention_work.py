"""The work of attention, which grows with the square of a sample's length: layers/batched.py in numbers. No torch."""

from functools import lru_cache

from xiaozao.plan.attention_memory import BLOCK, Bucket
from xiaozao.spec.profile import COSTS, Heads


@lru_cache(maxsize=4096)
def attended(shape: Heads, kind: str, bucket: Bucket, wide: int) -> tuple[float, ...]:
    """Each of COSTS for one bucket, forward or backward; `wide` bytes a number.

    Forward multiplies twice (scores, values), backward five times, the scores computed anew among them. Each product
    goes over the scores once; so do the soft-max, its way back, and what is hidden over a block's own scores.
    """
    n, size = bucket.samples, bucket.size
    window = shape.window if shape.window and shape.window < size else size
    flops = operands = moved = heavy = fresh = calls = 0.0
    back = kind == "backward"
    for start in range(0, size, BLOCK):
        rows = min(BLOCK, size - start)
        span = start + rows - max(0, start - window + 1)
        scores = n * shape.heads * rows * span
        queries, keys = n * shape.heads * rows, n * shape.kv_heads * span
        width, values = shape.width, shape.value_width
        flops += 2 * scores * ((3 * width + 2 * values) if back else (width + values))
        operands += wide * (
            scores * (5 if back else 2) + (queries + keys) * ((3 * width + 2 * values) if back else (width + values))
        )
        heavy += scores * (2 if back else 1)
        moved += wide * (3 * n * shape.heads * rows * min(rows, span))  # the mask
        moved += wide * 2 * (queries + keys) * (width + values) * (2 if back else 1)  # copies side by side, and sums
        fresh += wide * (scores * (2 if back else 1) + (queries + keys) * (width + values))
        calls += 45 if back else 18
    work = {"flops": flops, "operands": operands, "moved": moved, "heavy": heavy, "fresh": fresh, "calls": calls}
    return tuple(work.get(name, 0.0) for name in COSTS)
