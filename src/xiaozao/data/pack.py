"""The order of an epoch, and how it is cut into optimizer windows and micro-batches.

    order      4 0 2 6 | 1 3 5        batch = 4: two windows, the last one smaller
    balanced   6 4 0 2 | ..           long samples beside short ones
    window     [6 4] [0 2]            size = 2

The order within a window does not change the gradient, so samples are grouped into micro-batches of about equal size:
the largest micro-batch of a run decides its memory, and a small one wastes time. A micro-batch is packed: its samples
lie end to end in one row, without padding; `boundaries` says where each begins.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Window = list[list[int]]  # micro-batches of sample indices


def epoch_order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of n samples in an epoch: a pure function of its arguments, so that no random state has to be saved."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch]))).permutation(n)


def pack(order: NDArray[np.int64], lengths: NDArray[np.int64], batch: int, size: int) -> list[Window]:
    """Cut `order` into windows of `batch` samples, each balanced and cut into micro-batches of at most `size`.

    lengths: tokens by sample. Every sample of `order` occurs exactly once, in its window. Only the last window may be
    smaller.
    """
    whole = len(order) // batch * batch
    windows = [*balanced(order[:whole].reshape(-1, batch), lengths), *balanced(order[whole:][None], lengths)]
    return [_cut(window.tolist(), size) for window in windows if len(window)]


def window_of(order: NDArray[np.int64], lengths: NDArray[np.int64], batch: int, size: int, number: int) -> Window:
    """One window of those that `pack` makes."""
    own = order[number * batch : (number + 1) * batch]
    return _cut(balanced(own[None], lengths)[0].tolist(), size)


def balanced(windows: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Reorder the samples of windows (n, batch) so that halves, quarters ... of each hold about equally many tokens.

    The order does not depend on the size of the micro-batch, so a micro-batch that is halved later is cut as if it had
    been smaller from the start. The heavier half comes last, because the memory plan assumes that the largest
    micro-batch meets the gradients of earlier ones. If batch / micro-batch is no power of two, a micro-batch may
    span two halves, and the balance is lost.
    """
    count = windows.shape[1]
    if count < 2:
        return windows
    rows = np.arange(len(windows))
    # stable: equal ones stay as they were drawn
    ranked = np.take_along_axis(windows, np.argsort(-lengths[windows], axis=1, kind="stable"), axis=1)
    halves = np.empty((2, len(windows), -(-count // 2)), dtype=windows.dtype)
    sums = np.zeros((2, len(windows)), dtype=np.int64)
    for place in range(count // 2):  # of two neighbours the longer goes where there is less
        lighter = (sums[1] < sums[0]).astype(np.int64)
        for half, column in ((lighter, 2 * place), (1 - lighter, 2 * place + 1)):
            halves[half, rows, place] = ranked[:, column]
            sums[half, rows] += lengths[ranked[:, column]]
    if count % 2:
        halves[0, :, -1] = ranked[:, -1]
        return np.concatenate([balanced(halves[0], lengths), balanced(halves[1, :, :-1], lengths)], axis=1)
    first = (sums[1] < sums[0]).astype(np.int64)
    return np.concatenate([balanced(halves[half, rows], lengths) for half in (first, 1 - first)], axis=1)


def _cut(samples: list[int], size: int) -> Window:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def boundaries(lengths: Sequence[int]) -> list[int]:
    """The offsets of packed samples, with the end as the last one: [3, 2] -> [0, 3, 5]."""
    return list(accumulate(lengths, initial=0))
