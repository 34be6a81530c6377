"""Causal attention over samples of one size as batched matrix products, with its backward written by hand.

On a CPU this is several times as fast as scaled_dot_product_attention in bf16. The heads that share a key-value head
are laid below each other, so that one product serves them all:

    q (n, heads, S, d)  ->  (n kv, groups x S, d)      scores = q k' scale + mask      out = soft-max(scores) v

Queries are taken in blocks of BLOCK; a block looks only at the keys it can see. Nothing but q, k and v is kept for
backward, where the scores are computed again, so memory grows with S and not with its square.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from xiaozao.models.layers.autograd import call

BLOCK = 128


class _Attention(torch.autograd.Function):
    """q (n, heads, S, d), k (n, kv, S, d), v (n, kv, S, e) -> (n, heads, S, e)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int | None) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.scaling, ctx.window = scaling, window
        n, heads, size, _ = q.shape
        kv = k.shape[1]
        out = q.new_empty(n, heads, size, v.shape[3])
        for start, end, first in blocks(size, window):
            weights = _weights(q, k, (start, end, first), scaling, window)
            part = torch.bmm(weights, v[:, :, first:end].reshape(n * kv, end - first, -1))
            out[:, :, start:end] = part.view(n, heads, end - start, -1)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        n, heads, size, _ = q.shape
        kv = k.shape[1]
        spans = blocks(size, ctx.window)
        grad_q = torch.empty_like(q)
        grad_k, grad_v = torch.zeros_like(k), torch.zeros_like(v)
        for start, end, first in spans:
            weights = _weights(q, k, (start, end, first), ctx.scaling, ctx.window)
            rows = grads[0][:, :, start:end].reshape(n * kv, -1, v.shape[3])
            queries = q[:, :, start:end].reshape(n * kv, -1, q.shape[3])
            keys = k[:, :, first:end].reshape(n * kv, end - first, -1)
            values = v[:, :, first:end].reshape(n * kv, end - first, -1)
            grad_v[:, :, first:end] += torch.bmm(weights.transpose(1, 2), rows).view(n, kv, end - first, -1)
            inner = torch.bmm(rows, values.transpose(1, 2))
            inner = torch._softmax_backward_data(inner, weights, -1, weights.dtype)
            del weights
            product = torch.bmm(inner, keys).mul_(ctx.scaling)
            grad_q[:, :, start:end] = product.view(n, heads, end - start, -1)
            product = torch.bmm(inner.transpose(1, 2), queries).mul_(ctx.scaling)
            grad_k[:, :, first:end] += product.view(n, kv, end - first, -1)
        return grad_q, grad_k, grad_v, None, None


def batched(q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int | None) -> Tensor:
    """Causal attention, optionally over the last `window` keys. Shapes as in _Attention; in autocast's dtype."""
    kind = q.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else v.dtype
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    return call(_Attention, q, k, v, scaling, window)


def blocks(size: int, window: int | None) -> list[tuple[int, int, int]]:
    """(start, end, first): queries start..end look at keys first..end."""
    spans = []
    for start in range(0, size, BLOCK):
        first = max(0, start - window + 1) if window else 0
        spans.append((start, min(start + BLOCK, size), first))
    return spans


def _weights(q: Tensor, k: Tensor, span: tuple[int, int, int], scaling: float, window: int | None) -> Tensor:
    """The soft-max of one block of queries (n kv, groups x block, keys)."""
    start, end, first = span
    n, heads, _, width = q.shape
    kv = k.shape[1]
    queries = q[:, :, start:end].reshape(n * kv, -1, width)
    keys = k[:, :, first:end].reshape(n * kv, end - first, width)
    scores = q.new_empty(n * kv, queries.shape[1], end - first)
    torch.baddbmm(scores, queries, keys.transpose(1, 2), beta=0, alpha=scaling, out=scores)
    if window:
        scores.add_(_mask(start - first, end - start, heads // kv, window, q.dtype, q.device))
    else:
        scores[:, :, start - first :].add_(_mask(0, end - start, heads // kv, None, q.dtype, q.device))
    return torch._softmax(scores, -1, False, out=scores)


@lru_cache(maxsize=16)
def _mask(before: int, size: int, groups: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 where a query may look, -inf elsewhere (groups x size, before + size)."""
    ages = torch.arange(before, before + size, device=device)[:, None] - torch.arange(before + size, device=device)
    hidden = (ages < 0) | (ages >= window) if window else ages < 0
    mask = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))
    return mask.repeat(groups, 1)
