"""The order of an epoch, and how it is cut into optimizer windows and micro-batches.

    order      4 0 2 6 | 1 3 5        batch = 4: two windows, the last one smaller
    balanced   4 6 2 0 | ..           long samples beside short ones
    window     [4 6] [2 0]            micro_batch = 2

A window's samples count alike whatever their order, so those that lie together may be chosen: the largest micro-batch
of a run decides its memory, and a small one wastes time. A micro-batch is packed: its samples lie end to end in one
row, without padding; `boundaries` says where each begins.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Window = list[list[int]]  # micro-batches of sample indices


def epoch_order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of n samples in an epoch: a pure function, so that a resumed run needs no memory of random states."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch]))).permutation(n)


def pack(order: Sequence[int], lengths: NDArray[np.int64], batch: int, micro_batch: int) -> list[Window]:
    """`order` cut into windows of `batch` samples, each balanced and cut into micro-batches of at most `micro_batch`.

    lengths: tokens by sample. Every sample of `order` comes exactly once, in its window; only the last window may be
    smaller.
    """
    plain = [int(index) for index in order]
    windows = (balanced(plain[start : start + batch], lengths) for start in range(0, len(plain), batch))
    return [[window[start : start + micro_batch] for start in range(0, len(window), micro_batch)] for window in windows]


def balanced(window: Sequence[int], lengths: NDArray[np.int64]) -> list[int]:
    """The samples of a window in an order whose halves, quarters, eighths ... hold about as many tokens each.

    Whatever the micro-batch, the order is the same; so one that is halved later is cut as if it had been smaller.
    """
    if len(window) < 3:
        return list(window)
    ranked = sorted(window, key=lambda one: -int(lengths[one]))  # stable: equal ones stay as they were drawn
    halves: tuple[list[int], list[int]] = ([], [])
    sums = [0, 0]
    for start in range(0, len(ranked), 2):  # of two neighbours the longer goes where there is less
        lighter = int(sums[1] < sums[0]) if start + 1 < len(ranked) else 0
        for half, one in zip((lighter, 1 - lighter), ranked[start : start + 2], strict=False):
            halves[half].append(one)
            sums[half] += int(lengths[one])
    return [*balanced(halves[0], lengths), *balanced(halves[1], lengths)]


def boundaries(lengths: Sequence[int]) -> list[int]:
    """Where packed samples begin, and at last where they end: [3, 2] -> [0, 3, 5]."""
    return list(accumulate(lengths, initial=0))
