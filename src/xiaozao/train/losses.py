"""Losses as (decoder, row) -> sum over the row's units, by the name of what is learned.

sft, pretrain              the cross-entropy of the target tokens; units are tokens
dpo, orpo, simpo, kto      how likely whole answers are (train/preference_losses.py); units are pairs or answers
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from xiaozao.data.order import in_order
from xiaozao.data.prepare import Samples
from xiaozao.machine.heap import give_back
from xiaozao.models.blocks import Decoder, evaluating
from xiaozao.train.batches import PackedRow, packed_row
from xiaozao.train.head import head_loss
from xiaozao.train.preference_losses import Preference, Strength, dpo, kto, orpo, simpo
from xiaozao.train.ranks import ALONE, Ranks

Loss = Callable[[Decoder, PackedRow], Tensor]


def sft(decoder: Decoder, row: PackedRow) -> Tensor:
    """Supervised fine-tuning: the summed cross-entropy of the row's target tokens."""
    states = decoder.hidden(row.ids, row.positions)
    return head_loss(decoder.head, states.index_select(0, row.sources), row.labels)


def _of_tokens(_: Strength) -> Loss:
    return sft


LOSSES: dict[str, Callable[[Strength], Loss]] = {
    "sft": _of_tokens,
    "pretrain": _of_tokens,  # every token of a text is a target; nothing else differs
    "dpo": partial(Preference, dpo, referenced=True),
    "orpo": partial(Preference, orpo),
    "simpo": partial(Preference, simpo),
    "kto": partial(Preference, kto, referenced=True, pointed=True),
}


@dataclass(frozen=True)
class Mean:
    """A loss over a whole set: its mean over all units, and the set's target tokens.

    accuracy and margin: of preferences, the share of samples whose reward is on the right side, and by how much.
    """

    loss: float
    targets: int
    accuracy: float | None = None
    margin: float | None = None


def mean_loss(
    decoder: Decoder, loss: Loss, samples: Samples, size: int, ranks: Ranks = ALONE, most: int | None = None
) -> Mean:
    """The loss over all of `samples`, in micro-batches of at most `most` tokens. Training is not touched by it."""
    return mean_over(decoder, loss, samples, in_order(samples, size, most), ranks)


def mean_over(
    decoder: Decoder, loss: Loss, samples: Samples, micros: Sequence[Sequence[int]], ranks: Ranks = ALONE
) -> Mean:
    """The loss over these micro-batches."""
    preference = loss if isinstance(loss, Preference) else None
    total = units = targets = right = margin = 0.0
    with evaluating(decoder), torch.no_grad():
        point = preference.point(decoder, samples, micros, ranks) if preference else 0.0
        for piece in ranks.share(micros):
            row = replace(packed_row(samples, piece.item, decoder.device), point=point)
            with decoder.attention.segments(row.lengths):
                if preference:
                    judged = preference.judge(decoder, row)
                    total += piece.weight * float(judged.losses.sum())
                    right += piece.weight * judged.right
                    margin += piece.weight * float(judged.margins.sum())
                else:
                    total += piece.weight * float(loss(decoder, row))
            units += piece.weight * row.units
            targets += piece.weight * len(row.labels)
    give_back()
    total, units, targets, right, margin = ranks.sum(total, units, targets, right, margin)
    if preference is None:
        return Mean(total / units, int(targets))
    return Mean(total / units, int(targets), right / units, margin / units)
