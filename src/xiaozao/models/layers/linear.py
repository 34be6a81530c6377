"""The adapted linear layer: a frozen base weight plus LoRA, y = x W' + b + s (x A') B'.

Source: Hu et al. 2021, "LoRA". The backward pass is written by hand so that the input is kept once, in the compute
dtype, beside the small product x A'. A and B are fp32 and take part in the compute dtype. Kinds of adapters with more
to them than another start or scale have files of their own (dora.py, pissa.py).
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from xiaozao.errors import NotFound, UsageError
from xiaozao.models.layers.autograd import call
from xiaozao.models.layers.bases import Base, DenseBase
from xiaozao.models.layers.rounding import rounded
from xiaozao.spec.patterns import matches

ALL = "all-linear"
WRITTEN_OUT: dict[type[nn.Module], bool] = {}  # kinds of linear layers with a forward of their own: does it do the same
ROUTERS = ("shared_expert_gate", "wg")  # beside those with `router` or a part `gate` in their names


@dataclass(frozen=True)
class Adapter:
    """The tensors of a LoRA in use: a (rank, in), b (out, rank), fp32; y gets scale x (x a') b'."""

    a: Tensor
    b: Tensor
    scale: float


def product(rows: Tensor, base: Base, bias: Tensor | None, lora: Adapter) -> tuple[Tensor, Tensor]:
    """rows (T, in) -> rows W' + bias + scale (rows a') b' (T, out), and rows a' (T, rank), which backward wants."""
    low = rows @ lora.a.to(rows.dtype).t()
    out = base.product(rows, bias)
    return out.addmm_(low, lora.b.to(rows.dtype).t(), alpha=lora.scale), low


def product_back(
    rows: Tensor, low: Tensor, grad: Tensor, base: Base, lora: Adapter, into: Tensor | None = None, wanted: bool = True
) -> tuple[Tensor | None, Tensor, Tensor]:
    """The gradients of rows (added to `into` where given; None where not wanted), a and b."""
    down = grad @ lora.b.to(grad.dtype)  # (T, rank)
    grad_a = (down.t() @ rows).to(lora.a.dtype).mul_(lora.scale)
    grad_b = (grad.t() @ low).to(lora.b.dtype).mul_(lora.scale)
    if not wanted:
        return None, grad_a, grad_b
    grad_rows = base.product_back(grad, into)
    return grad_rows.addmm_(down, lora.a.to(grad.dtype), alpha=lora.scale), grad_a, grad_b


class _LoraLinear(torch.autograd.Function):
    """rows (T, in), a (rank, in), b (out, rank) -> (T, out)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, a: Tensor, b: Tensor, base: Base, bias: Tensor | None, scale: float) -> Tensor:
        out, low = product(rows, base, bias, Adapter(a, b, scale))
        ctx.save_for_backward(rows, low, a, b)
        ctx.base, ctx.scale = base, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, a, b = ctx.saved_tensors
        lora, wanted = Adapter(a, b, ctx.scale), ctx.needs_input_grad[0]
        return *product_back(rows, low, grads[0], ctx.base, lora, wanted=wanted), None, None, None


class _FrozenLinear(torch.autograd.Function):
    """rows (T, in) -> (T, out) through a base; nothing is kept for backward."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, base: Base, bias: Tensor | None) -> Tensor:
        ctx.base = base
        return base.product(rows, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.base.product_back(grads[0], None), None, None


def lora_linear(x: Tensor, base: Base, bias: Tensor | None, lora: Adapter) -> Tensor:
    """x (..., in) -> x W' + b + scale (x A') B' (..., out), with gradients for x, A and B alone."""
    # Rows are made out here: a view made inside could not be changed in place, which some models do with an output.
    rows = x.reshape(-1, x.shape[-1])
    return call(_LoraLinear, rows, lora.a, lora.b, base, bias, lora.scale).view(*x.shape[:-1], -1)


def frozen_linear(x: Tensor, base: Base, bias: Tensor | None) -> Tensor:
    """x (..., in) -> x W' + b (..., out), with a gradient for x alone."""
    return call(_FrozenLinear, x.reshape(-1, x.shape[-1]), base, bias).view(*x.shape[:-1], -1)


