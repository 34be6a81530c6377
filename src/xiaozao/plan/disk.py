"""Whether what a run writes has room on the disk. No torch.

    checkpoint   trainable weights and the optimizer's states, as they are in memory
    at once      the newest `keep`, the best one where it is older, and the one that is being written
    result       adapter/ in fp32, or model/ in the compute dtype, beside the checkpoints

Exports and merges are written later, on demand, and ask for room themselves.
"""

from dataclasses import dataclass

from xiaozao.plan.fit import COMPUTE_BYTES
from xiaozao.spec.parts import MethodSpec, TrainSpec
from xiaozao.spec.plan import MemoryPlan

MARGIN = 1.2  # as models/checkpoint.py asks for: file systems keep some to themselves


@dataclass(frozen=True)
class DiskNeed:
    """Bytes. least: without them the run fails for certain; most: what it takes where the best is an old one."""

    checkpoint: int
    result: int
    least: int
    most: int

    def tight(self, free: int) -> bool:
        return free < self.most * MARGIN


def disk_need(plan: MemoryPlan, method: MethodSpec, train: TrainSpec, steps: int) -> DiskNeed:
    """What a planned run writes, which saves every `save_every` steps and at its end."""
    assert train.save_every
    states = max(moment.parts["optimizer"] for moment in plan.moments)
    if train.optimizer == "adamw":  # cut over the devices; a checkpoint is whole
        states *= train.devices
    wide = 2 if method.weights == "bf16" and method.method == "full" else 4
    checkpoint = plan.trainable * wide + states
    lora = method.method == "lora"
    result = plan.trainable * 4 if lora else plan.parameters * COMPUTE_BYTES[method.precision]
    saves = -(-steps // train.save_every)
    least = max(min(saves, train.keep + 1) * checkpoint, min(saves, train.keep) * checkpoint + result)
    return DiskNeed(checkpoint, result, least, min(saves, train.keep + 2) * checkpoint + result)
