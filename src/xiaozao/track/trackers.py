"""The trackers that a run's numbers can go to, each an optional package.

A tracker is opened in a process of its own (worker/tracker.py), so that its library can neither stop nor slow a run.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from xiaozao.errors import EnvironmentProblem, Problem
from xiaozao.track.mlflow import Mlflow
from xiaozao.track.sink import Sink, Tracked
from xiaozao.track.swanlab import Swanlab
from xiaozao.track.tensorboard import TensorBoard
from xiaozao.track.trackio import Trackio
from xiaozao.track.wandb import Wandb


@dataclass(frozen=True)
class Tracker:
    """How a tracker is opened, and the modules without which it cannot be."""

    open: Callable[[Tracked], Sink]
    modules: tuple[str, ...]


TRACKERS: dict[str, Tracker] = {
    "tensorboard": Tracker(TensorBoard, ("tensorboardX",)),
    "wandb": Tracker(Wandb, ("wandb",)),
    "mlflow": Tracker(Mlflow, ("mlflow", "sqlalchemy", "alembic")),
    "swanlab": Tracker(Swanlab, ("swanlab",)),
    "trackio": Tracker(Trackio, ("trackio",)),
}


def require(names: Iterable[str]) -> None:
    """Raises EnvironmentProblem that lists the trackers whose packages are missing, each with its pip command."""
    missing = [name for name in names if not all(_installed(module) for module in TRACKERS[name].modules)]
    if missing:
        problems = [Problem("tracker_missing", {"tracker": name}) for name in missing]
        raise EnvironmentProblem("trackers_missing", problems, extras=",".join(missing))


def _installed(module: str) -> bool:
    """Whether it can be imported; a mere folder of that name (W&B leaves one behind) has no origin."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None
