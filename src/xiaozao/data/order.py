"""Which samples belong to which step, and the largest micro-batches of a run. Used by plans, too, so no torch.

The order is a pure function of the samples' lengths and (seed, epoch); a resumed run needs no memory of it.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xiaozao.data.pack import epoch_order, pack, window_of
from xiaozao.data.samples import Samples
from xiaozao.spec.plan import RowSizes


@dataclass(frozen=True)
class Order:
    """Which samples belong to which step: windows of `batch` samples, cut into micro-batches.

    A run ends in the middle of an epoch if `epochs` is no whole number, or after `most_steps` steps if that is given.
    """

    samples: Samples
    batch: int
    size: int
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

        Micro-batches of more than `most` tokens are divided, which does not change the loss of the step.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        order = epoch_order(len(self.samples), self.seed, epoch)
        window = window_of(order, self.samples.lengths, self.batch, self.size, index)
        return window if most is None else self._divided(window, self.samples.lengths, most)

    def worst(self, most: int | None = None) -> list[list[int]]:
        """The micro-batches of the run that need most memory: the one with the most tokens, and, if it is another one,
        that with the most pairs of tokens in attention."""
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
        return [part for micro in window for part in divided(micro, lengths, most, self.size)]

    def _windows(self, epoch: int) -> list[list[list[int]]]:
        order = epoch_order(len(self.samples), self.seed, epoch)
        return pack(order, self.samples.lengths, self.batch, self.size)


def worst_rows(samples: Samples, micros: Sequence[Sequence[int]]) -> list[RowSizes]:
    """The sizes of the micro-batches with the most tokens, with the most targets, and with the most pairs of tokens
    in attention."""
    lengths = np.diff(samples.offsets)
    targets = np.add.reduceat(samples.targets, samples.offsets[:-1], dtype=np.int64)
    sizes = []
    for micro in micros:
        numbers = [number for one in micro for number in samples.sequences(int(one))]
        sizes.append(
            (numbers, int(lengths[numbers].sum()), int(targets[numbers].sum()), int((lengths[numbers] ** 2).sum()))
        )
    chosen = [max(sizes, key=operator.itemgetter(by)) for by in (1, 2, 3)]
    rows = [RowSizes(tuple(int(lengths[number]) for number in numbers), labels) for numbers, _, labels, _ in chosen]
    return list(dict.fromkeys(rows))


def divided(micro: Sequence[int], lengths: NDArray[np.int64], most: int, size: int) -> list[list[int]]:
    """A micro-batch of at most `size` samples, halved until no part has more than `most` tokens.

    No sample is divided.
    """
    if len(micro) == 1 or int(sum(lengths[one] for one in micro)) <= most:
        return [list(micro)]
    half = -(-size // 2)
    parts = (micro[at : at + half] for at in range(0, len(micro), half))
    return [smaller for part in parts for smaller in divided(part, lengths, most, half)]


def largest(micros: Sequence[Sequence[int]], samples: Samples) -> list[int]:
    """The micro-batch with the most tokens."""
    lengths = samples.lengths
    return list(max(micros, key=lambda micro: int(sum(lengths[one] for one in micro))))


def in_order(samples: Samples, size: int, most: int | None = None) -> list[list[int]]:
    """All samples in their order, in micro-batches; those of more than `most` tokens are divided."""
    count, lengths = len(samples), samples.lengths
    micros = [list(range(at, min(at + size, count))) for at in range(0, count, size)]
    if most is None:
        return micros
    return [part for micro in micros for part in divided(micro, lengths, most, size)]
