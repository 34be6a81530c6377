"""The worker: one process, one run. `python -P -m xiaozao.worker.main RUN_FOLDER`.

It ignores console signals (they reach parent and child alike, and Windows cannot catch SIGTERM): who started it writes
a stop request into the run folder, and should_stop() reads it. It ends with an Ended event unless it is killed.
"""

import signal
import sys
import traceback
from pathlib import Path

from xiaozao.errors import EnvironmentProblem, OutOfMemory, XiaozaoError
from xiaozao.events import Ended
from xiaozao.models.guard import refuse_kernels
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import Journal
from xiaozao.store.lock import acquire


def main(arguments: list[str]) -> int:
    """Run the folder named by the only argument; the exit code is the one of the Ended event."""
    folder = RunFolder(Path(arguments[0]))
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    refuse_kernels()
    with acquire(folder), Journal(folder.events) as journal:
        ended = _run(folder, journal)
        journal.record(ended)
    return ended.exit_code


def _run(folder: RunFolder, journal: Journal) -> Ended:
    try:
        # Here and not above, because transformers must find `kernels` refused when it is imported.
        from xiaozao.worker.jobs import run
        from xiaozao.worker.tracking import tracked

        return tracked(folder, journal.record, run)
    except XiaozaoError as error:
        return _failed(folder, error)
    except MemoryError:
        return _failed(folder, OutOfMemory("out_of_memory"))
    except OSError as error:
        traceback.print_exc()
        return _failed(folder, EnvironmentProblem("os", detail=error))
    except RuntimeError as error:
        traceback.print_exc()
        memory = "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower()
        return _failed(folder, OutOfMemory("out_of_memory") if memory else _unexpected(folder, error))
    except Exception as error:  # the last net: whatever it is, the journal says that the run is over
        traceback.print_exc()
        return _failed(folder, _unexpected(folder, error))


def _unexpected(folder: RunFolder, error: Exception) -> XiaozaoError:
    return XiaozaoError("unexpected", detail=f"{type(error).__name__}: {error}", log=folder.log)


def _failed(folder: RunFolder, error: XiaozaoError) -> Ended:
    return Ended(
        state="failed", code=error.code, message=error.what(), key=error.key, params=dict(error.params),
        problems=[{"key": one.key, "params": one.params} for one in error.problems],
        exit_code=error.exit_code, output=str(folder.path),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
