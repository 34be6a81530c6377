"""`python -m xiaozao.worker.trace`: a question on standard input, its profile on standard output.

In a process of its own, because fake tensors need code that a run has no use for, and would carry to its end.
"""

import sys

from xiaozao.errors import UnsupportedModel
from xiaozao.spec.profile import PROFILE, QUESTION
from xiaozao.train.trace import trace


def main() -> int:
    """0, or 1 with the reason on standard error."""
    question = QUESTION.validate_json(sys.stdin.buffer.read())
    try:
        found = trace(question)
    except UnsupportedModel as error:
        sys.stderr.write(error.what())
        return 1
    sys.stdout.buffer.write(PROFILE.dump_json(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
