"""Losses as (decoder, row) -> sum over target tokens. Logits never exist as a whole.

The head and the cross-entropy run over chunks of the states that predict a target, and the gradient of a chunk's
logits is turned into the gradient of its states at once, so at most CHUNK x vocabulary numbers live at a time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xiaozao.data.prepare import Samples
from xiaozao.models.autograd import call
from xiaozao.models.blocks import Decoder, Head
from xiaozao.models.heap import give_back
from xiaozao.train.batches import PackedRow, packed_row
from xiaozao.train.ranks import ALONE, Ranks

CHUNK = 128  # rows of logits at a time; 128 x 49,152 in fp32 is 25 MB


class _HeadLoss(torch.autograd.Function):
    """states (n, hidden), labels (n) -> the sum of -log p(label). The weight's gradient only if it learns."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, head: Head) -> Tensor:
        wide = torch.float64 if states.dtype == torch.float64 else torch.float32
        total = torch.zeros((), dtype=wide, device=states.device)
        wants = ctx.needs_input_grad
        grad_states = torch.empty_like(states) if wants[0] else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if wants[1] else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and wants[2] else None
        # The whole matrix once in the compute dtype; fp32 masters that learn are turned into it here.
        compute, kind = states.dtype, states.device.type
        if torch.is_autocast_enabled(kind):
            compute = torch.get_autocast_dtype(kind)
        matrix, shift = weight.to(compute), None if bias is None else bias.to(compute)
        buffer = torch.empty(min(CHUNK, len(labels)), weight.shape[0], dtype=wide, device=states.device)
        for start in range(0, len(labels), CHUNK):
            rows, chosen = states[start : start + CHUNK], labels[start : start + CHUNK]
            places = torch.arange(len(chosen), device=states.device)
            narrow = F.linear(rows.to(compute), matrix, shift)
            logits = head.finish(buffer[: len(rows)].copy_(narrow))
            own, top = logits[places, chosen], logits.amax(1)
            # Soft-max in place, in one pass: the largest share is 1 / sum, which gives the sum without another one.
            kept = head.cap or logits.device.type != "cpu"
            shares = torch.softmax(logits, 1) if kept else torch._softmax(logits, 1, False, out=logits)
            total += (top - shares.amax(1).log() - own).sum()
            if not any(wants[:3]):
                continue
            shares[places, chosen] -= 1
            grad = head.finish_backward(shares, logits)
            if grad_weight is not None:
                grad_weight += grad.t() @ rows.to(wide)
            if grad_bias is not None:
                grad_bias += grad.sum(0)
            if grad_states is not None:
                grad_states[start : start + CHUNK] = narrow.copy_(grad) @ matrix
        ctx.grads = grad_states, grad_weight, grad_bias
        ctx.dtypes = weight.dtype, None if bias is None else bias.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        upstream = grads[0]
        states, weight, bias = ctx.grads
        return (
            None if states is None else states * upstream.to(states.dtype),
            None if weight is None else (weight * upstream).to(ctx.dtypes[0]),
            None if bias is None else (bias * upstream).to(ctx.dtypes[1]),
            None,
            None,
        )


def head_loss(head: Head, states: Tensor, labels: Tensor) -> Tensor:
    """The summed cross-entropy of labels (n) given states (n, hidden), in fp32."""
    return call(_HeadLoss, states, head.linear.weight, head.linear.bias, labels, head)


def sft(decoder: Decoder, row: PackedRow) -> Tensor:
    """Supervised fine-tuning: the summed cross-entropy of the row's target tokens."""
    states = decoder.hidden(row.ids, row.positions)
    return head_loss(decoder.head, states.index_select(0, row.sources), row.labels)


Loss = Callable[[Decoder, PackedRow], Tensor]
LOSSES: dict[str, Loss] = {"sft": sft}


def mean_loss(
    decoder: Decoder, loss: Loss, samples: Samples, micro_batch: int, ranks: Ranks = ALONE
) -> tuple[float, int]:
    """The mean loss over all target tokens of `samples`, and their number. Training is not touched by it."""
    total, targets = 0.0, 0.0
    with evaluating(decoder), torch.no_grad():
        for piece in ranks.share(range(0, len(samples), micro_batch)):
            chosen = range(piece.item, min(piece.item + micro_batch, len(samples)))
            row = packed_row(samples, chosen, decoder.device)
            with decoder.attention.segments(row.lengths):
                total += piece.weight * float(loss(decoder, row))
            targets += piece.weight * len(row.labels)
    give_back()
    total, targets = ranks.sum(total, targets)
    return total / targets, int(targets)


@contextmanager
def evaluating(decoder: Decoder) -> Iterator[None]:
    """Dropout off everywhere, and afterwards every module as it was."""
    modes = {module: module.training for module in decoder.model.modules()}
    decoder.model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
