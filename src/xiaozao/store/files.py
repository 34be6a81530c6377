"""Where things lie: the user's folders and the paths inside a run folder. The only place that knows.

RUN/spec.yaml  resolved.yaml  events.jsonl  worker.log  lock.json  stop
    checkpoints/step-00000012/{*.safetensors, state.json, manifest.json}
    reference/{reference.safetensors, reference.json, manifest.json}
    track/{name.json, name.log, name/}
    adapter/ (or model/ for full training)   report/{report.html, report.json, loss.png, loss.svg, metrics.csv}
"""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from xiaozao.errors import EnvironmentProblem, NotFound, UsageError


def home() -> Path:
    """Runs and the index: ZAO_HOME, else the platform's place for data."""
    return Path(os.environ.get("ZAO_HOME") or platformdirs.user_data_path("xiaozao", appauthor=False))


def cache() -> Path:
    """Converted models and tokenised data; can be deleted at any time. ZAO_CACHE, else beside ZAO_HOME or XDG's."""
    if os.environ.get("ZAO_CACHE"):
        return Path(os.environ["ZAO_CACHE"])
    if os.environ.get("ZAO_HOME"):
        return home() / "cache"
    return Path(platformdirs.user_cache_path("xiaozao", appauthor=False))


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def spec(self) -> Path:
        """What was asked."""
        return self.path / "spec.yaml"

    @property
    def resolved(self) -> Path:
        """What was chosen where the user left it open; frozen at the first start, read at each resume."""
        return self.path / "resolved.yaml"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """What libraries print in the worker."""
        return self.path / "worker.log"

    @property
    def lock(self) -> Path:
        return self.path / "lock.json"

    @property
    def stop(self) -> Path:
        """Its presence asks the worker to save and leave."""
        return self.path / "stop"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        """The result of full-parameter training."""
        return self.path / "model"

    @property
    def reference(self) -> Path:
        """Log-probabilities under the model that training began with, where nothing else can tell them later."""
        return self.path / "reference"

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def track(self) -> Path:
        """What trackers keep: how far each has read, its log, and the files of those that write some."""
        return self.path / "track"


def create_run(output: str | None, stem: str, clock: float | None = None) -> RunFolder:
    """A new run folder: `output`, or a fresh name under home()/runs. A folder that holds a run is never reused.

    Raises UsageError where the folder is not empty, EnvironmentProblem where it cannot be written.
    """
    if output:
        path = Path(output).expanduser().absolute()
    else:
        when = time.strftime("%Y%m%d-%H%M%S", time.localtime(clock))
        path = _free(home() / "runs" / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', stem).strip('-.') or 'run'}-{when}")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError("output_is_run" if (path / "spec.yaml").is_file() else "output_in_use", path=path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise EnvironmentProblem("not_writable", path=path, detail=error.strerror) from None
    return RunFolder(path)


def open_run(name: str) -> RunFolder:
    """The run with this name under home()/runs, or at this path. Raises NotFound."""
    for path in (Path(name).expanduser().absolute(), home() / "runs" / name):
        if (path / "spec.yaml").is_file() and name not in ("", ".", ".."):
            return RunFolder(path)
    raise NotFound("run", name=name)


def _free(path: Path) -> Path:
    number = 2
    free = path
    while free.exists():
        free = path.with_name(f"{path.name}-{number}")
        number += 1
    return free
