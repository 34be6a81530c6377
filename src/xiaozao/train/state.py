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
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.blocks import Decoder
from xiaozao.models.loading.paged import store_of
from xiaozao.spec.fields import marked
from xiaozao.spec.parts import BY_DEVICES
from xiaozao.train.optim.engine import Optimizer, local
from xiaozao.train.ranks import ALONE, Ranks, cut


@dataclass
class Position:
    """The progress of a run: everything that the loop changes besides weights and moments."""

    step: int = 0
    tokens: int = 0
    target_tokens: int = 0
    seconds: float = 0.0
    last_loss: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    without_gain: int = 0  # validations in a row
    loss_scale: float = 0.0  # of an fp16 run, once a step has succeeded
    good_steps: int = 0  # without an overflow in fp16
    overflows: int = 0  # in a row
    most: int | None = None  # tokens of a micro-batch; larger ones are divided, since memory ran out
    most_validating: int | None = None  # the same of validation


@dataclass(frozen=True)
class Keeper:
    """The checkpoints of one run. `identity` names what must not change between save and resume."""

    folder: Path
    identity: Mapping[str, str]
    keep: int
    ranks: Ranks = ALONE

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def save(self, optimizer: Optimizer, progress: Position) -> int:
        """Write a complete checkpoint, then let old ones go. Returns its bytes.

        It is the same on any number of ranks: the first one gathers what the others hold, and writes.
        """
        size = 0
        weights = self.ranks.gather({name: one.detach() for name, one in optimizer.parameters.items()})
        groups = {"weights": weights, "optimizer": self.ranks.gather(optimizer.state())}
        state = {"progress": dataclasses.asdict(progress), "identity": dict(self.identity)}
        if self.ranks.is_first:
            folder, store = self.path(progress.step), optimizer.options.store
            size = checkpoint.write_folder(folder, groups, {"state": state}, store=store)
            best = {self.path(progress.best_step)} if progress.best_step is not None else set()
            checkpoint.rotate(self.folder, self.keep, frozenset({self.path(progress.step), *best}))
        return int(self.ranks.first(size))

    def forget(self, step: int) -> None:
        """Remove the checkpoint of a step, if there is one."""
        if self.ranks.is_first and self.path(step).exists():
            checkpoint.discard(self.path(step))

    def load(self, folder: Path, decoder: Decoder, optimizer: Optimizer) -> Position:
        """Put weights and moments back. Raises TrainingError that lists everything that has changed since."""
        state = checkpoint.read_document(folder, "state")
        self._same(state["identity"])
        with checkpoint.open_tensors(folder, "weights") as tensors:
            load_weights(decoder, tensors)
        with checkpoint.open_tensors(folder, "optimizer") as tensors:
            optimizer.load(tensors)
        return Position(**state["progress"])

    def _same(self, saved: Mapping[str, str]) -> None:
        free = marked(BY_DEVICES) if saved.get("devices") != self.identity.get("devices") else frozenset()
        changed = [
            Problem("changed", {"name": name, "before": saved.get(name, "-"), "now": self.identity.get(name, "-")})
            for name in sorted(saved.keys() | self.identity.keys())
            if saved.get(name) != self.identity.get(name) and name not in free
        ]
        if changed:
            raise TrainingError("resume_changed", problems=changed, count=len(changed))


def load_weights(decoder: Decoder, tensors: Mapping[str, Tensor]) -> None:
    """Copy saved weights into the trainable parameters. The names must be the same on both sides."""
    trainable, store = decoder.trainable(), store_of(decoder.model)
    if trainable.keys() != tensors.keys():
        different = sorted(trainable.keys() ^ tensors.keys())
        raise TrainingError("weights_differ", count=len(different), first=different[0])
    with torch.no_grad():
        for name, parameter in trainable.items():
            local(parameter).copy_(cut(tensors[name], parameter))
            if store is not None:
                store.leave([parameter])
