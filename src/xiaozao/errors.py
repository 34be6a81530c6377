"""Every error we raise. A user sees `what` and `fix`, never a traceback.

XiaozaoError             1  FAILED               something we did not foresee
  UsageError             2  USAGE                a wrong option, key, value or combination
  DataError              3  DATA_INVALID         a file or a row that cannot be used
  ArtefactError          3  ARTEFACT_REFUSED     a model or checkpoint file that is damaged or not safe to read
  DoesNotFit             4  DOES_NOT_FIT         the plan exceeds the budget
  TrainingError          5  TRAINING_FAILED      the run failed: not finite, diverged, changed on resume
  OutOfMemory            6  OUT_OF_MEMORY        memory ran out
  HubError               7  HUB_UNREACHABLE      a model hub or package index could not be reached
  NotFound               8  NOT_FOUND            a model, run, file or checkpoint that is not there
  EnvironmentProblem     9  ENVIRONMENT          driver, missing extra, permission, disk
    UnsupportedModel     9  UNSUPPORTED_MODEL    a model whose numbers we could not vouch for
  Busy                  10  BUSY                 another process holds the run
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xiaozao.texts.catalogue import Language, has, say


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, as a key of the catalogue (`problem.<key>`) and its parameters."""

    key: str
    params: Mapping[str, object] = field(default_factory=dict)

    def text(self, language: Language = "en") -> str:
        """The sentence a user reads."""
        return say(f"problem.{self.key}", language, **self.params)


class XiaozaoError(Exception):
    """The base class of all our errors.

    `key` selects the text `error.<key>`; `problems` lists every problem at once.
    """

    code = "FAILED"
    exit_code = 1

    def __init__(self, key: str, /, problems: Sequence[Problem] = (), **params: object) -> None:
        super().__init__(key)
        self.key = key
        self.params = params
        self.problems = tuple(problems)

    def what(self, language: Language = "en") -> str:
        """What happened, where, and the numbers."""
        return say(f"error.{self.key}", language, **self.params)

    def fix(self, language: Language = "en") -> str:
        """What to do, best as a command; empty where there is nothing to say."""
        key = f"error.{self.key}.fix"
        return say(key, language, **self.params) if has(key) else ""

    def __str__(self) -> str:
        lines = [f"[{self.code}] {self.what()}", *(f"  - {problem.text()}" for problem in self.problems), self.fix()]
        return "\n".join(line for line in lines if line)


class UsageError(XiaozaoError):
    code = "USAGE"
    exit_code = 2


class DataError(XiaozaoError):
    code = "DATA_INVALID"
    exit_code = 3


class ArtefactError(XiaozaoError):
    code = "ARTEFACT_REFUSED"
    exit_code = 3


class DoesNotFit(XiaozaoError):
    code = "DOES_NOT_FIT"
    exit_code = 4


class TrainingError(XiaozaoError):
    code = "TRAINING_FAILED"
    exit_code = 5


class OutOfMemory(XiaozaoError):
    code = "OUT_OF_MEMORY"
    exit_code = 6


class HubError(XiaozaoError):
    code = "HUB_UNREACHABLE"
    exit_code = 7


class NotFound(XiaozaoError):
    code = "NOT_FOUND"
    exit_code = 8


class EnvironmentProblem(XiaozaoError):
    code = "ENVIRONMENT"
    exit_code = 9


class UnsupportedModel(EnvironmentProblem):
    code = "UNSUPPORTED_MODEL"


class Busy(XiaozaoError):
    code = "BUSY"
    exit_code = 10
