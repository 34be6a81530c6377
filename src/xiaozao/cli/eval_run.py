"""An evaluation as a command: started, watched, stopped, gone on with, shown.

    settings -> evaluations/KIND/evaluation.json -> a process of its own -> watched in the foreground -> result.json

Called again, a command goes on with an evaluation that was stopped, watches one that is going on, and shows one that
is done.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xiaozao.cli.console import Output
from xiaozao.cli.control import INTERRUPTED
from xiaozao.cli.stop import stopping
from xiaozao.cli.streams import endure
from xiaozao.cli.verb import error_text
from xiaozao.cli.watch import watch
from xiaozao.errors import Busy, EnvironmentProblem, UsageError, XiaozaoError
from xiaozao.evaluate.paper import paper_of
from xiaozao.evaluate.resultfile import is_whole
from xiaozao.events import Ended
from xiaozao.machine.threads import check_threads
from xiaozao.runs.follow import POLL_SECONDS, last_sequence, session_start
from xiaozao.runs.launch import EVALUATION, start, words
from xiaozao.runs.process import Worker, died, has_started
from xiaozao.runs.sentences import failure
from xiaozao.spec.evaluation import BenchSpec, FormatSpec, command_of, read_evaluation, write_evaluation
from xiaozao.spec.parts import parse_bytes
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder, write_whole
from xiaozao.store.lock import holder
from xiaozao.store.runs import short_name

OPTIONS = {"tasks": "task", "noise": "once"}  # what settings are called on the command line
UNSTATED = ("run", "asked")  # what no option says: where the run lies now, and the hash of the questions
Spec = BenchSpec | FormatSpec
Show = Callable[[RunFolder], int]  # the folder of a finished evaluation -> exit code


def memory_of(budget: str | None) -> int | None:
    """A size of memory as a user writes it, in bytes. Raises UsageError."""
    size = parse_bytes(budget)
    if size is None or isinstance(size, int):
        return size
    raise UsageError("eval_budget", budget=budget)


def check_free(paths: Iterable[Path], output: Output) -> None:
    """Raises UsageError for a file that is there, which somebody else may need, unless --yes was given."""
    for path in paths:
        if os.path.lexists(path) and not output.yes:
            raise UsageError("eval_file_exists", path=path)


def hand_out(path: Path, content: bytes) -> None:
    """Write a file that the user asked for. Raises EnvironmentProblem."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise EnvironmentProblem("blind_write", path=path, detail=error.strerror or str(error)) from None


@dataclass(frozen=True)
class Asked:
    """What a command asks for. more: options that show a result otherwise, and that the advised command repeats."""

    spec: Spec
    again: bool
    detach: bool
    more: Sequence[str] = ()


def check_together(name: str, given: object, **others: object) -> None:
    """Raises UsageError if an option is given beside others that it would ignore."""
    beside = [f"--{other.replace('_', '-')}" for other, value in others.items() if value]
    if given and beside:
        raise UsageError("eval_together", option=name, others=", ".join(beside))


def evaluate(source: RunFolder, options: RunSpec, asked: Asked, output: Output, show: Show) -> int:
    """Start, resume, watch or show the evaluation of a run; returns the exit code."""
    endure()
    spec, again, detach = asked.spec, asked.again, asked.detach
    check_threads(spec.threads)
    folder, name = source.evaluation(spec.kind), short_name(source)
    command = command_of(spec, name, *asked.more)
    try:
        paper = paper_of(spec, options)
    except XiaozaoError as error:
        if again or holder(folder) is not None or not is_whole(folder.standing):
            raise
        return _as_it_was(folder, asked, name, error, output, show)
    spec = spec.model_copy(update={"asked": paper.hash})
    if paper.left:
        output.note("eval.left_out", count=paper.left)
    if (pid := holder(folder)) is not None:
        known = read_evaluation(folder.evaluation_spec)
        if again or detach:
            raise Busy("eval_busy", run=name, pid=pid, command=command_of(known, name))
        _check_same(spec, known, name, asked.more)
        return _look_in(folder, name, command, output, show)
    if again and folder.path.exists():
        shutil.rmtree(folder.path)
    if folder.evaluation_spec.is_file():
        _check_same(spec, read_evaluation(folder.evaluation_spec), name, asked.more)
        if is_whole(folder.standing):
            output.note("eval.already", run=name)
            return show(folder)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_evaluation(spec, folder.evaluation_spec)
    folder.stop.unlink(missing_ok=True)
    after = last_sequence(folder.events)
    worker = Worker(folder, start(words(EVALUATION, folder), folder))
    if detach:
        return _detached(worker, name, command, after, output)
    with stopping(folder, worker.kill, output, "eval.stopping") as signals:
        ended = watch(folder.events, worker.alive, output, after, events=False)
    if ended is None:
        if signals.count > 1:
            output.note("eval.killed", command=command)
            return signals.exit_code
        raise _lost(worker, name, command)
    worker.code()
    code = _conclude(ended, folder, command, output, show)
    return signals.exit_code if ended.state == "stopped" and signals.count else code


