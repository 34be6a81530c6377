"""Trackio: its own SQLite files (TRACKIO_DIR), or the space or server that its TRACKIO_ variables name."""

import os
from importlib import import_module

from xiaozao.track.points import Point
from xiaozao.track.sink import Tracked


class Trackio:
    """A run of Trackio. Its runs are continued by name, so the name carries our key."""

    def __init__(self, run: Tracked) -> None:
        self._run = import_module("trackio").init(
            project=os.environ.get("TRACKIO_PROJECT") or "xiaozao", name=f"{run.name}-{run.key}", resume="allow",
            config=dict(run.options), embed=False, auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def send(self, point: Point) -> None:
        self._run.log(point.values, step=point.step)

    def close(self, state: str) -> None:
        self._run.finish()
