"""Chooses the sampled rows and the validation rows, as pure functions of the seed and the rows' order.

A file is often sorted (by intent, by date), so nothing here takes the first or the last rows.
"""

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


def hold_out(groups: Sequence[bytes], share: float, seed: int) -> NDArray[np.bool_]:
    """Mark the validation rows with True: about `share` of all, at least one, leaving at least one for training.

    A share that is an int is a number of rows.

    groups: one value per row; rows of one group stay on one side. All False where there is only one group.
    """
    members: dict[bytes, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    held = np.zeros(len(groups), dtype=np.bool_)
    if len(members) < 2:
        return held
    asked = share if isinstance(share, int) else round(share * len(groups))
    wanted = min(max(1, asked), len(groups) - 1)
    order = list(members.values())
    taken = 0
    for at in _random(seed, SPLIT).permutation(len(order)):
        if taken + len(order[at]) <= wanted:
            held[order[at]] = True
            taken += len(order[at])
    if not taken:
        held[min(order, key=len)] = True
    return held


def _random(seed: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, purpose])))
