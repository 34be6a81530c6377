"""The order of an epoch, and how it is cut into optimizer windows and micro-batches.

    order     4 0 2 | 1 3        batch = 3: two windows, the last one smaller
    window    [4 0] [2]          micro_batch = 2

A micro-batch is packed: its samples lie end to end in one row, without padding; `boundaries` says where each begins.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Window = list[list[int]]  # micro-batches of sample indices


def epoch_order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of n samples in an epoch: a pure function, so that a resumed run needs no memory of random states."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch]))).permutation(n)


def pack(order: Sequence[int], batch: int, micro_batch: int) -> list[Window]:
    """`order` cut into windows of `batch` samples, each cut into micro-batches of at most `micro_batch` samples.

    Every sample of `order` comes exactly once and in order; only the last window may be smaller.
    """
    plain = [int(index) for index in order]
    windows = (plain[start : start + batch] for start in range(0, len(plain), batch))
    return [[window[start : start + micro_batch] for start in range(0, len(window), micro_batch)] for window in windows]


def boundaries(lengths: Sequence[int]) -> list[int]:
    """Where packed samples begin, and at last where they end: [3, 2] -> [0, 3, 5]."""
    return list(accumulate(lengths, initial=0))
