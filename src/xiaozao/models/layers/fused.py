"""The parts of a block in few passes, each with its backward written by hand.

Plain modules take a pass over memory for every small step and keep many copies for backward. Here a part reads its
input once, computes in fp32 where the model does, and keeps what it cannot cheaply compute again:

    rms_norm   keeps its input and one number per row (rmsnorm.py)
    swiglu     keeps its input, gate and up, or its input alone; silu(gate) x up is always computed again
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xiaozao.models.layers.autograd import call
from xiaozao.models.layers.bases import Base
from xiaozao.models.layers.linear import Adapter, product, product_back


@dataclass(frozen=True)
class Linear:
    """A linear layer as fused functions use it: a base, a bias, and an adapter's scale where it has an adapter."""

    base: Base
    bias: Tensor | None
    scale: float | None


class _SwiGlu(torch.autograd.Function):
    """rows (T, in) -> down(silu(gate(rows)) * up(rows))."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, layers: Sequence[Linear], again: bool, *tensors: Tensor) -> Tensor:
        gate_lora, up_lora, down_lora = _adapters(layers, tensors)
        gate, low_gate = _forward(rows, layers[0], gate_lora)
        up, low_up = _forward(rows, layers[1], up_lora)
        out, low_down = _forward(F.silu(gate).mul_(up), layers[2], down_lora)
        ctx.layers, ctx.again = layers, again
        kept = [] if again else [gate, up]
        ctx.save_for_backward(rows, *low_gate, *low_up, *low_down, *tensors, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, *others = ctx.saved_tensors
        lows, rest = _split(ctx.layers, others)
        loras = _adapters(ctx.layers, rest)
        grad = grads[0]
        if ctx.again:
            gate, up = (_forward(rows, layer, lora)[0] for layer, lora in zip(ctx.layers[:2], loras, strict=False))
        else:
            gate, up = rest[-2:]
        open_ = F.silu(gate)
        inner, own_down = _backward(open_ * up, lows[2], grad, ctx.layers[2], loras[2], None, True)
        assert inner is not None
        grad_up = open_.mul_(inner)
        grad_gate = torch.ops.aten.silu_backward(inner.mul_(up), gate)
        del inner
        wanted = ctx.needs_input_grad[0]
        total, own_gate = _backward(rows, lows[0], grad_gate, ctx.layers[0], loras[0], None, wanted)
        total, own_up = _backward(rows, lows[1], grad_up, ctx.layers[1], loras[1], total, wanted)
        return total, None, None, *own_gate, *own_up, *own_down


def swiglu(x: Tensor, layers: Sequence[Linear], adapters: Sequence[Adapter | None], again: bool = False) -> Tensor:
    """The gated MLP (Shazeer 2020) of x (..., in); layers are gate, up and down.

    again: backward computes gate and up once more.
    """
    rows = x.reshape(-1, x.shape[-1])
    return call(_SwiGlu, rows, layers, again, *_tensors(adapters)).view(*x.shape[:-1], -1)


def _forward(rows: Tensor, layer: Linear, lora: Adapter | None) -> tuple[Tensor, list[Tensor]]:
    if lora is None:
        return layer.base.product(rows, layer.bias), []
    out, low = product(rows, layer.base, layer.bias, lora)
    return out, [low]


def _backward(
    rows: Tensor,
    low: Tensor | None,
    grad: Tensor,
    layer: Linear,
    lora: Adapter | None,
    into: Tensor | None,
    wanted: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """The gradient of rows added to `into`, and those of the adapter's tensors."""
    if lora is None or low is None:
        return (layer.base.product_back(grad, into) if wanted else None), []
    total, grad_a, grad_b = product_back(rows, low, grad, layer.base, lora, into, wanted)
    return total, [grad_a, grad_b]


def _tensors(adapters: Sequence[Adapter | None]) -> list[Tensor]:
    return [tensor for one in adapters if one is not None for tensor in (one.a, one.b)]


def _adapters(layers: Sequence[Linear], tensors: Sequence[Tensor]) -> list[Adapter | None]:
    """The adapters rebuilt from their tensors, in order."""
    rest = iter(tensors)
    return [None if layer.scale is None else Adapter(next(rest), next(rest), layer.scale) for layer in layers]


def _split(layers: Sequence[Linear], others: Sequence[Tensor]) -> tuple[list[Tensor | None], Sequence[Tensor]]:
    """What was saved behind the input: the narrow products of the layers that have an adapter, then the rest."""
    rest = iter(others)
    lows = [None if layer.scale is None else next(rest) for layer in layers]
    return lows, list(rest)
