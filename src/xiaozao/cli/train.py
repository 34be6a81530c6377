"""`zao train`: make a run, start its worker, watch it.

    options -> RunSpec -> run folder, spec.yaml -> worker (a process of its own) -> watch the journal in the foreground

The worker belongs to no terminal. The first Ctrl-C (or SIGTERM, SIGHUP) writes a stop request into the run folder: the
worker finishes its step, saves, and ends. The second one kills it. `--resume` continues a run that has stopped. If the
run is still going on, `--resume` only watches it, as `zao runs watch` does.
"""

import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.control import conclude, look_in
from xiaozao.cli.from_config import brought, document
from xiaozao.cli.options import anchored, gather
from xiaozao.cli.plan import choice_of, show_choice
from xiaozao.cli.stop import stopping
from xiaozao.cli.streams import endure
from xiaozao.cli.summary import details
from xiaozao.cli.watch import watch
from xiaozao.errors import Busy, UsageError
from xiaozao.events import to_line
from xiaozao.hub.sources import check_name
from xiaozao.machine.threads import check_threads
from xiaozao.runs.follow import last_sequence
from xiaozao.runs.launch import launch
from xiaozao.runs.process import Worker, died, has_started
from xiaozao.runs.restart import change
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder, create_run
from xiaozao.store.journal import read_records
from xiaozao.store.lock import holder
from xiaozao.store.runs import find_run, register, short_name, summarise
from xiaozao.track.trackers import require


def devices_of(changed: Mapping[str, object]) -> int | None:
    """The number of devices to resume with; None keeps the number of before.

    Raises UsageError for an invalid value.
    """
    if "devices" not in changed:
        return None
    return RunSpec.from_options({"model": "-", "data": "-", "batch": 4096, "devices": changed["devices"]}).train.devices


def work(
    arguments: tuple[str, ...], resume: str | None, from_config: str | None, detach: bool, dry_run: bool,
    print_config: bool, **flags: str | None,
) -> int:  # fmt: skip
    output = current_output()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("under_torchrun", world=os.environ["WORLD_SIZE"])
    if resume is not None:
        theirs = brought(from_config, output)
        return _resume(find_run(resume), detach, output, {**theirs.options, **gather(arguments, flags)})
    theirs = brought(from_config, output)
    spec = RunSpec.from_options({**theirs.options, **gather(arguments, flags)})
    if print_config:
        told = {"from_config": document(theirs, output)} if from_config is not None else {}
        output.result(spec.to_yaml().rstrip(), {"options": spec.options(), **told}, spec.to_yaml().rstrip())
        return 0
    spec = RunSpec.from_options(anchored(spec.options()))
    check_name(spec.model.model, spec.model.source)  # better before a run folder exists than after
    check_threads(spec.train.threads)
    require(spec.train.track)
    if dry_run:
        choice, known = choice_of(spec, output)
        return show_choice(choice, output, known)
    folder = create_run(spec.train.output, PurePath(spec.model.model.removeprefix("pypi:")).name)
    folder.spec.write_text(spec.with_options(output=str(folder.path)).to_yaml(), encoding="utf-8")
    register(folder.path)
    return _start(folder, detach, output)


def _resume(folder: RunFolder, detach: bool, output: Output, changed: Mapping[str, Any]) -> int:
    endure()
    register(folder.path)
    name, devices = short_name(folder), devices_of(changed)
    if (pid := holder(folder)) is not None:
        if changed or detach:
            raise Busy("run_busy", name=name, pid=pid)
        return look_in(folder, output)
    if summarise(folder).state == "succeeded":
        if given := changed.keys() - {"devices"}:
            raise UsageError("resume_finished", name=name, given=", ".join(sorted(given)))
        output.note("train.already", name=name)
        return _already(folder, output)
    if changed:
        change(folder, name, {**changed, **anchored(changed)})
    return _start(folder, detach, output, devices)


def _start(folder: RunFolder, detach: bool, output: Output, devices: int | None = None) -> int:
    endure()
    folder.stop.unlink(missing_ok=True)  # a request that an earlier session left behind
    after = last_sequence(folder.events)
    if detach:
        return _detached(Worker(folder, launch(folder, devices)), after, output)
    output.note("train.folder", path=folder.path)
    return _foreground(Worker(folder, launch(folder, devices)), after, output)


def _detached(worker: Worker, after: int, output: Output) -> int:
    """Wait until the worker holds the run, so that the next command sees it running."""
    folder = worker.folder
    if not has_started(worker, after):
        raise died(worker)
    name = short_name(folder)
    pid = worker.child.pid if worker.child else None
    output.result(
        output.say("train.detached", name=name), {"run": name, "path": str(folder.path), "pid": pid}, str(folder.path)
    )
    return 0


def _foreground(worker: Worker, after: int, output: Output) -> int:
    folder = worker.folder
    with stopping(folder, worker.kill, output) as signals:
        ended = watch(folder.events, worker.alive, output, after)
    if ended is None:
        if signals.count > 1:
            output.note("train.killed", name=short_name(folder))
            return signals.exit_code
        raise died(worker)
    worker.code()
    code = conclude(ended, folder, output)
    return signals.exit_code if ended.state == "stopped" and signals.count else code


def _already(folder: RunFolder, output: Output) -> int:
    """Show the result of a run that is finished; it is not run again."""
    if output.format == "json":
        output.line(to_line([one for one in read_records(folder.events)[0] if one.get("type") == "ended"][-1]))
    else:
        output.result(details(summarise(folder), output), {}, str(folder.path))
    return 0
