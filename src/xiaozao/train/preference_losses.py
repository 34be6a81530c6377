"""Losses on how likely whole answers are: DPO, ORPO, SimPO, KTO.

    row -> log p of each sequence's answer [-> log p under the model that training began with] -> formula

A formula sees log-probabilities alone and gives one loss and one margin per sample. The loss of a step is the mean
over its samples (pairs, or answers with a verdict), so any split into micro-batches gives the same gradient. A margin
says by how much a sample's reward is on the right side; the share of margins above 0 is the reward accuracy.

The model that training began with is this one with its adapter switched off; never is a second model in memory. Where
that does not give it back, the row brings the log-probabilities along (worker/reference.py).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from xiaozao.data.prepare import Samples
from xiaozao.models.blocks import Decoder, evaluating
from xiaozao.models.layers.linear import adapters, without_adapters
from xiaozao.train.batches import PackedRow, packed_row
from xiaozao.train.head import token_losses
from xiaozao.train.ranks import ALONE, Ranks

CERTAIN = -1e-6  # ORPO: an answer of probability 1 would have infinite odds


@dataclass(frozen=True)
class Strength:
    """The coefficients of a formula; see the options of the same names."""

    beta: float = 0.1
    gamma: float = 0.0
    label_smoothing: float = 0.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0


@dataclass(frozen=True)
class Scores:
    """For each sequence (S): the log-probabilities of its answer, now and at the start, and its number of tokens.

    Of pairs sequences 0, 2, 4 ... are chosen, 1, 3, 5 ... rejected. liked (S) and point are KTO's.
    """

    policy: Tensor
    reference: Tensor | None
    tokens: Tensor
    liked: Tensor | None = None
    point: float = 0.0

    @property
    def ratios(self) -> Tensor:
        """log (p now / p at the start) of each sequence."""
        assert self.reference is not None
        return self.policy - self.reference

    @property
    def means(self) -> Tensor:
        """The log-probability per token of each sequence."""
        return self.policy / self.tokens


@dataclass(frozen=True)
class Judgement:
    """For each sample of a row: its loss, with a gradient, and its margin, without one."""

    losses: Tensor
    margins: Tensor

    @property
    def right(self) -> float:
        """How many samples have their reward on the right side; undecided ones, as all are at the start, count half."""
        return float(((self.margins > 0).double() + 0.5 * (self.margins == 0).double()).sum())


Formula = Callable[[Scores, Strength], tuple[Tensor, Tensor]]  # -> losses and margins, each (samples)


def dpo(scores: Scores, how: Strength) -> tuple[Tensor, Tensor]:
    """-log sigmoid of the margin of the rewards beta log (p / p at the start).

    Source: Rafailov et al. 2023, "Direct Preference Optimization", equation 7; label_smoothing as in Mitchell 2023, "A
    note on DPO with noisy preferences".
    """
    margins = how.beta * _chosen_less_rejected(scores.ratios)
    losses = -(1 - how.label_smoothing) * F.logsigmoid(margins) - how.label_smoothing * F.logsigmoid(-margins)
    return losses, margins


def simpo(scores: Scores, how: Strength) -> tuple[Tensor, Tensor]:
    """As DPO with the reward beta times the log-probability per token, which has to lead by gamma.

    Source: Meng et al. 2024, "SimPO", equation 6.
    """
    margins = how.beta * _chosen_less_rejected(scores.means)
    return -F.logsigmoid(margins - how.gamma), margins


def orpo(scores: Scores, how: Strength) -> tuple[Tensor, Tensor]:
    """The chosen answer's cross-entropy per token, plus beta times -log sigmoid of the log odds ratio.

    Source: Hong et al. 2024, "ORPO", equations 2, 4, 6 and 7, with beta for their lambda. The cross-entropy is the mean
    over the tokens of each chosen answer, so that each pair counts alike whatever shares its step.
    """
    means = scores.means
    odds = means - torch.log(-torch.expm1(means.clamp(max=CERTAIN)))
    losses = -means[0::2] - how.beta * F.logsigmoid(_chosen_less_rejected(odds))
    return losses, how.beta * _chosen_less_rejected(means)


def kto(scores: Scores, how: Strength) -> tuple[Tensor, Tensor]:
    """w (1 - sigmoid(m)), with m the distance of the reward beta log (p / p at the start) from the reference point, up
    for good answers, down for bad ones.

    Source: Ethayarajh et al. 2024, "KTO", equation 8. The reference point: see Preference.point.
    """
    assert scores.liked is not None
    good = scores.liked.to(scores.policy.dtype)
    weights = how.desirable_weight * good + how.undesirable_weight * (1 - good)
    margins = how.beta * (scores.ratios - scores.point) * (2 * good - 1)
    return weights * torch.sigmoid(-margins), margins


def _chosen_less_rejected(values: Tensor) -> Tensor:
    return values[0::2] - values[1::2]


def _here(work: Callable[[], Tensor]) -> Tensor:
    return work()


@dataclass(frozen=True)
class Preference:
    """A loss on preferences: (decoder, row) -> the sum over the row's samples.

    referenced: the formula looks at the model that training began with; pointed: and at KTO's reference point.
    run: how the model is called; several ranks do it together (train/distributed.py).
    """

    formula: Formula
    how: Strength
    referenced: bool = False
    pointed: bool = False
    run: Callable[[Callable[[], Tensor]], Tensor] = _here

    def __call__(self, decoder: Decoder, row: PackedRow) -> Tensor:
        return self.judge(decoder, row).losses.sum()

    def judge(self, decoder: Decoder, row: PackedRow) -> Judgement:
        """The loss and the margin of each sample. The segments of the row must be set."""
        reference = self._reference(decoder, row) if self.referenced else None  # first, while nothing else is kept
        policy = self.log_probabilities(decoder, row)
        tokens = torch.tensor(row.counts, dtype=policy.dtype, device=policy.device)
        losses, margins = self.formula(Scores(policy, reference, tokens, row.liked, row.point), self.how)
        return Judgement(losses, margins.detach())

    def log_probabilities(self, decoder: Decoder, row: PackedRow) -> Tensor:
        """log p of the target tokens of each sequence (S), in fp32."""

        def work() -> Tensor:
            states = decoder.hidden(row.ids, row.positions)
            losses = token_losses(decoder.head, states.index_select(0, row.sources), row.labels)
            return -torch.stack([one.sum() for one in losses.split(row.counts)])

        return self.run(work)

    def point(self, decoder: Decoder, samples: Samples, micros: Sequence[Sequence[int]], ranks: Ranks = ALONE) -> float:
        """KTO's reference point: how far the model has moved from its start on answers to other prompts, at least 0.

        The paper takes the mean over the micro-batch, which would make the gradient depend on how a step is divided;
        here it is the mean over all micro-batches of the step (of a validation: over all of it), computed before them.
        It is 0 where no sample has an answer to another prompt: an answer held against itself would never move.
        """
        crossing = _with_partner(samples, micros) if self.pointed else []
        if not crossing:
            return 0.0
        total = count = 0.0
        with torch.no_grad():
            for piece in ranks.share(crossing):
                row = packed_row(samples, piece.item, decoder.device, crossed=True)
                with decoder.attention.segments(row.lengths):
                    moved = self.log_probabilities(decoder, row) - self._reference(decoder, row)
                total += piece.weight * float(moved.double().sum())
                count += piece.weight * len(moved)
        total, count = ranks.sum(total, count)
        mean = total / count
        return mean if math.isnan(mean) else max(0.0, mean)  # max() would hide a NaN

    def reference(
        self,
        decoder: Decoder,
        samples: Samples,
        size: int,
        ranks: Ranks = ALONE,
        on_progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> NDArray[np.float32]:
        """The values for Samples.reference, under the present model: [1, sequences], or [2, sequences] with a point."""
        scores = np.zeros((1 + self.pointed, len(samples.offsets) - 1))
        micros = [range(at, min(at + size, len(samples))) for at in range(0, len(samples), size)]
        with evaluating(decoder), torch.no_grad():
            for piece in ranks.share(micros):
                numbers = [number for index in piece.item for number in samples.sequences(index)]
                for crossed in range(len(scores)):
                    if crossed:
                        numbers = [number for number in numbers if samples.partner(number) is not None]
                    if not numbers:
                        continue
                    row = packed_row(samples, numbers if crossed else piece.item, decoder.device, crossed=bool(crossed))
                    with decoder.attention.segments(row.lengths):
                        values = self.log_probabilities(decoder, row).double().cpu().numpy()
                    if piece.weight:
                        scores[crossed, numbers] = values
                on_progress(min(piece.number + 1, len(micros)), len(micros))
        return np.array(ranks.sum(*scores.flat), dtype=np.float32).reshape(scores.shape)

    def _reference(self, decoder: Decoder, row: PackedRow) -> Tensor:
        if row.reference is not None:
            return row.reference
        if not adapters(decoder.model):
            raise RuntimeError(
                "the log-probabilities at the start are not known, and there is no adapter to switch off"
            )
        with torch.no_grad(), without_adapters(decoder.model):
            return self.log_probabilities(decoder, row)


def _with_partner(samples: Samples, micros: Sequence[Sequence[int]]) -> list[list[int]]:
    """The micro-batches, reduced to the samples that can be crossed. Answers with verdicts are one sequence each."""
    kept = [[one for one in micro if samples.partner(one) is not None] for micro in micros]
    return [micro for micro in kept if micro]


def packed_rows(
    loss: object, decoder: Decoder, samples: Samples, micros: Sequence[Sequence[int]], ranks: Ranks = ALONE
) -> list[PackedRow]:
    """The rows of a step's micro-batches, with what its loss has to know of the whole step."""
    rows = [packed_row(samples, micro, decoder.device) for micro in micros]
    if not (isinstance(loss, Preference) and loss.pointed):
        return rows
    point = loss.point(decoder, samples, micros, ranks)
    return [replace(row, point=point) for row in rows]
