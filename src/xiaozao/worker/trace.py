"""`python -m xiaozao.worker.trace`: questions on standard input, their profiles on standard output, a line each.

In a process of its own, because fake tensors need code that a run has no use for, and would carry to its end. A line
that is no profile is `{"failed": why}`, or `{"missing": key, "params": {}}` of an EnvironmentProblem. What libraries
print goes to standard error.
"""

import json
import os
import sys

from xiaozao.errors import EnvironmentProblem, UnsupportedModel
from xiaozao.spec.profile import PROFILE, QUESTION
from xiaozao.train.trace import trace


def main() -> int:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        try:
            answer = PROFILE.dump_json(trace(QUESTION.validate_json(line)))
        except UnsupportedModel as error:
            answer = json.dumps({"failed": str(error.params.get("detail"))}).encode()
        except EnvironmentProblem as problem:
            answer = json.dumps({"missing": problem.key, "params": problem.params}).encode()
        answers.write(answer + b"\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
