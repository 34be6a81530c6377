"""The profiles of this user: where they lie, and the process that traces a new one. No torch."""

import subprocess
import sys
from collections.abc import Callable

from xiaozao.errors import UnsupportedModel
from xiaozao.plan.profiles import Profiles
from xiaozao.spec.profile import PROFILE, QUESTION, Profile, Question
from xiaozao.store.files import cache
from xiaozao.worker.launch import environment

MODULE = "xiaozao.worker.trace"
Report = Callable[[str, int, int], object]  # stage, done, total


def profiles(report: Report) -> Profiles:
    """In the cache, so they can be deleted at any time; a trace takes seconds, which `report` is told."""

    def told(question: Question) -> Profile:
        report("trace", 0, 1)
        try:
            return measure(question)
        finally:
            report("trace", 1, 1)

    return Profiles(cache() / "profiles", told)


def measure(question: Question) -> Profile:
    """Trace in a fresh process. Raises UnsupportedModel where the model cannot be traced."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", MODULE], input=QUESTION.dump_json(question), capture_output=True, check=False,
        env=environment(),
    )  # fmt: skip
    if done.returncode:
        detail = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["?"]
        raise UnsupportedModel("trace", model=question.config.get("model_type"), detail=detail[0])
    return PROFILE.validate_json(done.stdout)
