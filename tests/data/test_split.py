"""Samples of rows and splits: seeded, fair to labels, and honest about duplicates."""

import random
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xiaozao.data.split import choose, divide, hold_out, quotas


@given(count=st.integers(1, 200), rows=st.integers(1, 250), seed=st.integers(0, 2**31))
def test_sample_is_ascending_unique_and_repeatable(count: int, rows: int, seed: int) -> None:
    first = choose(count, rows, seed)
    assert len(first) == min(rows, count)
    assert sorted(set(first.tolist())) == first.tolist()
    assert np.array_equal(first, choose(count, rows, seed))


@given(labels=st.lists(st.sampled_from("abcd"), min_size=1, max_size=200), data=st.data())
def test_labels_keep_their_shares(labels: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, len(labels)))
    chosen = choose(len(labels), rows, 0, labels)
    assert len(chosen) == rows
    counts = Counter(labels[index] for index in chosen)
    for label, count in Counter(labels).items():
        assert abs(counts[label] - rows * count / len(labels)) < 1


def test_sample_of_a_sorted_file_is_not_its_beginning() -> None:
    assert choose(1000, 100, 0).max() > 800
    assert not np.array_equal(choose(1000, 100, 0), choose(1000, 100, 1))


@given(
    groups=st.lists(st.integers(0, 20), min_size=2, max_size=200),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_hold_out_keeps_groups_together_and_both_sides_filled(groups: list[int], share: float, seed: int) -> None:
    names = [str(one).encode() for one in groups]
    held = hold_out(names, share, seed)
    assert np.array_equal(held, hold_out(names, share, seed))
    if len(set(names)) < 2:
        assert not held.any()
        return
    assert 0 < held.sum() < len(names)
    sides = {group: {bool(held[index]) for index, one in enumerate(names) if one == group} for group in set(names)}
    assert all(len(side) == 1 for side in sides.values())


def test_hold_out_takes_about_the_share_from_everywhere() -> None:
    held = hold_out([str(index).encode() for index in range(1000)], 0.1, 3)
    assert held.sum() == 100
    assert held[:500].sum() > 30 and held[500:].sum() > 30


def test_a_whole_number_holds_out_so_many_rows() -> None:
    assert hold_out([str(index).encode() for index in range(1000)], 7, 3).sum() == 7
    assert hold_out([str(index).encode() for index in range(1000)], 1, 3).sum() == 1


@given(
    groups=st.lists(st.integers(0, 20), min_size=2, max_size=100),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
    order=st.randoms(use_true_random=False),
)
def test_hold_out_does_not_depend_on_the_order_of_the_rows(
    groups: list[int], share: float, seed: int, order: random.Random
) -> None:
    rows = [(str(group).encode(), "abc"[group % 3]) for group in groups]
    shuffled = order.sample(rows, len(rows))
    sides = []
    for some in (rows, shuffled):
        held = hold_out([group for group, _ in some], share, seed, [label for _, label in some])
        sides.append({group for (group, _), one in zip(some, held, strict=True) if one})
    assert sides[0] == sides[1]


def test_each_label_gives_its_share_of_the_held_out_rows() -> None:
    labels = ["often"] * 800 + ["rare"] * 150 + ["seldom"] * 50
    held = hold_out([str(index).encode() for index in range(1000)], 0.1, 3, labels)
    assert Counter(label for label, one in zip(labels, held, strict=True) if one) == {
        "often": 80, "rare": 15, "seldom": 5,
    }  # fmt: skip


def test_labels_give_way_where_groups_do_not_fit() -> None:
    groups = [str(index // 10).encode() for index in range(100)]  # ten of each
    held = hold_out(groups, 20, 3, ["ab"[index % 2] for index in range(100)])
    assert held.sum() == 20
    odd = hold_out(groups, 20, 3, ["ab"[index < 30] for index in range(100)])  # 6 and 14 rows, and no group of them
    assert odd.sum() == 20


@given(labels=st.lists(st.sampled_from("abcd"), min_size=1, max_size=100), data=st.data())
def test_quotas_fill_what_is_wanted(labels: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, len(labels)))
    quota = quotas(labels, rows, 0)
    assert quota.total() == rows
    assert all(quota[label] <= count for label, count in Counter(labels).items())


def test_a_coarse_grouping_gives_way_to_a_finer_one_where_it_cannot_give_the_share() -> None:
    coarse = [b"a"] * 10 + [b"b"] * 10
    fine = [str(index).encode() for index in range(20)]
    assert divide((coarse, fine), 0.05, 0).sum() == 1
    assert divide((coarse, fine), 0.5, 0).sum() == 10
    pairs = [str(index // 2).encode() for index in range(20)]
    held = divide((pairs, fine), 0.05, 0)  # a pair is twice of what is wanted, and stays together
    assert held.sum() == 2 and pairs[held.argmax()] == pairs[held.argmax() + 1]
    assert not divide(([b"a"] * 5, [b"a"] * 5), 0.2, 0).any()
