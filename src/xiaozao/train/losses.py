"""Losses as (decoder, row) -> sum over target tokens. Logits never exist as a whole.

The head and the cross-entropy run over chunks of the states that predict a target, and the gradient of a chunk's
logits is turned into the gradient of its states at once, so at most CHUNK x vocabulary numbers live at a time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from xiaozao.data.prepare import Samples
from xiaozao.models.autograd import call
from xiaozao.models.blocks import Decoder, Head
from xiaozao.models.heap import give_back
from xiaozao.train.batches import PackedRow, packed_row

CHUNK = 128  # rows of logits at a time; 128 x 49,152 in fp32 is 25 MB


class _HeadLoss(torch.autograd.Function):
    """states (n, hidden), labels (n) -> the sum of -log p(label). The weight's gradient only if it learns."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, head: Head) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        wants = ctx.needs_input_grad
        grad_states = torch.empty_like(states) if wants[0] else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants[1] else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wants[2] else None
        for start in range(0, len(labels), CHUNK):
            rows, chosen = states[start : start + CHUNK], labels[start : start + CHUNK]
            logits = head.logits(rows)
            logs = torch.logsumexp(logits, dim=1, keepdim=True)
            total += (logs.squeeze(1) - logits.gather(1, chosen[:, None]).squeeze(1)).sum()
            if not any(wants[:3]):
                continue
            grad = torch.exp(logits - logs)
            grad[torch.arange(len(chosen), device=grad.device), chosen] -= 1
            grad = head.finish_backward(grad, logits)
            if grad_weight is not None:
                grad_weight += grad.t() @ rows.float()
            if grad_bias is not None:
                grad_bias += grad.sum(0)
            if grad_states is not None:
                grad_states[start : start + CHUNK] = grad.to(states.dtype) @ weight.to(states.dtype)
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


def mean_loss(decoder: Decoder, loss: Loss, samples: Samples, micro_batch: int) -> tuple[float, int]:
    """The mean loss over all target tokens of `samples`, and their number. Training is not touched by it."""
    total, targets = 0.0, 0
    with evaluating(decoder), torch.no_grad():
        for start in range(0, len(samples), micro_batch if decoder.packing else 1):
            chosen = range(start, min(start + (micro_batch if decoder.packing else 1), len(samples)))
            row = packed_row(samples, chosen, decoder.device)
            with decoder.attention.segments(row.lengths):
                total += float(loss(decoder, row))
            targets += len(row.labels)
    give_back()
    return total / targets, targets


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
