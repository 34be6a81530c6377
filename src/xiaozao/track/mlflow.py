"""MLflow: the server named by MLFLOW_TRACKING_URI, else a SQLite file in the run folder.

Through the plain client: MLflow's fluent interface would note the user, the command and the git commit.
"""

import os
import time
from importlib import import_module
from typing import Any

from xiaozao.track.points import Point
from xiaozao.track.sink import Tracked

STATUS = {"succeeded": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
TAG = "xiaozao.run"


class Mlflow:
    """A run of MLflow, found again by a tag that holds our key."""

    def __init__(self, run: Tracked) -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(run.folder / 'mlflow.db').as_posix()}"
        self._client: Any = import_module("mlflow").MlflowClient(tracking_uri=uri)
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "xiaozao")
        runs = self._client.search_runs([experiment], f"tags.`{TAG}` = '{run.key}'", max_results=1)
        self._id = runs[0].info.run_id if runs else self._create(experiment, run)
        self._client.update_run(self._id, status="RUNNING")

    def send(self, point: Point) -> None:
        metric = import_module("mlflow.entities").Metric
        now = int(time.time() * 1000)
        metrics = [metric(name, value, now, point.step) for name, value in point.values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, state: str) -> None:
        self._client.set_terminated(self._id, STATUS[state])

    def _experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        return str(experiment.experiment_id if experiment else self._client.create_experiment(name))

    def _create(self, experiment: str, run: Tracked) -> str:
        made = self._client.create_run(experiment, run_name=run.name, tags={TAG: run.key})
        parameter = import_module("mlflow.entities").Param
        options = [parameter(name, str(value)) for name, value in run.options.items()]
        self._client.log_batch(made.info.run_id, params=options)
        return str(made.info.run_id)
