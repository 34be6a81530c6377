"""A run on a cluster, as plain values, and the words that all targets start it with.

    torchrun ... -m xiaozao.worker.main OUTPUT model=... data=...        on every machine, the same

The first process makes the run in OUTPUT, or goes on with the one that is there, so a job that is submitted again
resumes. OUTPUT, data and a local model must be on storage that all machines see.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from xiaozao.spec.fields import show
from xiaozao.spec.yamlfile import read_scalar

PORT = 29500  # torchrun's own
WORKER = ("-m", "xiaozao.worker.main")


@dataclass(frozen=True)
class Job:
    """The resources of a job and the options of its run, without output and devices."""

    name: str
    output: str
    options: Mapping[str, object]
    nodes: int = 1
    devices: int = 1  # processes on each machine
    gpu: bool = True

    @property
    def label(self) -> str:
        """The name in a form that all schedulers accept: lower-case letters, digits and dashes.

        A letter comes first.
        """
        plain = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return (plain if plain[:1].isalpha() else f"run-{plain}".strip("-"))[:50].rstrip("-")

    @property
    def words(self) -> list[str]:
        """The command that torchrun runs on every machine."""
        return [*WORKER, self.output, *(f"{name}={written(value)}" for name, value in self.options.items())]


@dataclass(frozen=True)
class Target:
    """A kind of cluster: how a job is written for it, the end of the file's name, how the file is submitted."""

    write: Callable[[Job], str]
    suffix: str
    submit: Callable[[str], list[str]]


def quoted(words: Sequence[str]) -> str:
    """The words of a command line, quoted for a POSIX shell."""
    return shlex.join(words)


def written(value: object) -> str:
    """A value as text for `key=value`, quoted if it would be read back as another type."""
    text = show(value)
    changed = isinstance(value, str) and read_scalar(text) != value
    return json.dumps(value, ensure_ascii=False) if changed else text
