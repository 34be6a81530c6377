"""The cache of traced profiles, by a hash of what they depend on. A missing one is traced on demand. No torch here."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from xiaozao.errors import EnvironmentProblem, UnsupportedModel
from xiaozao.spec.fields import marked
from xiaozao.spec.parts import NO_SHAPE, MethodSpec
from xiaozao.spec.plan import Reserved
from xiaozao.spec.profile import PROFILE, VERSION, Profile, TraceRequest
from xiaozao.spec.tape import ASKED, RESERVED, Steps
from xiaozao.spec.tape import VERSION as TAPE_VERSION
from xiaozao.store.files import write_whole

Answer = TypeVar("Answer")
UNTRACED = "untraced"  # what is kept of a model that could not be traced


@dataclass(frozen=True)
class Profiles:
    """A folder of traced profiles and of a GPU allocator's reserved memory, and the functions that make new ones.

    Both functions raise UnsupportedModel if a model cannot be traced, which is cached, too, and EnvironmentProblem if
    tracing failed.
    """

    folder: Path
    measure: Callable[[TraceRequest], Profile]
    reserve: Callable[[Steps], Reserved] | None = None
    failed: set[str] = field(default_factory=set)  # what was tried here, and would fail again

    def get(self, question: TraceRequest) -> Profile | None:
        """The profile, or None for a model that cannot be traced, or not now."""
        question = replace(question, method=_shapes(question.method))
        return self._kept(key(question), PROFILE, lambda: self.measure(question))

    def reserved(self, steps: Steps) -> Reserved | None:
        """The memory that a GPU's allocator reserves for steps, or None as in `get`."""
        make, question = self.reserve, steps.question
        if make is None:
            return None
        steps = replace(steps, question=replace(question, method=_shapes(question.method)))
        return self._kept(key(steps), RESERVED, lambda: make(steps))

    def _kept(self, name: str, kind: TypeAdapter[Answer], make: Callable[[], Answer]) -> Answer | None:
        if name in self.failed:
            return None
        path = self.folder / f"{name}.json"
        try:
            text = path.read_bytes()
            return None if text == UNTRACED.encode() else kind.validate_json(text)
        except (OSError, ValidationError):
            pass
        try:
            answer: Answer | None = make()
        except UnsupportedModel:
            answer = None
        except EnvironmentProblem as problem:
            if problem.key != "tracer":  # a package is missing: the run would say so too
                raise
            self.failed.add(name)
            return None
        keep_if_possible(path, UNTRACED.encode() if answer is None else kind.dump_json(answer))
        return answer


def key(asked: TraceRequest | Steps) -> str:
    """The name of an answer: what it depends on, and the versions that made it."""
    made_by = [VERSION] if isinstance(asked, TraceRequest) else [VERSION, TAPE_VERSION]
    parts = [ASKED.dump_python(asked, mode="json"), *made_by, version("torch"), version("transformers")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _shapes(method: MethodSpec) -> MethodSpec:
    defaults = {name: MethodSpec.model_fields[name].default for name in marked(NO_SHAPE)}
    return method.model_copy(update={**defaults, "alpha": 1.0 if method.method == "lora" else None})


def keep_if_possible(path: Path, text: bytes) -> None:
    """Write a file of a cache. Errors are ignored: a cache that cannot be written only costs time."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
