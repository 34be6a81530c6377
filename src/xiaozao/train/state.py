"""Save and resume to the exact step.

A checkpoint holds the trainable weights, the optimizer's moments by parameter name, and state.json: how far the run
is, its best validation, and the identity of everything that the numbers depend on. Sample order, learning rate and
dropout are functions of (seed, step), so no generator has to be saved.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from xiaozao.errors import Problem, TrainingError
from xiaozao.models import checkpoint
from xiaozao.models.blocks import Decoder
from xiaozao.train.optim import AdamW


@dataclass
class Progress:
    """How far a run is. Everything the loop changes besides weights and moments."""

    step: int = 0
    tokens: int = 0
    target_tokens: int = 0
    seconds: float = 0.0
    last_loss: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    without_gain: int = 0  # validations in a row


@dataclass(frozen=True)
class Keeper:
    """The checkpoints of one run. `identity` names what must not change between save and resume."""

    folder: Path
    identity: Mapping[str, str]
    keep: int

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def save(self, decoder: Decoder, optimizer: AdamW, progress: Progress) -> int:
        """Write a complete checkpoint, then let old ones go. Returns its bytes."""
        weights = {name: one.detach() for name, one in decoder.trainable().items()}
        state = {"progress": dataclasses.asdict(progress), "identity": dict(self.identity)}
        size = checkpoint.write_folder(
            self.path(progress.step), {"weights": weights, "optimizer": optimizer.state()}, {"state": state}
        )
        best = {self.path(progress.best_step)} if progress.best_step is not None else set()
        checkpoint.rotate(self.folder, self.keep, frozenset({self.path(progress.step), *best}))
        return size

    def load(self, folder: Path, decoder: Decoder, optimizer: AdamW) -> Progress:
        """Put weights and moments back. Raises TrainingError that lists everything that has changed since."""
        state = checkpoint.read_document(folder, "state")
        self._same(state["identity"])
        load_weights(decoder, checkpoint.read_tensors(folder, "weights"))
        optimizer.load(checkpoint.read_tensors(folder, "optimizer"))
        return Progress(**state["progress"])

    def _same(self, saved: Mapping[str, str]) -> None:
        changed = [
            Problem("changed", {"name": name, "before": saved.get(name, "-"), "now": self.identity.get(name, "-")})
            for name in sorted(saved.keys() | self.identity.keys())
            if saved.get(name) != self.identity.get(name)
        ]
        if changed:
            raise TrainingError("resume_changed", problems=changed, count=len(changed))


def load_weights(decoder: Decoder, tensors: Mapping[str, Tensor]) -> None:
    """Copy saved weights into the trainable parameters. The names must be the same on both sides."""
    trainable = decoder.trainable()
    if trainable.keys() != tensors.keys():
        different = sorted(trainable.keys() ^ tensors.keys())
        raise TrainingError("weights_differ", count=len(different), first=different[0])
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(tensors[name])
