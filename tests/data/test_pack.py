"""The order of an epoch and its windows are a partition of the samples, and what lies together is balanced."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from xiaozao.data.pack import balanced, boundaries, epoch_order, pack, window_of


@given(n=st.integers(0, 300), batch=st.integers(1, 40), micro_batch=st.integers(1, 50), seed=st.integers(0, 2**31 - 1))
def test_windows_hold_every_sample_once(n: int, batch: int, micro_batch: int, seed: int) -> None:
    order, lengths = epoch_order(n, seed, 2), drawn_lengths(n, seed)
    windows = pack(order, lengths, batch, micro_batch)
    assert sorted(order) == list(range(n))
    assert windows == [window_of(order, lengths, batch, micro_batch, number) for number in range(len(windows))]
    held = [[one for micro in window for one in micro] for window in windows]
    assert [sorted(one) for one in held] == [sorted(order[at : at + batch].tolist()) for at in range(0, n, batch)]
    assert all(len(micro) == micro_batch for window in windows for micro in window[:-1])
    assert all(1 <= len(micro) <= micro_batch for window in windows for micro in window)


@given(half=st.integers(1, 20), count=st.integers(1, 80), seed=st.integers(0, 1000))
def test_a_halved_micro_batch_is_cut_as_if_it_had_been_smaller(half: int, count: int, seed: int) -> None:
    order, lengths = epoch_order(count, seed, 0), drawn_lengths(count, seed)
    halved = [
        [part for micro in window for part in (micro[:half], micro[half:]) if part]
        for window in pack(order, lengths, 32, 2 * half)
    ]
    assert halved == pack(order, lengths, 32, half)


@given(count=st.integers(3, 200), seed=st.integers(0, 1000))
def test_the_halves_of_a_window_differ_by_no_more_than_its_longest_sample(count: int, seed: int) -> None:
    lengths = drawn_lengths(count, seed)
    (laid,) = balanced(np.arange(count)[None], lengths)
    half = -(-count // 2)
    sums = [int(lengths[part].sum()) for part in (laid[:half], laid[half:])]
    assert abs(sums[0] - sums[1]) <= int(lengths.max())
    assert count % 2 or sums[0] <= sums[1]


def test_one_window_is_balanced_as_it_is_among_others() -> None:
    lengths = drawn_lengths(96, 5)
    together = balanced(np.arange(96).reshape(6, 16), lengths)
    alone = [balanced(np.arange(96).reshape(6, 16)[number][None], lengths)[0] for number in range(6)]
    assert np.array_equal(together, np.stack(alone))


@pytest.mark.parametrize("micro_batch", [2, 4])
def test_long_samples_lie_beside_short_ones(micro_batch: int) -> None:
    """Four samples of 1,000 tokens and twelve of 10: as they are drawn, two long ones share a micro-batch at times."""
    lengths = np.array([1000] * 4 + [10] * 12)
    for seed in range(20):
        (cut,) = pack(epoch_order(16, seed, 0), lengths, 16, micro_batch)
        assert sorted(int(lengths[micro].sum()) for micro in cut)[-4:] == [990 + 10 * micro_batch] * 4


def drawn_lengths(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(1, 1000, count)


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
