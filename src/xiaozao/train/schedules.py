"""Learning-rate schedules as closed forms of the step, so that nothing of them has to be saved."""

import math
from collections.abc import Callable


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
