"""What every worker does around its work: it holds its folder, writes the journal, and ends with an Ended event.

Console signals are ignored: they reach parent and child alike, and Windows cannot catch SIGTERM. Who started the worker
writes a stop request into the folder instead.
"""

import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from xiaozao.errors import EnvironmentProblem, OutOfMemory, XiaozaoError
from xiaozao.events import Ended, Noticed
from xiaozao.machine.guard import refuse_kernels
from xiaozao.store.files import RunFolder, refuse_links
from xiaozao.store.journal import Journal
from xiaozao.store.lock import acquire

Lost = Callable[[RuntimeError], XiaozaoError | None]


def detach_from_console() -> None:
    """Ignore the console's signals, and refuse code that transformers would fetch."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    refuse_kernels()


def hold(folder: RunFolder, work: Callable[[Journal], Ended]) -> int:
    """Do the work while holding the folder, and journal how it ended; returns the exit code."""
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        refuse_links(folder)
        with acquire(folder), Journal(folder.events) as journal:
            if journal.damaged:
                journal.record(Noticed("journal_damaged", {"lines": journal.damaged}))
            ended = work(journal)
            if ended.state == "failed" and not journal.in_place():  # whatever failed, it failed by this
                ended = failed(folder, EnvironmentProblem("run_gone", path=folder.path))
            journal.record(ended, last=True)
    except XiaozaoError as error:
        return _unheard(error)
    except OSError as error:  # the disk takes no words any more: who follows the run tells its end
        return _unheard(EnvironmentProblem("os", detail=error))
    return ended.exit_code


def guarded(folder: RunFolder, work: Callable[[], Ended], lost: Lost = lambda error: None) -> Ended:
    """How the work ended, whatever it raised. `lost`: the error that a RuntimeError stands for, if it knows."""
    try:
        return work()
    except XiaozaoError as error:
        return failed(folder, error)
    except MemoryError:
        return failed(folder, OutOfMemory("out_of_memory"))
    except OSError as error:
        traceback.print_exc()
        return failed(folder, EnvironmentProblem("os", detail=error))
    except RuntimeError as error:
        traceback.print_exc()
        if (known := lost(error)) is not None:
            return failed(folder, known)
        from xiaozao.train.recover import is_memory

        return failed(folder, OutOfMemory("out_of_memory") if is_memory(error) else _unexpected(folder, error))
    except Exception as error:  # the last net: whatever it is, the journal says that the run is over
        traceback.print_exc()
        return failed(folder, _unexpected(folder, error))


def failed(folder: RunFolder, error: XiaozaoError) -> Ended:
    """The Ended event of an error."""
    return Ended(
        state="failed", code=error.code, message=error.what(), key=error.key, params=dict(error.params),
        problems=[{"key": one.key, "params": one.params} for one in error.problems],
        exit_code=error.exit_code, output=str(folder.path),
    )  # fmt: skip


def _unexpected(folder: RunFolder, error: Exception) -> XiaozaoError:
    return XiaozaoError("unexpected", detail=f"{type(error).__name__}: {error}", log=folder.log)


def _unheard(error: XiaozaoError) -> int:
    """Write an error into the log that could not be written into the journal; returns the exit code."""
    with suppress(OSError):
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
    return error.exit_code
