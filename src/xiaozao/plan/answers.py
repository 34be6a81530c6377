"""How many questions are answered together: as many as fit beside the weights where training has its peak. No torch."""

from xiaozao.plan.streaming import tile_bytes
from xiaozao.plan.workload import Load, ModelShape
from xiaozao.spec.plan import Questions

MOST = 64
ROOM = 128  # tokens by which keys and values grow, as in models/layers/kvcache.py


def choices(shape: ModelShape, load: Load, questions: Questions | None) -> list[tuple[int, int]]:
    """From all at once, or 64, to one alone: how many questions, and the bytes beside the weights. Empty: none."""
    if questions is None:
        return []
    counts = [min(MOST, questions.number)]
    while counts[-1] > 1:
        counts.append(1 << (counts[-1] - 1).bit_length() - 1)
    return [(one, _bytes(shape, load, questions, one)) for one in counts]


def as_many_as_fit(found: list[tuple[int, int]], room: int) -> tuple[int, int]:
    """The first of the choices within so many bytes, else the last."""
    return next((one for one in found if one[1] <= room), found[-1])


def _bytes(shape: ModelShape, load: Load, questions: Questions, together: int) -> int:
    """Keys and values of all, and what else is there while the questions are read or while a layer grows; the matrix of
    a base that is not kept as it is computed with. The loss of the right answers, of as many together, takes less."""
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
