"""The standard tests of a run's result, in a process of their own: `python -P -m xiaozao.worker.evaluator FOLDER`.

    evaluation.json -> base sits -> [base sits again, otherwise composed] -> the result sits -> result.json

Answers are recorded as they come. A stopped or killed evaluation goes on behind them; what the same base answered in
another evaluation is taken from the cache and not asked again.
"""

import sys
from pathlib import Path

from xiaozao.events import Ended
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import Journal
from xiaozao.worker.held import detach_from_console, guarded, hold


def main(arguments: list[str]) -> int:
    """Evaluate into the folder named by the argument; the exit code is the one of the Ended event."""
    folder = RunFolder(Path(arguments[0]).absolute())
    detach_from_console()
    return hold(folder, lambda journal: guarded(folder, lambda: _run(folder, journal)))


def _run(folder: RunFolder, journal: Journal) -> Ended:
    from xiaozao.worker.examining import examine

    return examine(folder, journal.record)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
