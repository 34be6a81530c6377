"""`zao runs watch | stop | logs | rm`: watch, stop or remove a run that another command started.

Watching does not affect the run: Ctrl-C or a closed terminal ends only the watch. A run is stopped by `zao runs stop`,
or by Ctrl-C in the `zao train` that started it in the foreground.
"""

import time
from collections.abc import Iterator

from xiaozao.cli.console import Output, current_output, show
from xiaozao.cli.disk import gigabytes
from xiaozao.cli.streams import endure
from xiaozao.cli.summary import details, document
from xiaozao.cli.verb import error_text
from xiaozao.cli.watch import watch
from xiaozao.errors import Busy, UsageError
from xiaozao.events import Ended, to_line
from xiaozao.hub.cached import folder_bytes
from xiaozao.runs.follow import POLL_SECONDS, follow_lines, session_start
from xiaozao.runs.process import Worker, died, log_tail
from xiaozao.runs.removal import forget_missing, remove_run
from xiaozao.runs.restart import has_learned
from xiaozao.runs.sentences import failure
from xiaozao.store.files import RunFolder
from xiaozao.store.lock import holder
from xiaozao.store.runs import find_run, register, short_name, summarise

INTERRUPTED = 130  # what shells call a command that Ctrl-C ended
PATIENCE = 30.0  # seconds until somebody who waits for a stop is told of --now


def look_in(folder: RunFolder, output: Output) -> int:
    """Watch a run to its end. Ctrl-C ends the watch and not the run."""
    endure()
    name, worker = short_name(folder), Worker(folder)
    if worker.alive():
        output.note("runs.watching", name=name)
    try:
        ended = watch(folder.events, worker.alive, output, session_start(folder.events))
    except KeyboardInterrupt:
        output.note("runs.left", name=name)
        return INTERRUPTED
    if ended is None:
        raise died(worker)
    return conclude(ended, folder, output)


def conclude(ended: Ended, folder: RunFolder, output: Output) -> int:
    """Print how a run ended; returns the exit code."""
    name = short_name(folder)
    if output.format == "human":
        show(output.stdout, details(summarise(folder), output))
    elif output.format == "quiet":
        output.line(str(folder.path))
    if ended.state == "stopped":
        output.note("train.stopped", name=name)
    elif ended.state == "failed":
        what, problems, fix = failure(ended, output.language)
        output.always(error_text(ended.code, what, problems, fix, output.language))
        output.note("train.resumable" if has_learned(folder) else "train.changeable", name=name)
    else:
        output.note("train.next_full" if folder.model.is_dir() else "train.next", name=name, path=folder.model)
    return ended.exit_code


def watch_run(name: str) -> int:
    output = current_output()
    folder = find_run(name)
    register(folder.path)
    return look_in(folder, output)


def stop_run(name: str, now: bool) -> int:
    output = current_output()
    folder = find_run(name)
    register(folder.path)
    endure()
    worker, typed = Worker(folder), short_name(folder)
    was = worker.alive()
    if not was:
        output.note("runs.not_going_on", name=typed)
    elif now:
        worker.kill()
    else:
        folder.stop.touch()
    try:
        _wait(worker, typed, output)
    except KeyboardInterrupt:
        output.note("runs.stop_asked", name=typed)
        return INTERRUPTED
    summary = summarise(folder)
    output.result(details(summary, output), {**document(summary), "was_running": was}, summary.path)
    if was and summary.state in ("stopped", "interrupted"):
        output.note("train.killed" if summary.state == "interrupted" else "train.stopped", name=typed)
    return 0


def _wait(worker: Worker, name: str, output: Output) -> None:
    """Wait until the worker has ended. Shows its progress, and after a while the command that ends it at once."""
    begun, told = time.monotonic(), False
    with output.stages() as report:
        while worker.alive():
            report("stop", 0, 0)
            if not told and time.monotonic() - begun > PATIENCE:
                output.note("runs.stop_slow", name=name)
                told = True
            time.sleep(POLL_SECONDS)


def show_logs(name: str, lines: int, follow: bool) -> int:
    output = current_output()
    folder = find_run(name)
    register(folder.path)
    end = folder.log.stat().st_size if folder.log.is_file() else 0
    tail = log_tail(folder.log, lines)
    if follow:
        return _follow_log(folder, tail, end, output)
    human = "\n".join(tail) or output.say("runs.no_log", name=short_name(folder))
    output.result(human, {"run": folder.name, "log": str(folder.log), "lines": tail}, "\n".join(tail))
    return 0


def _follow_log(folder: RunFolder, before: list[str], end: int, output: Output) -> int:
    """Print the log's lines and those that are added, until the worker has ended."""

    def everything() -> Iterator[str]:
        yield from before
        yield from follow_lines(folder.log, Worker(folder).alive, end)

    try:
        for line in everything():
            if output.format == "json":
                output.line(to_line({"line": line}))
            else:
                show(output.stdout, line)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def remove(name: str, dry_run: bool) -> None:
    output = current_output()
    missing = forget_missing(name) if not dry_run else None
    if missing is not None:
        output.result(output.say("runs.forgotten", path=missing), {"removed": True, "path": str(missing), "bytes": 0})
        return
    folder = find_run(name)
    typed, size = short_name(folder), folder_bytes(folder.path)
    if (pid := holder(folder)) is not None:
        raise Busy("run_alive", name=typed, pid=pid)
    told = {"name": typed, "path": folder.path, "size": gigabytes(size)}
    if not dry_run and not output.confirm("runs.remove", **told):
        raise UsageError("not_confirmed", command=f"zao runs rm {typed} --yes")
    kept = [] if dry_run else remove_run(folder)
    human = output.say("runs.would_remove" if dry_run else "runs.removed", **told)
    if kept:
        human += "\n" + output.say("runs.kept", path=folder.path, names=", ".join(kept))
    output.result(human, {"removed": not dry_run, "path": str(folder.path), "bytes": size, "kept": kept})
