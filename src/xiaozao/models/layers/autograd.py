"""Typed calls of autograd functions with a hand-written backward: `Function.apply` itself has no types."""

import torch
from torch import Tensor


def call(function: type[torch.autograd.Function], *inputs: object) -> Tensor:
    """function.apply(*inputs) of a function with one output."""
    output: Tensor = function.apply(*inputs)
    return output


def call_many(function: type[torch.autograd.Function], *inputs: object) -> tuple[Tensor, ...]:
    """function.apply(*inputs) of a function with several outputs."""
    outputs: tuple[Tensor, ...] = function.apply(*inputs)
    return outputs
