"""The worker: one process, one run. `python -P -m xiaozao.worker.main RUN_FOLDER [CONFIG.yaml | key=value ...]`.

Options make the run where there is none in the folder yet; where there is one, it goes on. Started by torchrun, several
of these are one run: the first holds the folder and writes, the others compute and are silent (worker/family.py).

It ignores console signals (they reach parent and child alike, and Windows cannot catch SIGTERM): who started it writes
a stop request into the run folder, and should_stop() reads it. It ends with an Ended event unless it is killed.
"""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from xiaozao.errors import EnvironmentProblem, OutOfMemory, XiaozaoError
from xiaozao.events import Ended, Noticed
from xiaozao.machine.guard import refuse_kernels
from xiaozao.spec.run import RunSpec, read_options
from xiaozao.store.files import RunFolder, refuse_links
from xiaozao.store.journal import Journal
from xiaozao.store.lock import acquire

if TYPE_CHECKING:
    from xiaozao.train.ranks import Ranks


def main(arguments: list[str]) -> int:
    """Run the folder named by the first argument; the exit code is the one of the Ended event."""
    folder = RunFolder(Path(arguments[0]).absolute())
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    refuse_kernels()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and os.environ.get("RANK") != "0":
        return together(folder, None, ()).exit_code
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        refuse_links(folder)
        with acquire(folder), Journal(folder.events) as journal:
            if journal.damaged:
                journal.record(Noticed("journal_damaged", {"lines": journal.damaged}))
            ended = together(folder, journal, arguments[1:])
            if ended.state == "failed" and not journal.in_place():  # whatever failed, it failed by this
                ended = _failed(folder, EnvironmentProblem("run_gone", path=folder.path))
            journal.record(ended, last=True)
    except XiaozaoError as error:
        return _unheard(error)
    except OSError as error:  # the disk takes no words any more: who follows the run tells its end
        return _unheard(EnvironmentProblem("os", detail=error))
    return ended.exit_code


def _unheard(error: XiaozaoError) -> int:
    """Write an error into the log that could not be written into the journal; returns the exit code."""
    with suppress(OSError):
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
    return error.exit_code


def together(folder: RunFolder, journal: Journal | None, options: Sequence[str]) -> Ended:
    """The run, with all ranks that torchrun started; only the first has a journal."""
    # Here and not above, because transformers must find `kernels` refused when it is imported.
    from xiaozao.train.ranks import join, leave
    from xiaozao.worker.family import agreed, among, gone, outlive

    ranks = join(os.environ)
    with among(ranks):
        run = partial(_run, folder, journal, options, ranks)
        ended = outlive(run, lambda: _failed(folder, gone(folder.log)), ranks)
        if ended.state == "failed":
            sys.stderr.write(f"[{ended.code}] {ended.message}\n")
            return agreed(ended, ranks)
        leave()
    return ended


def _run(folder: RunFolder, journal: Journal | None, options: Sequence[str], ranks: "Ranks") -> Ended:
    from xiaozao.worker.family import gone, is_lost

    try:
        from xiaozao.worker.jobs import run
        from xiaozao.worker.tracking import tracked

        if journal is None:
            return run(folder, lambda event: None, ranks)
        if options:  # nobody has cleared an old request
            folder.stop.unlink(missing_ok=True)
        if options and not folder.spec.is_file():
            spec = RunSpec.from_options({**read_options(options), "output": str(folder.path)})
            folder.spec.write_text(spec.to_yaml(), encoding="utf-8")
        return tracked(folder, journal.record, partial(run, ranks=ranks))
    except XiaozaoError as error:
        return _failed(folder, error)
    except MemoryError:
        return _failed(folder, OutOfMemory("out_of_memory"))
    except OSError as error:
        traceback.print_exc()
        return _failed(folder, EnvironmentProblem("os", detail=error))
    except RuntimeError as error:
        traceback.print_exc()
        if is_lost(error, ranks):
            return _failed(folder, gone(folder.log))
        from xiaozao.train.recover import is_memory

        return _failed(folder, OutOfMemory("out_of_memory") if is_memory(error) else _unexpected(folder, error))
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
