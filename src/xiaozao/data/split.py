"""Chooses the sampled rows and the validation rows, as pure functions of the seed and of the rows.

A file is often sorted (by intent, by date), so nothing here takes the first or the last rows.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SAMPLE, SPLIT = 1, 2  # so that one seed draws differently for each purpose


def choose(count: int, rows: int, seed: int, labels: Sequence[str] | None = None) -> NDArray[np.int64]:
    """Draw `rows` of `count` indices, in ascending order; all of them if `rows` is not smaller.

    With `labels` (one per index) each label keeps its share: its part is rounded down, and what is left goes to the
    largest remainders.
    """
    if rows >= count:
        return np.arange(count)
    random = _random(seed, SAMPLE)
    if labels is None:
        return np.sort(random.permutation(count)[:rows])
    members: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    exact = {label: rows * len(indices) / count for label, indices in members.items()}
    quota = {label: int(part) for label, part in exact.items()}
    by_remainder = sorted(exact, key=lambda label: (quota[label] - exact[label], label))
    for label in by_remainder[: rows - sum(quota.values())]:
        quota[label] += 1
    chosen = [random.permutation(members[label])[: quota[label]] for label in sorted(members)]
    return np.sort(np.concatenate(chosen))


def hold_out(
    groups: Sequence[bytes], share: float, seed: int, labels: Sequence[str] | None = None
) -> NDArray[np.bool_]:
    """Mark the validation rows with True: about `share` of all, at least one, leaving at least one for training.

    A share that is an int is a number of rows. With `labels` (one per row) each label gives its share, as far as the
    groups allow it. The order of the rows does not matter, only the names of their groups.

    groups: one value per row; rows of one group stay on one side. All False where there is only one group.
    """
    members: dict[bytes, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    held = np.zeros(len(groups), dtype=np.bool_)
    if len(members) < 2:
        return held
    wanted = _wanted(len(groups), share)
    order = [members[group] for group in sorted(members, key=lambda group: _rank(group, seed))]
    labels = labels if labels is not None else [""] * len(groups)
    free = quotas(labels, wanted, seed)
    left = []
    for indices in order:
        part = Counter(labels[index] for index in indices)
        if all(free[label] >= count for label, count in part.items()):
            held[indices] = True
            free.subtract(part)
        else:
            left.append(indices)
    for indices in left:  # what the labels alone could not fill
        if held.sum() + len(indices) <= wanted:
            held[indices] = True
    if not held.any():
        held[min(order, key=len)] = True
    return held


def divide(
    levels: Sequence[Sequence[bytes]], share: float, seed: int, labels: Sequence[str] | None = None
) -> NDArray[np.bool_]:
    """`hold_out` by the first of several groupings, coarse to fine, that gives half to twice of what is wanted; by the
    last one if none does."""
    for groups in levels:
        held = hold_out(groups, share, seed, labels)
        wanted, taken = _wanted(len(groups), share), int(held.sum())
        if wanted / 2 <= taken <= 2 * wanted:
            break
    return held


def quotas(labels: Sequence[str], rows: int, seed: int) -> Counter[str]:
    """How many of `rows` each label gives: its share, rounded down, and one more for the largest remainders."""
    counts = Counter(labels)
    exact = {label: rows * count / len(labels) for label, count in counts.items()}
    quota = Counter({label: int(part) for label, part in exact.items()})
    by_remainder = sorted(exact, key=lambda label: (quota[label] - exact[label], _rank(label.encode(), seed)))
    quota.update(by_remainder[: rows - quota.total()])
    return quota


def _wanted(rows: int, share: float) -> int:
    asked = share if isinstance(share, int) else round(share * rows)
    return min(max(1, asked), rows - 1)


def _rank(name: bytes, seed: int) -> bytes:
    """A place in an order that is drawn by the seed and does not depend on what else there is."""
    return hashlib.blake2b(name, digest_size=16, key=f"{SPLIT} {seed}".encode()).digest()


def _random(seed: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, purpose])))
