"""The frozen weight inside a linear layer, and the methods that every way of storing it must have.

The quantised ways are in quantize.py, the streamed one in models/loading/stream.py. A base multiplies in forward and in
backward, and has no gradient. The linear layers (linear.py) and the fused functions (fused.py) use these methods alone,
so a weight may lie in memory in the compute dtype, quantised, or on disk.
"""

import itertools

import torch
from torch import Tensor, nn


class Base(nn.Module):
    """A frozen matrix (out, in)."""

    in_features: int
    out_features: int
    stored_dtype: torch.dtype  # what a merged weight is written as

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    def product(self, rows: Tensor, bias: Tensor | None) -> Tensor:
        """rows (T, in) -> rows W' + bias (T, out)."""
        raise NotImplementedError

    def product_back(self, grad: Tensor, into: Tensor | None) -> Tensor:
        """grad (T, out) -> grad W (T, in), added to `into` where one is given (which is then changed)."""
        raise NotImplementedError

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix itself (out, in)."""
        raise NotImplementedError


class DenseBase(Base):
    """A weight that is stored as it is computed with."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.out_features, self.in_features = weight.shape
        self.stored_dtype = weight.dtype

    def product(self, rows: Tensor, bias: Tensor | None) -> Tensor:
        return torch.nn.functional.linear(rows, self.weight, bias)

    def product_back(self, grad: Tensor, into: Tensor | None) -> Tensor:
        return grad @ self.weight if into is None else into.addmm_(grad, self.weight)

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self.weight.detach().to(dtype)


def parameter_count(model: nn.Module) -> int:
    """The parameters of a model, each counted once however it is stored."""
    bases = [one for one in model.modules() if isinstance(one, Base)]
    stored = {id(state) for one in bases for state in one.parameters()}
    plain = sum(one.numel() for one in model.parameters() if id(one) not in stored)
    return plain + sum(one.in_features * one.out_features for one in bases)
