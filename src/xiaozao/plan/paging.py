"""The memory of a run that trains all parameters from a file (loading/trainstore.py), in plain arithmetic. No torch.

A matrix is resident while it is used, and no two of a block are. What decides are the embedding and the head, the
largest matrices that there are: M weights of w bytes each, of which the head's pages stay from the loss until it moves.

    loss             M w  and its gradient, summed in fp32, then shortened     M (4 + w)
    backward         M w  and, of one matrix for both ends, its gradient       M w        with a block's own beside it
    optimizer step        gradients of both ends                               M 2 w      and what a rule copies;
                          weights and states a piece at a time
    save                  a piece of one weight, rounded: SAVED
"""

from xiaozao.plan.states import ADAM
from xiaozao.plan.workload import Load, ModelShape
from xiaozao.spec.plan import Moment

SAVED = 12_000_000  # bytes; a million weights as they are, copied in fp32, and rounded
STORED = 2  # bytes a weight in the model's files, while one matrix is read


def paged_moments(
    shape: ModelShape, load: Load, steady: dict[str, int], kept: int, chunk: int, back: int
) -> tuple[Moment, ...]:
    """kept: bytes of activations when forward has ended; chunk: of logits; back: in flight in a block's backward."""
    matrix, largest, wide = shape.matrix, shape.largest, load.wide
    shortened = wide if wide < 4 else 0
    cast = load.compute_bytes if load.compute_bytes < wide else 0  # autocast's copies
    norms = (2 * shape.blocks + 1) * shape.hidden
    kept += load.tokens * shape.hidden * shape.blocks * (wide - load.compute_bytes)  # autocast leaves inputs wide
    weights, states = norms * wide, norms * ADAM
    still = matrix * wide if shape.tied else 0  # of one matrix for both ends, until the embedding's gradient is there

    def moment(name: str, weights: int, gradients: int, optimizer: int, activations: int) -> Moment:
        parts = {"weights": weights, "gradients": gradients, "optimizer": optimizer, "activations": activations}
        return Moment(name, {**steady, **parts})

    kept += cast * shape.block * (1 if load.checkpointing == "block" else shape.blocks)  # of weights, for backward
    whole = copied(load)
    looked = matrix * wide if whole else 0
    converted = wide if wide != STORED else 0
    return (
        moment("load", weights + matrix * wide, 0, 0, matrix * (STORED + converted)),
        moment("loss", weights + matrix * wide, matrix * (4 + shortened), states, kept + chunk + matrix * cast),
        moment("backward", weights + still + largest * wide, still + 2 * largest * wide, states, kept + back),
        moment("optimizer step", weights + looked, matrix * wide + (still or matrix * wide), states, matrix * whole),
        moment("save", weights, 0, 0, SAVED),
    )  # fmt: skip


def copied(load: Load) -> int:
    """Bytes a parameter of what an update of a whole matrix makes beside it: Adafactor's squares in fp32, and of
    weights in bf16 the matrix and its gradient in fp32. The others move a piece at a time."""
    if load.optimizer != "adafactor":
        return 0
    return 12 if load.wide < 4 else 4
