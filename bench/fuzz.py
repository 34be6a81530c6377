"""Everything that is read before it is used, spoiled many times: python -m bench.fuzz [--count 100000] [--kind csv]

Each input ends in a result or in an error of ours; anything else is printed with its kind and number, and the exit
code is 1. The numbers are those of tests/fuzz, so `--kind csv --first 17 --count 1` is one of them again. Printed for
each kind: inputs, how many were refused, the slowest in milliseconds and its number.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.kinds import KINDS, WRONG, verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="inputs, over all kinds")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one of each kind")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind; may be repeated")
    asked = parser.parse_args()
    kinds = asked.kind or list(KINDS)
    each = -(-asked.count // len(kinds))
    wrong = sum(fuzz(name, range(asked.first, asked.first + each)) for name in kinds)
    return 1 if wrong else 0


def fuzz(name: str, numbers: range) -> int:
    """Read the inputs of a kind; the number of those that ended in something else than a result or an error of ours."""
    verdicts: Counter[str] = Counter()
    slowest = (0.0, 0)
    with tempfile.TemporaryDirectory() as place:
        for number in numbers:
            began = time.perf_counter()
            told = verdict(name, number, Path(place))
            verdicts[told] += 1
            if told.startswith(WRONG) and verdicts[told] == 1:
                tell({"kind": name, "number": number, "failure": told})
            slowest = max(slowest, (time.perf_counter() - began, number))
    read = verdicts.pop("read", 0)
    failed = sum(count for told, count in verdicts.items() if told.startswith(WRONG))
    tell({
        "kind": name, "inputs": len(numbers), "read": read, "refused": verdicts.total() - failed, "failed": failed,
        "slowest_ms": round(slowest[0] * 1000, 1), "slowest": slowest[1], "keys": dict(verdicts.most_common(8)),
    })  # fmt: skip
    return failed


def tell(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=True) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
