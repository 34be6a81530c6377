"""Gradient checkpointing: activations that forward drops and backward computes again.

    selective   gate and up of each MLP, half or more of what a block keeps; costs two of its seven products again
    block       all of a block but its input; costs the whole forward pass again (Chen et al. 2016)
    offload     as block, and the blocks' inputs wait in the host's memory instead of the device's

Recomputation runs the same code on the same numbers, so gradients do not change by a bit; drawn numbers such as
dropout's are drawn again from the same state of the generator.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xiaozao.errors import UnsupportedModel
from xiaozao.models.blocks import Decoder, blocks_of
from xiaozao.models.swap import mlp

Forward = Callable[..., Any]


def recompute(decoder: Decoder, kind: str) -> int:
    """Let the decoder's blocks keep less, as `kind` says; after `fuse`. Returns how many modules do.

    Raises UnsupportedModel where the decoder has no single list of blocks, or no MLP that could be told apart.
    """
    changed = [module for block in blocks_of(decoder.model) for module in RECOMPUTED[kind](block)]
    if kind == "selective" and not changed:
        raise UnsupportedModel("no_mlp", model=type(decoder.model).__name__)
    return len(changed)


def _nothing(_: nn.Module) -> list[nn.Module]:
    return []


def _mlps(block: nn.Module) -> list[nn.Module]:
    """The MLPs are the block's children with linear layers that ask for the states and nothing else."""
    chosen = [one for one in block.children() if any(True for _ in one.children()) and _asks_for_states(one.forward)]
    for module in chosen:
        own = module.forward
        fused = isinstance(own, partial) and own.func is mlp
        module.forward = partial(mlp, module, again=True) if fused else partial(checkpoint, own, use_reentrant=False)
    return chosen


def _asks_for_states(forward: Forward) -> bool:
    asked = [one for one in inspect.signature(forward).parameters.values() if one.default is inspect.Parameter.empty]
    return len(asked) == 1 and len(inspect.signature(forward).parameters) <= 2


def _blocks(block: nn.Module) -> list[nn.Module]:
    block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return [block]


def _offloaded(block: nn.Module) -> list[nn.Module]:
    block.forward = partial(_away, block.forward)
    return [block]


class _Stash:
    """A block's input: at hand during forward, in the host's memory until backward asks for it."""

    def __init__(self, states: Tensor) -> None:
        self.near: Tensor | None = states
        self.device, self.learns = states.device, states.requires_grad
        self.far: Tensor | None = None

    def take(self) -> Tensor:
        if self.near is not None:
            return self.near
        assert self.far is not None
        return self.far.to(self.device, non_blocking=True).requires_grad_(self.learns)

    def send(self) -> None:
        """Copies are queued behind the work on the same stream, so nobody has to wait for them."""
        assert self.near is not None
        pinned = self.device.type == "cuda"
        self.far = torch.empty(self.near.shape, dtype=self.near.dtype, pin_memory=pinned)
        self.far.copy_(self.near.detach(), non_blocking=True)
        self.near = None


def _away(forward: Forward, states: Tensor, *others: Any, **options: Any) -> Any:
    """Non-reentrant checkpointing recomputes for the numbers alone, so a copy of the input serves it as well."""
    if not torch.is_grad_enabled():
        return forward(states, *others, **options)
    stash = _Stash(states)
    out = checkpoint(
        lambda *rest, **named: forward(stash.take(), *rest, **named), *others, use_reentrant=False, **options
    )
    stash.send()
    return out


RECOMPUTED: dict[str, Callable[[nn.Module], list[nn.Module]]] = {
    "none": _nothing, "selective": _mlps, "block": _blocks, "offload": _offloaded,
}  # fmt: skip
