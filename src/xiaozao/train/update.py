"""When gradients become an update: after the whole window, or in the middle of backward.

    Whole   backward of all micro-batches -> norm over everything -> finite? -> clip -> optimizer.step
    Fused   each gradient, as soon as it is there: finite? -> clip alone -> its parameter moves -> the gradient is gone

Fused is the idea of LOMO (Lv et al. 2023): never are two parameters' gradients held. Its price: one micro-batch per
step, since a gradient is not there to be added to; clipping by each parameter's own norm, since the norm of all is
known too late; and where a gradient is not finite, others have moved already.
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from xiaozao.errors import TrainingError
from xiaozao.train.optim.engine import CHUNK, Optimizer, local
from xiaozao.train.ranks import ALONE, Ranks


class Update(Protocol):
    """One optimizer step around the backward passes of a window."""

    def begin(self, step: int, rate: float) -> None:
        """Before the first forward pass of the window."""

    def norm(self, scale: float) -> float:
        """After the last backward pass: the norm of the gradients (over all ranks), which are `scale` too large."""

    def apply(self, norm: float, scale: float) -> None:
        """The norm is finite: what has not moved yet moves now."""

    def drop(self) -> None:
        """The window is computed again: forget its gradients."""

    def close(self) -> None:
        """No more steps."""


class Whole:
    """Gradients are kept until the window is whole."""

    def __init__(self, optimizer: Optimizer, limit: float, ranks: Ranks = ALONE) -> None:
        self.optimizer, self.limit, self.ranks, self.rate = optimizer, limit, ranks, 0.0

    def begin(self, step: int, rate: float) -> None:
        self.optimizer.begin(step)
        self.rate = rate

    def norm(self, scale: float) -> float:
        return self.ranks.norm(float(gradient_norm(self.optimizer.parameters.values()))) / scale

    def apply(self, norm: float, scale: float) -> None:
        clip(self.optimizer.parameters.values(), norm, self.limit, scale)
        self.optimizer.step(self.rate)

    def drop(self) -> None:
        for parameter in self.optimizer.parameters.values():
            parameter.grad = None

    def close(self) -> None:
        pass


class Fused:
    """Each parameter moves as soon as its gradient is there. Raises TrainingError where one is not finite."""

    def __init__(self, optimizer: Optimizer, limit: float, ranks: Ranks = ALONE) -> None:
        self.optimizer, self.limit, self.ranks, self.rate = optimizer, limit, ranks, 0.0
        self.step = 0
        self.squares: dict[str, float] = {}
        self.hooks = [
            parameter.register_post_accumulate_grad_hook(partial(self._arrived, name))
            for name, parameter in optimizer.parameters.items()
        ]

    def begin(self, step: int, rate: float) -> None:
        self.optimizer.begin(step)
        self.step, self.rate = step, rate
        self.squares.clear()

    def norm(self, scale: float) -> float:
        return self.ranks.norm(math.sqrt(sum(self.squares.values())))

    def apply(self, norm: float, scale: float) -> None:
        pass

    def drop(self) -> None:
        raise TrainingError("fused_again", step=self.step + 1, name="-")

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def _arrived(self, name: str, parameter: Tensor) -> None:
        if name in self.squares:  # half a gradient would have been taken for the whole
            raise TrainingError("fused_again", step=self.step + 1, name=name)
        assert parameter.grad is not None
        part = float(norm_of(local(parameter.grad)))
        norm = self.ranks.norm(part)  # gradients arrive in the same order on every rank
        if not math.isfinite(norm):
            raise TrainingError("fused_not_finite", step=self.step + 1, name=name, value=norm, moved=len(self.squares))
        if norm > self.limit:
            local(parameter.grad).mul_(self.limit / norm)
        self.squares[name] = part * part
        self.optimizer.update([name], self.rate)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The Euclidean norm over all gradients, in fp32."""
    norms = [norm_of(local(one.grad)) for one in parameters if one.grad is not None]
    return torch.stack(norms).norm() if norms else torch.zeros(())


def norm_of(grad: Tensor) -> Tensor:
    """The Euclidean norm in fp32, without a copy in fp32 of the whole."""
    if grad.dtype == torch.float32:
        return _norm(grad)
    return _norm(torch.stack([_norm(one.float()) for one in grad.reshape(-1).split(CHUNK)]))


def _norm(tensor: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor)
    return norm


def clip(parameters: Iterable[nn.Parameter], norm: float, limit: float, scale: float = 1.0) -> None:
    """Divide the gradients by `scale`, after which their norm is `norm`, and scale them to at most `limit`."""
    factor = (limit / norm if norm > limit else 1.0) / scale
    if factor != 1.0:
        for parameter in parameters:
            if parameter.grad is not None:
                local(parameter.grad).mul_(factor)
