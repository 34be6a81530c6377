"""Samples -> packed rows of tensors, in an order that is a pure function of their lengths and (seed, epoch).

ids       [ a0 a1 a2 a3 | b0 b1 b2 ]        positions  [ 0 1 2 3 | 0 1 2 ]
targets   [ .  .  a2 a3 | .  b1 b2 ]        a state at position p predicts the token at p + 1 of its own sequence
sources   [    1  2       4  5     ]        where the states that predict a2 a3 b1 b2 lie in the row
counts    [    2        |    2     ]        target tokens of each sequence: where one ends among the labels

A sample is one sequence, or the two of a preference pair, chosen before rejected; a row never parts them.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xiaozao.data.pack import epoch_order, pack, window_of
from xiaozao.data.prepare import Samples
from xiaozao.spec.plan import Row


@dataclass(frozen=True)
class PackedRow:
    """Sequences laid end to end: ids and positions (T), sources and labels (N target tokens), lengths and counts (S).

    liked (samples): the verdicts on answers that have one. reference (S): the sequences' log-probabilities under the
    model that training began with, where they were computed beforehand. point: KTO's reference point of the whole step.
    """

    ids: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    sources: Tensor
    labels: Tensor
    samples: tuple[int, ...]
    counts: tuple[int, ...]
    liked: Tensor | None = None
    reference: Tensor | None = None
    point: float = 0.0

    @property
    def units(self) -> int:
        """What the step's loss is the mean over: preference pairs, answers with a verdict, otherwise target tokens."""
        judged = self.liked is not None or len(self.counts) > len(self.samples)
        return len(self.samples) if judged else len(self.labels)


def packed_row(samples: Samples, chosen: Sequence[int], device: torch.device, crossed: bool = False) -> PackedRow:
    """The row that holds these samples; `crossed`, each with an answer to another prompt (Samples.crossed).

    The first token of a sequence is never a label.
    """
    numbers = [number for index in chosen for number in samples.sequences(index)]
    pairs = [samples.crossed(number) if crossed else samples.sample(number) for number in numbers]
    lengths = [len(ids) for ids, _ in pairs]
    ids = np.concatenate([ids for ids, _ in pairs]).astype(np.int64)
    targets = np.concatenate([np.asarray(targets, dtype=bool) for _, targets in pairs])
    ends = np.cumsum([0, *lengths])
    targets[ends[:-1]] = False
    labelled = np.flatnonzero(targets)
    positions = np.concatenate([np.arange(length) for length in lengths])
    tensors = [torch.from_numpy(one).to(device) for one in (ids, positions, labelled - 1, ids[labelled])]
    liked = None if samples.liked is None else torch.from_numpy(samples.liked[list(chosen)] > 0).to(device)
    known = samples.reference
    return PackedRow(
        ids=tensors[0], positions=tensors[1], lengths=tuple(lengths), sources=tensors[2], labels=tensors[3],
        samples=tuple(int(one) for one in chosen), counts=tuple(np.diff(np.searchsorted(labelled, ends)).tolist()),
        liked=liked,
        reference=None if known is None else torch.from_numpy(known[int(crossed)][numbers]).to(device),
    )  # fmt: skip


@dataclass(frozen=True)
class Order:
    """Which samples make which step: windows of `batch` samples, cut into micro-batches.

    A run ends in the middle of an epoch where `epochs` is no whole number; with `most_steps`, after so many steps,
    whichever epoch that is.
    """

    samples: Samples
    batch: int
    micro_batch: int
    epochs: float
    seed: int
    most_steps: int | None = None

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.samples) // self.batch)

    @property
    def steps(self) -> int:
        if self.most_steps is not None:
            return self.most_steps
        return math.ceil(round(self.steps_per_epoch * self.epochs, 6))

    def window(self, step: int, most: int | None = None) -> list[list[int]]:
        """The micro-batches of optimizer step 0, 1, 2 ...: lists of sample numbers.

        Those of more than `most` tokens are divided; what the step is the mean over stays the same.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        order = epoch_order(len(self.samples), self.seed, epoch)
        window = window_of(order, self.samples.lengths, self.batch, self.micro_batch, index)
        return window if most is None else self._divided(window, self.samples.lengths, most)

    def worst(self, most: int | None = None) -> list[list[int]]:
        """The micro-batches of the run that ask for most memory: that with the most tokens, and that with the most
        pairs of tokens which see each other, where it is another."""
        lengths = self.samples.lengths
        rows = [
            row
            for epoch in range(-(-self.steps // self.steps_per_epoch))
            for window in self._windows(epoch)[: self.steps - epoch * self.steps_per_epoch]
            for row in (window if most is None else self._divided(window, lengths, most))
        ]
        longest = largest(rows, self.samples)
        widest = max(rows, key=lambda row: int((lengths[row] ** 2).sum()))
        return [longest] if sorted(longest) == sorted(widest) else [longest, widest]

    def _divided(self, window: list[list[int]], lengths: NDArray[np.int64], most: int) -> list[list[int]]:
        return [part for micro in window for part in divided(micro, lengths, most, self.micro_batch)]

    def _windows(self, epoch: int) -> list[list[list[int]]]:
        order = epoch_order(len(self.samples), self.seed, epoch)
        return pack(order, self.samples.lengths, self.batch, self.micro_batch)


def worst_rows(samples: Samples, micros: Sequence[Sequence[int]]) -> list[Row]:
    """The sizes of the micro-batches with the most tokens, with the most targets, and with the most pairs of tokens
    that see each other."""
    lengths = np.diff(samples.offsets)
    targets = np.add.reduceat(samples.targets, samples.offsets[:-1], dtype=np.int64)
    sizes = []
    for micro in micros:
        numbers = [number for one in micro for number in samples.sequences(int(one))]
        sizes.append(
            (numbers, int(lengths[numbers].sum()), int(targets[numbers].sum()), int((lengths[numbers] ** 2).sum()))
        )
    chosen = [max(sizes, key=operator.itemgetter(by)) for by in (1, 2, 3)]
    rows = [Row(tuple(int(lengths[number]) for number in numbers), labels) for numbers, _, labels, _ in chosen]
    return list(dict.fromkeys(rows))


def divided(micro: Sequence[int], lengths: NDArray[np.int64], most: int, size: int) -> list[list[int]]:
    """A micro-batch of at most `size` samples, as those of half the size would be cut, until none has more than `most`
    tokens. A sample is never parted."""
    if len(micro) == 1 or int(sum(lengths[one] for one in micro)) <= most:
        return [list(micro)]
    half = -(-size // 2)
    parts = (micro[at : at + half] for at in range(0, len(micro), half))
    return [smaller for part in parts for smaller in divided(part, lengths, most, half)]


def largest(micros: Sequence[Sequence[int]], samples: Samples) -> list[int]:
    """The micro-batch with the most tokens."""
    lengths = samples.lengths
    return list(max(micros, key=lambda micro: int(sum(lengths[one] for one in micro))))
