"""Samples -> packed rows of tensors, in an order that is a pure function of (seed, epoch).

ids       [ a0 a1 a2 a3 | b0 b1 b2 ]        positions  [ 0 1 2 3 | 0 1 2 ]
targets   [ .  .  a2 a3 | .  b1 b2 ]        a state at position p predicts the token at p + 1 of its own sample
sources   [    1  2       4  5     ]        where the states that predict a2 a3 b1 b2 lie in the row
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xiaozao.data.pack import epoch_order, pack
from xiaozao.data.prepare import Samples


@dataclass(frozen=True)
class PackedRow:
    """Samples laid end to end. ids and positions (T), sources and labels (N target tokens), lengths per sample."""

    ids: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    sources: Tensor
    labels: Tensor
    samples: tuple[int, ...]

    @property
    def units(self) -> int:
        """What the step's loss is the mean over: target tokens."""
        return len(self.labels)


def packed_row(samples: Samples, chosen: Sequence[int], device: torch.device) -> PackedRow:
    """The row that holds these samples. The first token of a sample is never a label."""
    pairs = [samples.sample(index) for index in chosen]
    lengths = [len(ids) for ids, _ in pairs]
    ids = np.concatenate([ids for ids, _ in pairs]).astype(np.int64)
    targets = np.concatenate([np.asarray(targets, dtype=bool) for _, targets in pairs])
    targets[np.cumsum([0, *lengths[:-1]])] = False
    labelled = np.flatnonzero(targets)
    positions = np.concatenate([np.arange(length) for length in lengths])
    tensors = [torch.from_numpy(one).to(device) for one in (ids, positions, labelled - 1, ids[labelled])]
    return PackedRow(tensors[0], tensors[1], tuple(lengths), tensors[2], tensors[3], tuple(int(one) for one in chosen))


@dataclass(frozen=True)
class Order:
    """Which samples make which step: windows of `batch` samples, cut into micro-batches."""

    samples: Samples
    batch: int
    micro_batch: int
    epochs: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.samples) // self.batch)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    def window(self, step: int) -> list[list[int]]:
        """The micro-batches of optimizer step 0, 1, 2 ...: lists of sample numbers."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._windows(epoch)[index]

    def _windows(self, epoch: int) -> list[list[list[int]]]:
        order = epoch_order(len(self.samples), self.seed, epoch)
        return pack([int(one) for one in order], self.batch, self.micro_batch)

    def largest(self) -> int:
        """The most tokens that any micro-batch of the run holds."""
        lengths = self.samples.lengths
        return max(
            int(sum(lengths[one] for one in micro))
            for epoch in range(self.epochs)
            for window in self._windows(epoch)
            for micro in window
        )
