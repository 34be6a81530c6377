"""The profiles of this user: where they lie, and the process that traces new ones. No torch."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from xiaozao.errors import EnvironmentProblem, UnsupportedModel
from xiaozao.events import OnProgress
from xiaozao.plan.profile_cache import Profiles
from xiaozao.runs.launch import environment
from xiaozao.spec.plan import Reserved
from xiaozao.spec.profile import PROFILE, Profile, TraceRequest
from xiaozao.spec.tape import ASKED, RESERVED, Steps
from xiaozao.store.files import cache

MODULE = "xiaozao.measure.answering"


@contextmanager
def profiles(report: OnProgress) -> Iterator[Profiles]:
    """In the cache, so they can be deleted at any time; a trace takes seconds, which `report` is told.

    The process that traces is started for the first that is not there, and ends with the block.
    """
    tracer = Tracer()

    @contextmanager
    def told() -> Iterator[None]:
        report("trace", 0, 1)
        try:
            yield
        finally:
            report("trace", 1, 1)

    try:
        yield Profiles(cache() / "profiles", told()(tracer.trace), told()(tracer.reserve))
    finally:
        tracer.close()


class Tracer:
    """A process that traces one question after another: to import what it needs takes longer than to trace."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.log = tempfile.TemporaryFile()  # what libraries print, and a traceback

    def trace(self, question: TraceRequest) -> Profile:
        """Raises UnsupportedModel where the model cannot be traced, EnvironmentProblem where the process ended, or
        needs a package that is missing."""
        return PROFILE.validate_json(self._answer(ASKED.dump_json(question), question.config.get("model_type")))

    def reserve(self, steps: Steps) -> Reserved:
        """Raises as `trace` does."""
        model = steps.question.config.get("model_type")
        return RESERVED.validate_json(self._answer(ASKED.dump_json(steps), model))

    def _answer(self, asked: bytes, model: object) -> bytes:
        process = self._running()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(asked + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = b""
        if not answer.endswith(b"\n"):  # killed, for example, by a system that is short of memory
            raise EnvironmentProblem("tracer", model=model, detail=self._last_words())
        told = json.loads(answer)
        if "failed" in told:
            raise UnsupportedModel("trace", model=model, detail=told["failed"])
        if "missing" in told:
            raise EnvironmentProblem(told["missing"], **told["params"])
        return answer

    def close(self) -> None:
        """End the process, if there is one."""
        self._end()
        self.log.close()

    def _running(self) -> subprocess.Popen[bytes]:
        """The process; another one where it ended."""
        if self.process is None or self.process.poll() is not None:
            self._end()
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                env=environment(),
            )  # fmt: skip
        return self.process

    def _end(self) -> None:
        if self.process is None:
            return
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # what was not read yet by one that is gone
                if pipe is not None:
                    pipe.close()
        self.process.wait()

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "?"
