"""Samples -> packed rows of tensors. The order of the samples is that of data/order.py.

ids       [ a0 a1 a2 a3 | b0 b1 b2 ]        positions  [ 0 1 2 3 | 0 1 2 ]
targets   [ .  .  a2 a3 | .  b1 b2 ]        a state at position p predicts the token at p + 1 of its own sequence
sources   [    1  2       4  5     ]        where the states that predict a2 a3 b1 b2 lie in the row
counts    [    2        |    2     ]        target tokens of each sequence: where one ends among the labels

A sample is one sequence, or the two of a preference pair, chosen before rejected; a row never parts them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xiaozao.data.prepare import Samples


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
        """The number of units that the loss is averaged over: preference pairs, judged answers, or target tokens."""
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
