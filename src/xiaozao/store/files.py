"""All paths: the user's folders and the files inside a run folder. No other module builds them.

RUN/spec.yaml  resolved.yaml  events.jsonl  worker.log  lock.json  stop  .mutex
    checkpoints/step-00000012/{*.safetensors, state.json, manifest.json}
    reference/{reference.safetensors, reference.json, manifest.json}
    track/{name.json, name.log, name/}
    evaluations/bench/{evaluation.json, answers.jsonl, result.json, events.jsonl, worker.log, lock.json, stop}
    evaluations/{report.html, report.json}   what all of them found
    adapter/ (or model/ for full training)   report/{report.html, report.json, loss.png, loss.svg, metrics.csv}
    blind/1/{pairs.json, sides.json, votes.jsonl}   a blind vote; a new one is 2/
"""

import errno
import itertools
import os
import re
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from xiaozao.errors import ArtefactError, EnvironmentProblem, NotFound, UsageError

STEM = 100  # characters of a model's name in a run's; file systems allow 255 bytes for all of it


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
        """The options as given by the user."""
        return self.path / "spec.yaml"

    @property
    def resolved(self) -> Path:
        """The options with every open one decided; written at the first start, read at each resume."""
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
    def mutex(self) -> Path:
        """The file that claims the folder: it is made first, exclusively."""
        return self.path / ".mutex"

    @property
    def stop(self) -> Path:
        """If this file exists, the worker saves and stops."""
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
        """Log-probabilities under the initial model, if they cannot be recomputed later."""
        return self.path / "reference"

    @property
    def report(self) -> Path:
        return self.path / "report"

    def evaluation(self, kind: str) -> "RunFolder":
        """The folder of an evaluation of this run's result. It is held, journalled and stopped like a run."""
        return RunFolder(self.path / "evaluations" / kind)

    @property
    def summary(self) -> Path:
        """What all evaluations of this run found, on one page."""
        return self.path / "evaluations" / "report.html"

    @property
    def evaluation_spec(self) -> Path:
        """What an evaluation was asked to do."""
        return self.path / "evaluation.json"

    @property
    def recorded(self) -> Path:
        """The answers of an evaluation, as they came."""
        return self.path / "answers.jsonl"

    @property
    def standing(self) -> Path:
        """The result of an evaluation."""
        return self.path / "result.json"

    @property
    def blind(self) -> Path:
        """The blind votes, a numbered folder each."""
        return self.path / "blind"

    def answers(self, who: str) -> Path:
        """What the model before ("base") or after training ("tuned") answered to the held-out questions."""
        return self.report / f"answers-{who}.json"

    @property
    def track(self) -> Path:
        """The trackers' files: how far each has read, its log, and its own output."""
        return self.path / "track"


@dataclass(frozen=True)
class VoteFolder:
    """The paths of one blind vote. What a voter may see lies apart from what tells the sides."""

    path: Path

    @property
    def pairs(self) -> Path:
        """The questions with both answers, frozen; nothing in it tells which model gave which."""
        return self.path / "pairs.json"

    @property
    def sides(self) -> Path:
        """Which answer is whose; nobody who votes looks into it."""
        return self.path / "sides.json"

    @property
    def votes(self) -> Path:
        """The votes, append-only."""
        return self.path / "votes.jsonl"


def vote_folders(run: RunFolder) -> list[VoteFolder]:
    """The blind votes of a run that are complete on disk, the first first."""
    if not run.blind.is_dir():
        return []
    numbers = sorted(int(path.name) for path in run.blind.iterdir() if re.fullmatch("[1-9][0-9]*", path.name))
    return [VoteFolder(run.blind / str(number)) for number in numbers]


def create_run(output: str | None, stem: str, clock: float | None = None) -> RunFolder:
    """Make a run folder: `output`, or a new name under home()/runs.

    If two processes ask for the same, only one gets it.

    Raises UsageError where the folder is not empty or another took it, EnvironmentProblem where it cannot be written.
    """
    path = Path(output).expanduser().absolute() if output else home() / "runs"
    try:
        if output:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path = _fresh(path, stem, clock)
        return _claimed(RunFolder(path))
    except FileExistsError:  # a file, or a folder that another took in this moment
        raise UsageError("output_is_run" if (path / "spec.yaml").is_file() else "output_in_use", path=path) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise
        raise EnvironmentProblem("not_writable", path=path, detail=error.strerror) from None


def _fresh(runs: Path, stem: str, clock: float | None) -> Path:
    """A folder that nobody had before, named after the model and the time."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:STEM].strip("-.") or "run"
    name = f"{plain}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(clock))}"
    runs.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = runs / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            path.mkdir()
            break
    return path


def _claimed(folder: RunFolder) -> RunFolder:
    """Claim the folder for this run. Raises FileExistsError if it is not empty."""
    if any(folder.path.iterdir()):
        raise FileExistsError(folder.path)
    os.close(os.open(folder.mutex, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    if len(list(folder.path.iterdir())) > 1:
        folder.mutex.unlink()
        raise FileExistsError(folder.path)
    return folder


def check_places() -> None:
    """Raises EnvironmentProblem if one of our folders cannot be made, or if the current folder is gone."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise EnvironmentProblem("no_working_folder") from None
    for name, path in (("ZAO_HOME", home()), ("ZAO_CACHE", cache())):
        if path.is_symlink() and not path.exists() or path.exists() and not path.is_dir():
            raise EnvironmentProblem("place_is_file", name=name, path=path)


def misplaced(path: Path) -> EnvironmentProblem | None:
    """The error if a folder of ours would have to be below a file; None if `path` is not one of ours."""
    for name, place in (("ZAO_HOME", home()), ("ZAO_CACHE", cache())):
        for above in (place, *place.parents) if path.is_relative_to(place) or place.is_relative_to(path) else ():
            if above.exists() and not above.is_dir():
                return EnvironmentProblem("place_is_file", name=name, path=above)
    return None


def refuse_links(folder: RunFolder) -> None:
    """Raises ArtefactError for a link among the files of a run: writing to it would change what lies elsewhere.

    What trackers keep is theirs; some make links there.
    """
    inner = (folder.checkpoints, folder.adapter, folder.model, folder.reference, folder.report, folder.blind)
    for place in (folder.path, *inner):
        for path in place.iterdir() if place.is_dir() and (place == folder.path or not place.is_symlink()) else ():
            if path.is_symlink():
                raise ArtefactError("run_link", path=path, target=os.readlink(path))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; a link in its place is replaced, not followed. Raises OSError."""
    descriptor, draft = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)


def open_run(name: str) -> RunFolder:
    """The run with this name under home()/runs, or at this path. Raises NotFound."""
    for path in (Path(name).expanduser().absolute(), home() / "runs" / name):
        if (path / "spec.yaml").is_file() and name not in ("", ".", ".."):
            return RunFolder(path)
    raise NotFound("run", name=name)
