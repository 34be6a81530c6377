"""The interface of a tracker, and what it knows of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xiaozao.track.points import Point


@dataclass(frozen=True)
class Tracked:
    """A run as a tracker sees it. `key` stays the same when the run is resumed; `folder` is the tracker's own."""

    name: str
    key: str
    folder: Path
    options: Mapping[str, str | int | float | bool]


class Sink(Protocol):
    """An open tracker. It may raise whatever its library raises: it lives in a process of its own."""

    def send(self, point: Point) -> None:
        """Pass on the numbers of one step."""

    def close(self, state: str) -> None:
        """Write out what waits. `state` is "succeeded", "stopped" or "failed"."""
