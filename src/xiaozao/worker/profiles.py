"""The profiles of this user: where they lie, and the process that traces new ones. No torch."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xiaozao.errors import UnsupportedModel
from xiaozao.plan.profiles import Profiles
from xiaozao.spec.profile import PROFILE, QUESTION, Profile, Question
from xiaozao.store.files import cache
from xiaozao.worker.launch import environment

MODULE = "xiaozao.worker.trace"
Report = Callable[[str, int, int], object]  # stage, done, total


@contextmanager
def profiles(report: Report) -> Iterator[Profiles]:
    """In the cache, so they can be deleted at any time; a trace takes seconds, which `report` is told.

    The process that traces is started for the first that is not there, and ends with the block.
    """
    tracer = Tracer()

    def told(question: Question) -> Profile:
        report("trace", 0, 1)
        try:
            return tracer.trace(question)
        finally:
            report("trace", 1, 1)

    try:
        yield Profiles(cache() / "profiles", told)
    finally:
        tracer.close()


class Tracer:
    """A process that traces one question after another: to import what it needs takes longer than to trace."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.log = tempfile.TemporaryFile()  # what libraries print, and a traceback

    def trace(self, question: Question) -> Profile:
        """Raises UnsupportedModel where the model cannot be traced."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                env=environment(),
            )  # fmt: skip
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(QUESTION.dump_json(question) + b"\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except OSError:
            answer = b""
        failed = json.loads(answer).get("failed") if answer else self._last_words()
        if failed is not None:
            raise UnsupportedModel("trace", model=question.config.get("model_type"), detail=failed)
        return PROFILE.validate_json(answer)

    def close(self) -> None:
        """End the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.log.close()

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "?"
