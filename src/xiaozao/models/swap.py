"""Puts the fused parts into a model's own modules, wherever they give the same numbers.

A module is recognised by what it has, never by its name, and taken over only after its own forward and the fused one
were compared on drawn input; one that differs keeps its own. Nothing of transformers is patched: what is replaced is
the forward of this one instance.
"""

import inspect
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from xiaozao.models.blocks import Decoder, distance
from xiaozao.models.layers.bases import DenseBase
from xiaozao.models.layers.fused import Linear, swiglu
from xiaozao.models.layers.linear import AdaptedLinear, Adapter, FrozenLinear
from xiaozao.models.layers.rmsnorm import rms_norm

MLP = ("gate_proj", "up_proj", "down_proj")
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 5e-3}  # relative; a wrong formula is far beyond


Proof = Callable[[nn.Module, Callable[[Tensor], Tensor], Tensor], bool]


def fuse(decoder: Decoder, proven: "Proof | None" = None) -> dict[str, int]:
    """Take over the norms and gated MLPs of a model; returns how many of each.

    proven: says whether a module and its fused form give the same; by default both are tried.
    """
    same = proven or _same
    modules = list(decoder.model.modules())
    dtype = decoder.model.dtype
    return {
        "norm": sum(_take_norm(module, same) for module in modules),
        "mlp": sum(_take_mlp(module, dtype, same) for module in modules),
    }


def _take_norm(module: nn.Module, same: Proof) -> bool:
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not isinstance(eps, float) or not _takes_states_alone(module):
        return False
    weight = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter) or weight.ndim != 1:
        return False
    for offset in (0.0, 1.0):  # Llama's and Gemma's
        fused = partial(_norm, module, eps, offset)
        if same(module, fused, _drawn(len(weight), weight.device, weight.dtype)):
            module.forward = fused
            return True
    return False


def _norm(module: nn.Module, eps: float, offset: float, x: Tensor) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return rms_norm(x, weight, eps, offset)


def _take_mlp(module: nn.Module, dtype: torch.dtype, same: Proof) -> bool:
    layers = [getattr(module, name, None) for name in MLP]
    if None in layers or not _takes_states_alone(module):
        return False
    linears = [one for one in layers if isinstance(one, nn.Linear | FrozenLinear | AdaptedLinear)]
    if len(linears) < len(MLP) or any(isinstance(one, nn.Linear) and one.weight.requires_grad for one in linears):
        return False  # another kind of MLP, or base weights that learn: the fused function has no gradient for those
    fused = partial(mlp, module)
    device = next(module.parameters()).device
    if not same(module, fused, _drawn(linears[0].in_features, device, dtype)):
        return False
    module.forward = fused
    return True


def mlp(module: nn.Module, x: Tensor, again: bool = False) -> Tensor:
    """A gated MLP in one function.

    The layers are looked up at each call: an adapter may be switched off, or a layer put in another's place.
    """
    views: list[Linear] = []
    adapters: list[Adapter | None] = []
    for name in MLP:
        layer = module.get_submodule(name)
        if isinstance(layer, AdaptedLinear):
            views.append(Linear(layer.base, layer.bias, layer.scale if layer.enabled else None))
            adapters.append(layer.adapter if layer.enabled else None)
        else:
            assert isinstance(layer, nn.Linear | FrozenLinear)
            base = layer.base if isinstance(layer, FrozenLinear) else DenseBase(layer.weight)
            views.append(Linear(base, layer.bias, None))
            adapters.append(None)
    return swiglu(x, views, adapters, again)


def _takes_states_alone(module: nn.Module) -> bool:
    """Not so the gated norms of state spaces, which take a gate beside the states."""
    return len(inspect.signature(module.forward).parameters) == 1


def _same(own: nn.Module, fused: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether both give the same on x; NaN counts as different."""
    with torch.no_grad():
        try:
            mine = own(x)
        except (TypeError, RuntimeError, ValueError):  # a module of another kind that happens to have these parts
            return False
        if not isinstance(mine, Tensor) or mine.shape != x.shape:
            return False
        return distance(fused(x).to(mine.dtype), mine) < BOUNDS[mine.dtype]  # some cast what comes out


def _drawn(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.randn((5, size), generator=torch.Generator().manual_seed(0)).to(device, dtype)