def stop_evaluation(source: RunFolder, kind: str, output: Output) -> int:
    """Ask an evaluation that is going on to stop, and wait until it has; what is answered stays."""
    folder, name = source.evaluation(kind), short_name(source)
    worker = Worker(folder)
    if not worker.alive():
        output.result(output.say("eval.not_going_on", run=name), {"run": name, "was_running": False})
        return 0
    folder.stop.touch()
    with output.stages() as report:
        while worker.alive():
            report("stop", 0, 0)
            time.sleep(POLL_SECONDS)
    command = command_of(read_evaluation(folder.evaluation_spec), name)
    output.result(output.say("eval.stopped", command=command), {"run": name, "was_running": True, "again": command})
    return 0


def _as_it_was(folder: RunFolder, asked: Asked, name: str, why: XiaozaoError, output: Output, show: Show) -> int:
    """Show a finished evaluation whose files are gone or changed: its result has all that is shown."""
    known = read_evaluation(folder.evaluation_spec)
    _check_same(asked.spec.model_copy(update={"asked": known.asked}), known, name, asked.more)
    output.note("eval.as_it_was", run=name, why=why.what(output.language))
    return show(folder)


def _check_same(asked: Spec, known: Spec, name: str, more: Sequence[str]) -> None:
    """Raises UsageError where an evaluation with other settings lies there; they were stated before and stay."""
    before, now = known.settings(), asked.settings()
    command = command_of(known, name, *more)
    changed = [f"--{OPTIONS.get(key, key)}" for key in before if key not in UNSTATED and before[key] != now.get(key)]
    if changed:
        raise UsageError("eval_settings", run=name, changed=", ".join(changed), command=command)
    if known.asked != asked.asked:
        raise UsageError("eval_changed", run=name, command=command)


def _look_in(folder: RunFolder, name: str, command: str, output: Output, show: Show) -> int:
    """Watch an evaluation that another command started; Ctrl-C ends the watch alone."""
    worker = Worker(folder)
    output.note("eval.watching", run=name)
    try:
        ended = watch(folder.events, worker.alive, output, session_start(folder.events), events=False)
    except KeyboardInterrupt:
        output.note("eval.left", command=command)
        return INTERRUPTED
    if ended is None:
        raise _lost(worker, name, command)
    return _conclude(ended, folder, command, output, show)


def _lost(worker: Worker, name: str, command: str) -> XiaozaoError:
    """Why a worker ended without a word: as that of a run, but with the command that goes on with an evaluation."""
    if (pid := holder(worker.folder)) is not None:
        return Busy("eval_busy", run=name, pid=pid, command=command)
    why = died(worker)
    if why.key not in ("worker_killed", "worker_gone", "worker_died"):
        return why
    return type(why)("eval_lost", why.problems, run=name, command=command, log=worker.folder.log)


def _detached(worker: Worker, name: str, command: str, after: int, output: Output) -> int:
    """Wait until the worker holds the folder, so that the next command sees it."""
    if not has_started(worker, after):
        raise _lost(worker, name, command)
    path, pid = str(worker.folder.path), worker.child.pid if worker.child else None
    output.result(output.say("eval.detached", command=command), {"run": name, "path": path, "pid": pid}, path)
    return 0


def _conclude(ended: Ended, folder: RunFolder, command: str, output: Output, show: Show) -> int:
    """Show the result, or say why there is none; for a program in one document, whichever it is."""
    if ended.state == "succeeded":
        return show(folder)
    what, problems, fix = failure(ended, output.language)
    if ended.state == "failed":
        output.always(error_text(ended.code, what, problems, fix, output.language))
    else:
        what, fix = output.say("eval.stopped", command=command), command
        output.note("eval.stopped", command=command)
    if output.format == "json":
        error = {"code": ended.code, "message": what, "fix": fix, "problems": problems, "key": ended.key,
                 "exit_code": ended.exit_code}  # fmt: skip
        output.result("", {"error": error})
    return ended.exit_code
