"""How many questions are answered in one batch: as many as fit into the memory of training's peak. No torch."""

from xiaozao.plan.streaming import tile_bytes
from xiaozao.plan.workload import Load, ModelShape
from xiaozao.spec.plan import Questions

MOST = 64
ROOM = 128  # tokens by which keys and values grow, as in models/layers/kvcache.py


def choices(shape: ModelShape, load: Load, questions: Questions | None) -> list[tuple[int, int]]:
    """List the batch sizes for answering, each with the memory that it needs in addition to the weights, in bytes.

    The first is the number of questions, at most 64; then come the smaller powers of two, down to 1. Empty without
    questions.
    """
    if questions is None:
        return []
    counts = [min(MOST, questions.number)]
    while counts[-1] > 1:
        counts.append(1 << (counts[-1] - 1).bit_length() - 1)
    return [(one, _bytes(shape, load, questions, one)) for one in counts]


def as_many_as_fit(choices: list[tuple[int, int]], room: int) -> tuple[int, int]:
    """The largest batch size that takes at most so many bytes, else the smallest."""
    return next((one for one in choices if one[1] <= room), choices[-1])


def _bytes(shape: ModelShape, load: Load, questions: Questions, together: int) -> int:
    """The bytes of a batch beside the weights: the key-value cache, the activations while prompts are read or the cache
    grows, and the matrix of a quantised base. The loss of the right answers, in the same batches, takes less."""
    number = load.wide if load.method == "full" else load.compute_bytes
    token = 2 * shape.key * shape.blocks * number
    inside = number * (3 * shape.width + 5 * shape.hidden)
    mask = 5 * together * questions.tokens**2  # in bytes, and as numbers
    reading = together * questions.tokens * (token + inside) + mask
    kept = questions.tokens + questions.answer
    if not load.cpu:  # where pages that nobody touched take no memory
        kept = -(-kept // ROOM) * ROOM
    ended = together * kept * token * (1 + 2 / shape.blocks)
    tile = tile_bytes(max(shape.largest, shape.matrix), load.compute_bytes, load.base) if load.stream else 0
    return round(max(reading, ended)) + load.dequantised(shape) + tile
