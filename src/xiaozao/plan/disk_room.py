"""How many bytes a run writes to the disk; worker/limits.py refuses a run that lacks them. No torch.

    checkpoint   trainable weights and the optimizer's states, as they are in memory
    at once      the newest `keep`, the best one where it is older, and the one that is being written
    result       adapter/ in fp32, or model/ in the compute dtype, beside the checkpoints
    live         weights that learn and their states, where they lie on disk (loading/trainstore.py), all the time

Exports and merges are written later, on demand, and ask for room themselves.
"""

from dataclasses import dataclass

from xiaozao.plan.fit import COMPUTE_BYTES
from xiaozao.plan.states import ADAM, EIGHT_BIT
from xiaozao.spec.parts import MethodSpec, TrainSpec
from xiaozao.spec.plan import MemoryPlan

PAGED_STATES = {"adamw": ADAM, "adamw8bit": EIGHT_BIT, "adafactor": 0}  # bytes a parameter
MARGIN = 1.2  # as models/artefacts/checkpoint.py asks for: file systems keep some to themselves


@dataclass(frozen=True)
class DiskNeed:
    """Bytes. least: without them the run fails for certain; most: what it takes where the best is an old one."""

    checkpoint: int
    result: int
    least: int
    most: int

    def tight(self, free: int) -> bool:
        return free < self.most * MARGIN


def disk_need(plan: MemoryPlan, method: MethodSpec, train: TrainSpec, steps: int, paged: bool = False) -> DiskNeed:
    """Compute the disk space that a planned run needs for its checkpoints and its result.

    The run saves every `save_every` steps and at its end. paged: whether the trained weights lie on disk.
    """
    assert train.save_every
    states = max(moment.parts["optimizer"] for moment in plan.moments)
    if train.optimizer == "adamw":  # cut over the devices; a checkpoint is whole
        states *= train.devices
    wide = 2 if method.weights == "bf16" and method.method == "full" else 4
    lora = method.method == "lora"
    if paged:  # of states on disk the plan of the memory knows nothing
        states = round(PAGED_STATES.get(train.optimizer, ADAM) * plan.trainable)
    checkpoint = plan.trainable * wide + states
    live = checkpoint if paged else 0
    result = plan.trainable * 4 if lora else plan.parameters * COMPUTE_BYTES[method.precision]
    saves = -(-steps // train.save_every)
    least = max(min(saves, train.keep + 1) * checkpoint, min(saves, train.keep) * checkpoint + result)
    return DiskNeed(checkpoint, result, live + least, live + min(saves, train.keep + 2) * checkpoint + result)
