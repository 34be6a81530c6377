"""A process for the tests of apart.py: echoes, dies, hangs, or takes all memory, as it is asked to."""

import json
import os
import sys
import time
from collections.abc import Iterator

from xiaozao.machine.apart import Json, serve


def answers(question: Json) -> Iterator[str]:
    for number in range(question.get("rows", 1)):
        yield json.dumps({"n": number, "pid": os.getpid()})
    match question.get("then"):
        case "die":
            sys.stderr.write("the last words\nnote: more of it\n")
            sys.stderr.flush()
            os.abort()
        case "hang":
            time.sleep(600)
        case "fill":
            yield json.dumps({"n": len(bytearray(4_000_000_000))})


if __name__ == "__main__":
    sys.exit(serve(answers, 1_000_000_000))