class FrozenLinear(nn.Module):
    """A linear layer that does not learn, on a base that is not stored as nn.Linear stores it.

    `transposed` says that the layer it came from, and so the file, holds the matrix as (in, out).
    """

    def __init__(self, base: Base, bias: nn.Parameter | None, transposed: bool = False) -> None:
        super().__init__()
        self.base, self.bias, self.transposed = base, bias, transposed
        self.in_features, self.out_features = base.in_features, base.out_features

    def forward(self, x: Tensor) -> Tensor:
        return frozen_linear(x, self.base, self.bias)


Plain = nn.Linear | Conv1D | FrozenLinear


def is_plain(module: nn.Module) -> TypeGuard[Plain]:
    """Whether a module computes x W' + b and nothing else. Most with a forward of their own do more (routers)."""
    if type(module).forward in (nn.Linear.forward, Conv1D.forward, FrozenLinear.forward):
        return True
    if not isinstance(module, nn.Linear):
        return False
    tensors = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    kind = type(module)
    if kind not in WRITTEN_OUT:
        WRITTEN_OUT[kind] = _writes_it_out(kind)
    return tensors <= {"weight", "bias"} and WRITTEN_OUT[kind]


def _writes_it_out(kind: Callable[..., nn.Linear]) -> bool:
    """Whether a kind of linear layer has a forward of its own that does the same (Falcon's), tried on a small one."""
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.no_grad():
            layer, x = kind(5, 4), torch.randn(3, 5, generator=generator)
            if len(inspect.signature(layer.forward).parameters) != 1:
                return False
            for parameter in layer.parameters():  # transformers leaves them unset while it loads
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            return torch.allclose(layer(x), F.linear(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-6)
    except (TypeError, RuntimeError, AttributeError):  # built in another way, or with another kind of answer
        return False


class Adapted(nn.Module):
    """A frozen linear layer of the model with something trainable beside it.

    `alpha / rank` is the scale. Subclasses are the kinds of adapters; what they share is A, B and how they lie on disk.
    """

    fusable: bool  # whether `adapter`, `base` and `bias` say all there is, so that fused functions may use them

    def __init__(self, base: Plain, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.transposed = base.transposed if isinstance(base, FrozenLinear) else isinstance(base, Conv1D)
        self.base = base.base if isinstance(base, FrozenLinear) else DenseBase(_matrix(base))
        self.bias: nn.Parameter | None = base.bias
        if self.bias is not None:
            self.bias.requires_grad_(False)
        self.in_features, self.out_features, self.rank = self.base.in_features, self.base.out_features, rank
        self.scale = alpha / rank
        self.enabled = True
        bound = 1 / math.sqrt(self.in_features)  # PEFT's: kaiming_uniform with a = sqrt(5)
        start = torch.rand(rank, self.in_features, generator=generator) * (2 * bound) - bound
        self.lora_a = nn.Parameter(start.to(self.base.device))
        self.lora_b = nn.Parameter(torch.zeros(self.out_features, rank, device=self.base.device))

    @property
    def adapter(self) -> Adapter:
        return Adapter(self.lora_a, self.lora_b, self.scale)

    def switch(self, on: bool) -> None:
        """Switch the adapter on or off; when off, the layer computes what the model's own layer did."""
        self.enabled = on

    @property
    def weight(self) -> Tensor:
        """The matrix as the model's own layer would hold it, with gradients for A and B.

        For models that take a layer's weight instead of calling it, as some latent attention and state spaces do.
        """
        whole = self.whole(self.adapter) if self.enabled else self.base.dense(torch.float32)
        whole = whole.to(self.base.stored_dtype)
        return whole.t() if self.transposed else whole

    def original(self, x: Tensor) -> Tensor:
        """The output of the model's own layer, without the adapter."""
        return frozen_linear(x, self.base, self.bias)

    def whole(self, lora: Adapter) -> Tensor:
        """The matrix (out, in) that does the same alone, in fp32, with gradients for A and B."""
        return (lora.b @ lora.a).mul_(lora.scale).add_(self.base.dense(torch.float32))

    def merged_weight(self, name: str) -> Tensor:
        """What the layer has learned as one matrix (out, in): computed in fp32, in the base's dtype.

        `name` is the layer's, and decides which way numbers between two of that dtype go (models/layers/rounding.py).
        """
        with torch.no_grad():
            return rounded(self.whole(Adapter(self.lora_a, self.lora_b, self.scale)), self.base.stored_dtype, name)

    def saved(self) -> dict[str, Tensor]:
        """The tensors for the adapter's file, under PEFT's names; their scale is `scale`."""
        return {"lora_A.weight": self.lora_a.detach(), "lora_B.weight": self.lora_b.detach()}

    def take(self, saved: Mapping[str, Tensor]) -> None:
        """Load the tensors that `saved` gave."""
        with torch.no_grad():
            self.lora_a.copy_(saved["lora_A.weight"])
            self.lora_b.copy_(saved["lora_B.weight"])


class AdaptedLinear(Adapted):
    """LoRA, y = x W' + b + s (x A') B'. A is drawn, B is zero: at first it changes nothing."""

    fusable = True

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return self.original(x)
        return lora_linear(x, self.base, self.bias, self.adapter)


def matching(model: nn.Module, head: nn.Module | None, targets: tuple[str, ...]) -> list[str]:
    """The names of the linear layers that `targets` asks for (spec/patterns.py says how a target is written).

    `all-linear` leaves out the head and the routers of a mixture of experts: a router that moves sends tokens to
    experts that never saw their like, and its few weights gain nothing. A router is a layer with `router` in its
    name, or called as in ROUTERS; named one by one it is adapted. Experts that are one three-dimensional parameter
    are no linear layers and stay frozen; attention and shared experts train.
    Raises UsageError for a target that matches no layer, with the names there are.
    """
    names = [name for name, one in model.named_modules() if is_plain(one) and one is not head]
    kinds = sorted({name.rpartition(".")[2] for name in names})
    for target in targets:
        if target != ALL and not any(matches(name, target) for name in names):
            raise UsageError("target", target=target, known=", ".join(kinds))
    return [
        name
        for name in names
        if any(not is_router(name) if target == ALL else matches(name, target) for target in targets)
    ]


def is_router(name: str) -> bool:
    """Whether the layer of this name chooses experts."""
    parts = name.split(".")
    return any("router" in part for part in parts) or parts[-1] in ROUTERS or "gate" in parts


def adapt(
    model: nn.Module, names: list[str], rank: int, alpha: float, seed: int, kind: type[Adapted] = AdaptedLinear
) -> dict[str, Adapted]:
    """Freeze the model and put an adapter beside each named layer. Raises NotFound when there is none."""
    if not names:
        raise NotFound("no_linear")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for name in names:
        base = model.get_submodule(name)
        assert is_plain(base)
        layers[name] = kind(base, rank, alpha, generator)
        put(model, name, layers[name])
    return layers


def put(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put a module in the place of the submodule `name`."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)


def adapters(model: nn.Module) -> dict[str, Adapted]:
    """The adapted layers of a model by name."""
    return {name: one for name, one in model.named_modules() if isinstance(one, Adapted)}


def merge(model: nn.Module, on_progress: Callable[[int, int], object] = lambda *_: None) -> None:
    """Replace each adapted layer by a plain one with the merged weight. Raises UsageError when there is none.

    on_progress: told how many layers are done, and of how many.
    """
    layers = adapters(model)
    if not layers:
        raise UsageError("already_merged")
    for done, (name, layer) in enumerate(layers.items()):
        on_progress(done, len(layers))
        put(model, name, _plain(layer, name))
    on_progress(len(layers), len(layers))


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """The base model alone, for a while."""
    layers = list(adapters(model).values())
    for layer in layers:
        layer.switch(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.switch(True)


def _matrix(layer: nn.Linear | Conv1D) -> Tensor:
    """The weight as (out, in); GPT-2's Conv1D holds it the other way round."""
    return layer.weight.t() if isinstance(layer, Conv1D) else layer.weight


def _plain(layer: Adapted, name: str) -> nn.Module:
    """The layer as the model had it, with the merged weight."""
    weight = layer.merged_weight(name)
    with torch.device("meta"):
        linear: nn.Linear | Conv1D
        if layer.transposed:
            linear, weight = Conv1D(layer.out_features, layer.in_features), weight.t().contiguous()
        else:
            linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.register_parameter("bias", layer.bias)
    return linear
