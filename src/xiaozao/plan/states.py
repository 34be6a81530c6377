"""The bytes of an optimizer's states, and of the gradients that are held until the update. No torch.

adamw         two moments in fp32                                    8 bytes a parameter
adamw8bit     two moments in 8 bits, a scale of each per 256         2 + 8 / 256
adafactor     of a matrix a row and a column, of a vector all        about 0
apollo-mini   of a block's matrix two rows of its long side          the rest as adamw
galore        of a block's matrix a projector and two moments        rank x (short + 2 long) x 4; the rest as adamw
badam         as adamw, of one block or outer matrix at a time
"""

from collections.abc import Callable

from xiaozao.plan.workload import Load, ModelShape

ADAM = 8  # bytes a parameter
EIGHT_BIT = 2 + 8 / 256  # two codes, and two scales of a block of 256
MOST = 2  # gradients that are there at a time when each is used at once: one, and the next that is being computed


def state_bytes(shape: ModelShape, load: Load) -> int:
    """The optimizer's states, over all devices."""
    return round(STATES[load.optimizer](shape, load))


def held_states(shape: ModelShape, load: Load) -> int:
    """The states on one device. Only AdamW moves rows alone; the others keep whole states on every device."""
    everything = state_bytes(shape, load)
    return everything // load.devices if load.optimizer == "adamw" else everything


def whole_update(shape: ModelShape, load: Load) -> int:
    """Bytes of a parameter and its gradient, made whole on each device for an update that looks across rows."""
    if load.devices == 1 or load.optimizer == "adamw":
        return 0
    if load.method == "lora":
        return 2 * load.wide * load.rank * max(max(io) for io in shape.linears.values())
    return 2 * load.wide * max(shape.matrix, *(ins * outs for ins, outs in shape.linears.values()))


def gradient_bytes(shape: ModelShape, load: Load) -> int:
    """The gradients at the end of backward, over all devices."""
    if load.fused:
        return load.wide * MOST * max(shape.matrix, *(ins * outs for ins, outs in shape.linears.values()))
    return load.wide * (_on_turn(shape) if load.optimizer == "badam" else load.trainable(shape))


def _adamw(shape: ModelShape, load: Load) -> float:
    return ADAM * load.trainable(shape)


def _adamw8bit(shape: ModelShape, load: Load) -> float:
    return EIGHT_BIT * load.trainable(shape)


def _adafactor(shape: ModelShape, load: Load) -> float:
    if load.method == "lora":
        return 4 * sum(2 * load.rank + ins + outs for ins, outs in shape.adapted(load.targets))
    inside = sum(ins + outs for ins, outs in shape.linears.values()) + 2 * shape.hidden
    return 4 * (
        _learning_blocks(shape, load) * inside
        + shape.hidden
        + _outside(shape, load) * (shape.vocabulary + shape.hidden)
    )


def _apollo(shape: ModelShape, load: Load) -> float:
    return _projected(shape, load, lambda short, long: 2 * long, 1)


def _galore(shape: ModelShape, load: Load) -> float:
    return _projected(shape, load, lambda short, long: load.projection * (short + 2 * long), load.projection)


def _badam(shape: ModelShape, load: Load) -> float:
    return ADAM * _on_turn(shape)


def _projected(shape: ModelShape, load: Load, numbers: Callable[[int, int], int], rank: int) -> float:
    """`numbers` in fp32 for each matrix of the blocks that is wider than `rank`, and Adam for all else."""
    block = 4 * sum(numbers(min(io), max(io)) if min(io) > rank else 2 * io[0] * io[1] for io in shape.linears.values())
    rest = load.trainable(shape) - _learning_blocks(shape, load) * (shape.block - 2 * shape.hidden)
    return _learning_blocks(shape, load) * block + ADAM * rest


def _on_turn(shape: ModelShape) -> int:
    """The largest number of parameters that train at a time: those of a block, or of a matrix outside the blocks."""
    return max(shape.block + shape.hidden, shape.matrix)


def _learning_blocks(shape: ModelShape, load: Load) -> int:
    return shape.blocks if load.last_blocks is None else min(load.last_blocks, shape.blocks)


def _outside(shape: ModelShape, load: Load) -> int:
    """Matrices outside the blocks that learn: the embedding, and a head of its own."""
    head = 0 if shape.tied else 1
    return head if load.last_blocks is not None else 1 + head


STATES: dict[str, Callable[[ModelShape, Load], float]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "adafactor": _adafactor,
    "apollo-mini": _apollo,
    "galore": _galore,
    "badam": _badam,
}
