"""Weights & Biases. The key, the server, the project and offline mode come from its own WANDB_ variables."""

import os
from importlib import import_module

from xiaozao.track.points import Point
from xiaozao.track.sink import Tracked


class Wandb:
    """A run of W&B. Steps are a metric of their own, because W&B refuses a step that is not larger than the last."""

    def __init__(self, run: Tracked) -> None:
        library = import_module("wandb")
        # Nothing about the machine: host, user, command line, packages, code and console stay here.
        settings = library.Settings(
            console="off", disable_git=True, disable_code=True, disable_job_creation=True, host="", username="",
            x_disable_meta=True, x_disable_machine_info=True, x_disable_stats=True, x_save_requirements=False,
            silent=True,
        )  # fmt: skip
        self._run = library.init(
            project=os.environ.get("WANDB_PROJECT") or "xiaozao", name=run.name, id=run.key, resume="allow",
            config=dict(run.options), dir=str(run.folder), settings=settings,
        )  # fmt: skip
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def send(self, point: Point) -> None:
        self._run.log({**point.values, "step": point.step})

    def close(self, state: str) -> None:
        self._run.summary["state"] = state
        self._run.finish(exit_code=1 if state == "failed" else 0)
