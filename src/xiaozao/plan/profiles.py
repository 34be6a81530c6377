"""Profiles by what they depend on: kept in the cache, traced when they are first asked for. No torch here."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from xiaozao.errors import EnvironmentProblem, UnsupportedModel
from xiaozao.spec.parts import MethodSpec
from xiaozao.spec.profile import PROFILE, QUESTION, VERSION, Profile, Question

# Fields of a method that change numbers and no shapes.
SHAPELESS = ("beta", "gamma", "label_smoothing", "desirable_weight", "undesirable_weight", "lora_plus", "precision")
UNTRACED = "untraced"  # what is kept of a model that could not be traced


@dataclass(frozen=True)
class Profiles:
    """A folder of profiles, and how a new one is made.

    `measure` raises UnsupportedModel where that cannot be, which is kept too, and EnvironmentProblem where it failed.
    """

    folder: Path
    measure: Callable[[Question], Profile]
    failed: set[str] = field(default_factory=set)  # what was tried here, and would fail again

    def get(self, question: Question) -> Profile | None:
        """The profile, or None for a model that cannot be traced, or not now."""
        question = replace(question, method=_shapes(question.method))
        name = key(question)
        if name in self.failed:
            return None
        path = self.folder / f"{name}.json"
        try:
            text = path.read_bytes()
            return None if text == UNTRACED.encode() else PROFILE.validate_json(text)
        except (OSError, ValidationError):
            pass
        try:
            found: Profile | None = self.measure(question)
        except UnsupportedModel:
            found = None
        except EnvironmentProblem as problem:
            if problem.key != "tracer":  # a package is missing: the run would say so too
                raise
            self.failed.add(name)
            return None
        write_whole(path, UNTRACED.encode() if found is None else PROFILE.dump_json(found))
        return found


def key(question: Question) -> str:
    """The name of a profile: what it depends on, and the versions that made it."""
    parts = [QUESTION.dump_python(question, mode="json"), VERSION, version("torch"), version("transformers")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _shapes(method: MethodSpec) -> MethodSpec:
    defaults = {name: MethodSpec.model_fields[name].default for name in SHAPELESS}
    return method.model_copy(update={**defaults, "alpha": 1.0 if method.method == "lora" else None})


def write_whole(path: Path, text: bytes) -> None:
    """Whole or not at all; a cache that cannot be written costs time and nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(text)
        Path(name).replace(path)
    except OSError:
        return
