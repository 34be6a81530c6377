"""The head and the cross-entropy in chunks. Logits never exist as a whole.

    head_loss      the sum over all labels: supervised training
    token_losses   one number per label, each of which may then weigh differently: preferences

The gradient of a chunk's logits is turned into the gradient of its states at once, so at most chunk x vocabulary
numbers live at a time. That is possible before backward because a label's loss depends on its own state alone: a weight
that comes later multiplies that state's gradient. Only the head's own gradient, a sum over all labels, has to know the
weights; where a head learns from weighted labels, backward computes the logits once more.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xiaozao.models.blocks import Head
from xiaozao.models.layers.autograd import call
from xiaozao.models.layers.bases import Base, DenseBase
from xiaozao.models.layers.linear import FrozenLinear


class _HeadLoss(torch.autograd.Function):
    """states (n, hidden), labels (n) -> the sum of -log p(label). The weight's gradient only if it learns."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor | None, bias: Tensor | None, labels: Tensor, head: Head
    ) -> Tensor:
        wide = _wide(states)
        total = torch.zeros((), dtype=wide, device=states.device)
        wants = ctx.needs_input_grad
        grad_states = torch.empty_like(states) if wants[0] else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if weight is not None and wants[1] else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and wants[2] else None
        buffer, compute = _buffer(states, head), _compute(states)
        base, short_bias = _base(head, weight, compute), None if bias is None else bias.to(compute)
        for place in _chunks(len(labels), head.chunk):
            rows = states[place]
            narrow = base.product(rows.to(compute), short_bias)
            losses, grad = _cross_entropy(head, narrow, labels[place], buffer, any(wants[:3]))
            total += losses.sum()
            if grad is not None and grad_weight is not None:
                grad_weight.addmm_(grad.t(), rows.to(wide))
            if grad is not None and grad_bias is not None:
                grad_bias += grad.sum(0)
            if grad is not None and grad_states is not None:
                grad_states[place] = base.product_back(narrow.copy_(grad), None)
            del narrow, grad
        ctx.grads = grad_states, grad_weight, grad_bias
        ctx.dtypes = None if weight is None else weight.dtype, None if bias is None else bias.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        upstream = grads[0]
        (states, weight, bias), ctx.grads = ctx.grads, None
        return (
            None if states is None else states * upstream.to(states.dtype),
            None if weight is None else weight.mul_(upstream).to(ctx.dtypes[0]),
            None if bias is None else bias.mul_(upstream).to(ctx.dtypes[1]),
            None,
            None,
        )


class _TokenLosses(torch.autograd.Function):
    """states (n, hidden), labels (n) -> -log p(label) (n)."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor | None, bias: Tensor | None, labels: Tensor, head: Head
    ) -> Tensor:
        losses = torch.empty(len(labels), dtype=_wide(states), device=states.device)
        frozen = not any(ctx.needs_input_grad[1:3])
        grad_states = torch.empty_like(states) if ctx.needs_input_grad[0] and frozen else None
        buffer, compute = _buffer(states, head), _compute(states)
        base, short_bias = _base(head, weight, compute), None if bias is None else bias.to(compute)
        for place in _chunks(len(labels), head.chunk):
            narrow = base.product(states[place].to(compute), short_bias)
            losses[place], grad = _cross_entropy(head, narrow, labels[place], buffer, grad_states is not None)
            if grad is not None and grad_states is not None:
                grad_states[place] = base.product_back(narrow.copy_(grad), None)
            del narrow, grad
        ctx.head, ctx.grad_states = head, grad_states
        ctx.compute = compute  # autocast's, which backward does not see
        if not frozen:
            ctx.save_for_backward(states, weight, bias, labels)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        upstream = grads[0][:, None]
        if ctx.grad_states is not None:
            return ctx.grad_states * upstream.to(ctx.grad_states.dtype), None, None, None, None
        states, weight, bias, labels = ctx.saved_tensors
        short, short_bias = weight.to(ctx.compute), None if bias is None else bias.to(ctx.compute)
        grad_states, buffer = torch.empty_like(states), _buffer(states, ctx.head)
        grad_weight = torch.zeros_like(weight, dtype=buffer.dtype)
        grad_bias = None if bias is None else torch.zeros_like(bias, dtype=buffer.dtype)
        for place in _chunks(len(labels), ctx.head.chunk):
            rows = states[place]
            narrow = F.linear(rows.to(ctx.compute), short, short_bias)
            _, grad = _cross_entropy(ctx.head, narrow, labels[place], buffer, True)
            assert grad is not None
            grad *= upstream[place]
            grad_weight.addmm_(grad.t(), rows.to(grad.dtype))
            if grad_bias is not None:
                grad_bias += grad.sum(0)
            grad_states[place] = narrow.copy_(grad) @ short
            del narrow, grad
        own_bias = None if grad_bias is None else grad_bias.to(bias.dtype)
        return grad_states, grad_weight.to(weight.dtype), own_bias, None, None


def head_loss(head: Head, states: Tensor, labels: Tensor) -> Tensor:
    """The summed cross-entropy of labels (n) given states (n, hidden), in fp32."""
    return call(_HeadLoss, states, _weight(head), head.linear.bias, labels, head)


def token_losses(head: Head, states: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of each of the labels (n) given states (n, hidden), in fp32."""
    return call(_TokenLosses, states, _weight(head), head.linear.bias, labels, head)


def _cross_entropy(
    head: Head, narrow: Tensor, labels: Tensor, buffer: Tensor, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """The head's product (n, vocabulary) -> -log p(label) (n), and its gradient where wanted, in the buffer."""
    places = torch.arange(len(labels), device=narrow.device)
    logits = head.finish(buffer[: len(narrow)].copy_(narrow))
    own, top = logits[places, labels], logits.amax(1)
    # Soft-max in place, in one pass: the largest share is 1 / sum, which gives the sum without another one.
    kept = head.cap or logits.device.type != "cpu"
    shares = torch.softmax(logits, 1) if kept else torch._softmax(logits, 1, False, out=logits)
    losses = top - shares.amax(1).log() - own
    if not wanted:
        return losses, None
    shares[places, labels] -= 1
    return losses, head.finish_backward(shares, logits)


def _chunks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


def _weight(head: Head) -> Tensor | None:
    """The head's weight, as autograd has to see it; none where it lies on disk."""
    return None if isinstance(head.linear, FrozenLinear) else head.linear.weight


def _base(head: Head, weight: Tensor | None, compute: torch.dtype) -> Base:
    """The head's matrix in the compute dtype, converted once: one that learns is fp32, the states may be shorter."""
    if isinstance(head.linear, FrozenLinear):
        return head.linear.base
    assert weight is not None
    return DenseBase(weight.to(compute))


def _compute(states: Tensor) -> torch.dtype:
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype


def _buffer(states: Tensor, head: Head) -> Tensor:
    return torch.empty(
        min(head.chunk, len(states)), head.linear.out_features, dtype=_wide(states), device=states.device
    )


def _wide(states: Tensor) -> torch.dtype:
    return torch.float64 if states.dtype == torch.float64 else torch.float32
