"""SwanLab. The key and the mode (online, local, offline) come from its own SWANLAB_ variables."""

import os
from importlib import import_module

from xiaozao.track.points import Point
from xiaozao.track.sink import Tracked


class Swanlab:
    """A run of SwanLab, without the machine: hardware, packages, git, host and console stay here."""

    def __init__(self, run: Tracked) -> None:
        library = import_module("swanlab")
        collected = ("hardware", "runtime", "requirements", "conda", "git", "swanlab", "monitor")
        library.merge_settings(
            library.Settings(
                interactive=False, probe=dict.fromkeys(collected, False), terminal={"proxy_type": "none"}
            )
        )  # fmt: skip
        self._run = library.init(
            project=os.environ.get("SWANLAB_PROJECT") or "xiaozao", name=run.name, id=run.key, resume="allow",
            config=dict(run.options), log_dir=str(run.folder),
        )  # fmt: skip

    def send(self, point: Point) -> None:
        self._run.log(point.values, step=point.step)

    def close(self, state: str) -> None:
        self._run.finish(state="crashed" if state == "failed" else "success")
