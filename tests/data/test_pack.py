"""The order of an epoch and its windows are a partition of the samples."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xiaozao.data.pack import boundaries, epoch_order, pack


@given(n=st.integers(0, 300), batch=st.integers(1, 40), micro_batch=st.integers(1, 50), seed=st.integers(0, 2**31 - 1))
def test_windows_hold_every_sample_once_in_order(n: int, batch: int, micro_batch: int, seed: int) -> None:
    order = epoch_order(n, seed, 2).tolist()
    windows = pack(order, batch, micro_batch)
    assert sorted(order) == list(range(n))
    assert [one for window in windows for micro in window for one in micro] == order
    assert len(windows) == -(-n // batch)
    sizes = [sum(map(len, window)) for window in windows]
    assert all(size == batch for size in sizes[:-1])
    assert all(1 <= len(micro) <= micro_batch for window in windows for micro in window)


def test_order_is_a_pure_function_of_seed_and_epoch() -> None:
    assert np.array_equal(epoch_order(50, 7, 3), epoch_order(50, 7, 3))
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_order_does_not_depend_on_global_random_state() -> None:
    np.random.seed(1)
    first = epoch_order(50, 7, 3)
    np.random.seed(2)
    assert np.array_equal(first, epoch_order(50, 7, 3))


def test_pinned_order() -> None:
    """A run made with an earlier version must resume in the same order."""
    assert epoch_order(8, 0, 0).tolist() == PINNED


def test_boundaries_of_packed_samples() -> None:
    assert boundaries([3, 2, 4]) == [0, 3, 5, 9]
    assert boundaries([]) == [0]


PINNED = [2, 4, 3, 6, 5, 0, 1, 7]
