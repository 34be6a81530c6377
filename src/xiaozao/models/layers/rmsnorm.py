"""A root-mean-square norm in few passes, with its backward written by hand: see fused.py.

This module imports only torch, so that measure/calibrate.py, which times small operations, need not import more."""

from typing import Any

import torch
from torch import Tensor

from xiaozao.models.layers.autograd import call


class _RmsNorm(torch.autograd.Function):
    """x (..., size), weight (size) -> x / rms(x) * (weight + offset), computed in fp32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
        wide = x.to(_wide(x.dtype), copy=True)
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        ctx.offset = offset
        return wide.mul_(inverse).mul_(weight.to(wide.dtype) + offset).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        unit = x.to(inverse.dtype, copy=True).mul_(inverse)
        grad = grads[0].to(inverse.dtype, copy=True)
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grad * unit).flatten(0, -2).sum(0).to(weight.dtype)
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, None, None
        grad.mul_(weight.to(grad.dtype) + ctx.offset)
        along = torch.linalg.vecdot(grad, unit).div_(x.shape[-1]).unsqueeze(-1)
        grad.addcmul_(unit, along, value=-1).mul_(inverse)
        return grad.to(x.dtype), grad_weight, None, None


def rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float = 0.0) -> Tensor:
    """Root-mean-square norm (Zhang & Sennrich 2019) over the last dimension, times (weight + offset)."""
    return call(_RmsNorm, x, weight, eps, offset)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
