"""The time left of a run that is going on, from the durations of its steps. plan/duration.py estimates beforehand."""

from collections.abc import Sequence

REMEMBERED = 20  # steps
FADING = 0.8  # the weight of a step beside the one after it: after four steps at another pace most of it is the new one


def time_left(recent: Sequence[float], beside: float, remaining: int) -> float:
    """Seconds until the last step.

    recent: the seconds of the last steps, the newest last, at most REMEMBERED of them. beside: the seconds a step that
    validations and checkpoints took on average so far. remaining: steps.
    """
    weights = [FADING**age for age in range(len(recent))]
    pace = sum(weight * seconds for weight, seconds in zip(weights, reversed(recent), strict=True)) / sum(weights)
    return remaining * (pace + beside)
