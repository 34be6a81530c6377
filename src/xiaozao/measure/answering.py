"""`python -m xiaozao.measure.answering`: questions on standard input, their answers on standard output, a line each.

This runs in a process of its own, because fake tensors import code that a run would otherwise keep in memory. The
answer to a TraceRequest is a profile; the answer to Steps is the memory that a GPU's allocator reserves. A failure is
answered by `{"failed": why}`, or `{"missing": key, "params": {}}` of an EnvironmentProblem. What libraries print goes
to standard error.
"""

import json
import os
import sys

from xiaozao.errors import EnvironmentProblem, UnsupportedModel
from xiaozao.measure.recording import record
from xiaozao.measure.trace import trace
from xiaozao.models.load import DTYPES
from xiaozao.plan.reserved import reserved
from xiaozao.spec.profile import PROFILE, TraceRequest
from xiaozao.spec.tape import ASKED, RESERVED, Steps


def main() -> int:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        try:
            answer = answer_to(ASKED.validate_json(line))
        except UnsupportedModel as error:
            answer = json.dumps({"failed": str(error.params.get("detail"))}).encode()
        except EnvironmentProblem as problem:
            answer = json.dumps({"missing": problem.key, "params": problem.params}).encode()
        answers.write(answer + b"\n")
        answers.flush()
    return 0


def answer_to(asked: TraceRequest | Steps) -> bytes:
    """Raises UnsupportedModel for a model that cannot be traced, EnvironmentProblem where a package is missing."""
    if isinstance(asked, TraceRequest):
        return PROFILE.dump_json(trace(asked))
    question = asked.question
    return RESERVED.dump_json(reserved(record(asked), question.attention, DTYPES[question.precision].itemsize))


if __name__ == "__main__":
    sys.exit(main())
