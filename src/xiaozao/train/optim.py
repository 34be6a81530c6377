"""Optimizers and schedules. A schedule is a closed form of the step, so that nothing of it has to be saved."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def warmup_steps(warmup: float, steps: int) -> int:
    """A share of all steps below 1, else a number of steps; never the whole run."""
    return min(int(warmup) if warmup >= 1 else math.ceil(warmup * steps), steps - 1)


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _linear(progress: float) -> float:
    return 1 - progress


def _constant(progress: float) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {"cosine": _cosine, "linear": _linear, "constant": _constant}


def learning_rate(step: int, steps: int, warmup: int, peak: float, schedule: str) -> float:
    """The rate of optimizer step 0 ... steps-1: rises to `peak` over `warmup` steps, then falls by the schedule."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * SCHEDULES[schedule]((step - warmup) / max(1, steps - warmup))


class AdamW:
    """AdamW (Loshchilov & Hutter 2019) over named fp32 parameters, one at a time, so that no copy of all is made."""

    def __init__(self, parameters: dict[str, nn.Parameter], weight_decay: float) -> None:
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(
            list(parameters.values()), lr=0.0, weight_decay=weight_decay, foreach=False, fused=True
        )

    def step(self, rate: float) -> None:
        """One update with this learning rate; gradients are dropped afterwards."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def release(self) -> None:
        """Let the moments go, once nothing more will be learned."""
        self.optimizer.state.clear()

    def state(self) -> dict[str, Tensor]:
        """The moments by `<kind>.<parameter name>`."""
        return {
            f"{kind}.{name}": value
            for name, parameter in self.parameters.items()
            for kind, value in self.optimizer.state[parameter].items()
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Put the moments back, by name. Cloned: a slice of a file's buffer is not aligned, which changes last bits."""
        for key, value in state.items():
            kind, _, name = key.partition(".")
            self.optimizer.state[self.parameters[name]][kind] = value.clone()


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The Euclidean norm over all gradients, in fp32."""
    norms = [one.grad.float().norm() for one in parameters if one.grad is not None]
    return torch.stack(norms).norm() if norms else torch.zeros(())


def clip(parameters: Iterable[nn.Parameter], norm: Tensor, limit: float) -> None:
    """Scale the gradients so that their norm, which is `norm` now, is at most `limit`."""
    if norm > limit:
        for one in parameters:
            if one.grad is not None:
                one.grad.mul_(limit / norm)
