"""`python -m xiaozao.worker.trace`: questions on standard input, their profiles on standard output, a line each.

In a process of its own, because fake tensors need code that a run has no use for, and would carry to its end. A line
that is no profile is `{"failed": why}`.
"""

import json
import sys

from xiaozao.errors import UnsupportedModel
from xiaozao.spec.profile import PROFILE, QUESTION
from xiaozao.train.trace import trace


def main() -> int:
    """Answer until the input ends."""
    for line in sys.stdin.buffer:
        try:
            answer = PROFILE.dump_json(trace(QUESTION.validate_json(line)))
        except UnsupportedModel as error:
            answer = json.dumps({"failed": str(error.params.get("detail"))}).encode()
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
