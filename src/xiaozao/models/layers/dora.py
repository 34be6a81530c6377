"""DoRA: the direction of a weight learns through LoRA, its magnitude by itself.

    y = g (x W' + s (x A') B') + b,   g = m / n,   n = |W + s B A| row by row

Source: Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation". As there (section 4.3) and in PEFT, n counts as
a constant in backward. It is never taken from the sum of the matrices, which would be one dense matrix per layer and
step, but from |W|^2 + 2 s <W A', B> + s^2 <A A' B', B>, which works on any base.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xiaozao.models.layers.autograd import call
from xiaozao.models.layers.bases import Base
from xiaozao.models.layers.linear import Adapted, Adapter, Plain, product, product_back


@dataclass(frozen=True)
class Direction:
    """What the norm of a row is computed from: the base, its squared row norms (out), and the scale."""

    base: Base
    squares: Tensor
    scale: float

    def norms(self, a: Tensor, b: Tensor, compute: torch.dtype) -> Tensor:
        """|W + s B A| (out), in the dtype of A; the product W A' is computed in `compute`, as the layer's is."""
        crossed = self.base.product(a.to(compute), None).t().to(a.dtype)  # (out, rank)
        inner = (2 * self.scale * crossed + self.scale**2 * (b @ (a @ a.t()))) * b
        return (self.squares.to(a.dtype) + inner.sum(1)).clamp_min(1e-24).sqrt()


class _DoraLinear(torch.autograd.Function):
    """rows (T, in), a (rank, in), b (out, rank), m (out) -> (T, out)."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, a: Tensor, b: Tensor, m: Tensor, direction: Direction, bias: Tensor | None
    ) -> Tensor:
        out, low = product(rows, direction.base, bias, Adapter(a, b, direction.scale))
        norms = direction.norms(a, b, rows.dtype)
        moved = out.clone() if bias is None else out - bias
        ctx.save_for_backward(rows, low, a, b, m, norms, moved)
        ctx.direction = direction
        # Added to what the base gave, and in the magnitude's own dtype: bf16 cannot tell a gain of 1.003 from one,
        # and at the start, where the gain is one, no bit may change.
        out.addcmul_(moved, m / norms - 1)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, a, b, m, norms, moved = ctx.saved_tensors
        grad = grads[0]
        grad_m = (grad.to(m.dtype) * moved).sum(0) / norms
        inner = torch.mul(grad, m / norms, out=torch.empty_like(grad))
        lora, wanted = Adapter(a, b, ctx.direction.scale), ctx.needs_input_grad[0]
        grad_rows, grad_a, grad_b = product_back(rows, low, inner, ctx.direction.base, lora, wanted=wanted)
        return grad_rows, grad_a, grad_b, grad_m, None, None


def dora_linear(x: Tensor, bias: Tensor | None, direction: Direction, lora: Adapter, magnitude: Tensor) -> Tensor:
    """x (..., in) -> g (x W' + s (x A') B') + b (..., out), with gradients for x, A, B and the magnitude."""
    rows = x.reshape(-1, x.shape[-1])
    return call(_DoraLinear, rows, lora.a, lora.b, magnitude, direction, bias).view(*x.shape[:-1], -1)


class DoraLinear(Adapted):
    """A linear layer with DoRA beside it. The magnitude starts as |W|: at first it changes nothing."""

    fusable = False

    def __init__(self, base: Plain, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__(base, rank, alpha, generator)
        squares = self.base.dense(torch.float32).square().sum(1)
        self.register_buffer("squares", squares, persistent=False)
        self.squares: Tensor
        self.magnitude = nn.Parameter(squares.clamp_min(1e-24).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return self.original(x)
        direction = Direction(self.base, self.squares, self.scale)
        return dora_linear(x, self.bias, direction, self.adapter, self.magnitude)

    def whole(self, lora: Adapter) -> Tensor:
        weight = super().whole(lora)
        gain: Tensor = self.magnitude / weight.detach().norm(dim=1)
        return weight * gain[:, None]

    def saved(self) -> dict[str, Tensor]:
        return {**super().saved(), "lora_magnitude_vector": self.magnitude.detach()}

    def take(self, saved: Mapping[str, Tensor]) -> None:
        super().take(saved)
        with torch.no_grad():
            self.magnitude.copy_(saved["lora_magnitude_vector"])
