"""The adapted linear layer: a frozen base weight plus LoRA, y = x W' + b + s (x A') B'.

Source: Hu et al. 2021, "LoRA". The backward pass is written by hand so that the input is kept once, in the compute
dtype, and the product x A' is computed again instead of kept. A and B are fp32 and take part in the compute dtype.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xiaozao.errors import NotFound, UsageError


class _LoraLinear(torch.autograd.Function):
    """x (..., in), weight (out, in), a (rank, in), b (out, rank) -> (..., out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x, a, b)
        ctx.weight, ctx.scale = weight, scale  # frozen: no version check is needed
        rows = x.reshape(-1, x.shape[-1])
        y = F.linear(rows, weight, bias)
        y.addmm_(rows @ a.to(x.dtype).t(), b.to(x.dtype).t(), alpha=scale)
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, a, b = ctx.saved_tensors
        rows, grad = x.reshape(-1, x.shape[-1]), grads[0].reshape(-1, grads[0].shape[-1])
        a_, b_ = a.to(x.dtype), b.to(x.dtype)
        down = grad @ b_  # (tokens, rank)
        grad_a = (down.t() @ rows).to(a.dtype).mul_(ctx.scale)
        grad_b = (grad.t() @ (rows @ a_.t())).to(b.dtype).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ ctx.weight
            grad_x = grad_x.addmm_(down, a_, alpha=ctx.scale).view(x.shape)
        return grad_x, None, None, grad_a, grad_b, None


def lora_linear(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """x W' + b + scale (x A') B', with gradients for x, A and B alone. Shapes as in _LoraLinear."""
    return _LoraLinear.apply(x, weight, bias, a, b, scale)  # type: ignore[no-any-return, no-untyped-call]


class AdaptedLinear(nn.Module):
    """A linear layer of the model with an adapter beside it. A is drawn, B is zero: at first it changes nothing."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.weight, self.bias = base.weight.requires_grad_(False), base.bias
        if self.bias is not None:
            self.bias.requires_grad_(False)
        self.in_features, self.out_features, self.rank = base.in_features, base.out_features, rank
        self.scale = alpha / rank
        self.enabled = True
        bound = 1 / math.sqrt(base.in_features)  # PEFT's: kaiming_uniform with a = sqrt(5)
        start = torch.rand(rank, base.in_features, generator=generator) * (2 * bound) - bound
        self.lora_a = nn.Parameter(start.to(base.weight.device))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return F.linear(x, self.weight, self.bias)
        return lora_linear(x, self.weight, self.bias, self.lora_a, self.lora_b, self.scale)

    def merged_weight(self) -> Tensor:
        """W + s B A, computed in fp32, in W's dtype."""
        delta = (self.lora_b.detach() @ self.lora_a.detach()).mul_(self.scale)
        return delta.add_(self.weight.detach()).to(self.weight.dtype)


def matching(model: nn.Module, head: nn.Module | None, targets: tuple[str, ...]) -> list[str]:
    """The names of the linear layers that `targets` asks for; `all-linear` leaves the head out.

    Raises UsageError for a target that matches no layer, with the names there are.
    """
    names = [name for name, one in model.named_modules() if isinstance(one, nn.Linear) and one is not head]
    if targets == ("all-linear",):
        return names
    kinds = sorted({name.rpartition(".")[2] for name in names})
    for target in targets:
        if not any(_matches(name, target) for name in names):
            raise UsageError("target", target=target, known=", ".join(kinds))
    return [name for name in names if any(_matches(name, target) for target in targets)]


def adapt(model: nn.Module, names: list[str], rank: int, alpha: float, seed: int) -> dict[str, AdaptedLinear]:
    """Freeze the model and put an adapter beside each named layer. Raises NotFound when there is none."""
    if not names:
        raise NotFound("no_linear")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for name in names:
        base = model.get_submodule(name)
        assert isinstance(base, nn.Linear)
        layers[name] = AdaptedLinear(base, rank, alpha, generator)
        put(model, name, layers[name])
    return layers


def put(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put a module in the place of the submodule `name`."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)


def adapters(model: nn.Module) -> dict[str, AdaptedLinear]:
    """The adapted layers of a model by name."""
    return {name: one for name, one in model.named_modules() if isinstance(one, AdaptedLinear)}


def merge(model: nn.Module) -> None:
    """Replace each adapted layer by a plain one with the merged weight. Raises UsageError when there is none."""
    layers = adapters(model)
    if not layers:
        raise UsageError("already_merged")
    for name, layer in layers.items():
        put(model, name, _plain(layer))


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """The base model alone, for a while."""
    layers = list(adapters(model).values())
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.enabled = True


def _plain(layer: AdaptedLinear) -> nn.Linear:
    linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    linear.weight = nn.Parameter(layer.merged_weight(), requires_grad=False)
    linear.bias = layer.bias
    return linear


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)
