"""Changes options of a run that is resumed: any before the first step, later only those that change no result.

Nothing was learned while there is neither a step in the journal nor a checkpoint. Then the run begins anew in its
folder: its journal is set aside, and what was decided, prepared and answered under the other options is removed.
"""

import shutil
from collections.abc import Mapping
from typing import Any

from xiaozao.errors import UsageError
from xiaozao.spec.run import FREE, RunSpec, read_file
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import read_records

LATER = tuple(sorted(FREE - {"output"} | {"devices"}))  # may change at any time


def has_learned(folder: RunFolder) -> bool:
    """Whether a run has made a step or has a checkpoint."""
    if folder.checkpoints.is_dir() and any(folder.checkpoints.iterdir()):
        return True
    return any(record.get("type") == "step" for record in read_records(folder.events)[0])


def change(folder: RunFolder, name: str, changed: Mapping[str, Any]) -> None:
    """Write changed options into a run that is to go on. Raises UsageError for what may no longer change.

    The number of devices is not written: it is that of one session (runs/launch.py).
    """
    options = {option: value for option, value in changed.items() if option != "devices"}
    learned = has_learned(folder)
    refused = sorted(options.keys() & {"output"} if not learned else options.keys() - set(LATER))
    if refused:
        params = {"name": name, "given": ", ".join(refused), "allowed": ", ".join(LATER)}
        raise UsageError("resume_output" if refused == ["output"] else "resume_alone", (), **params)
    if not options:
        return
    for path in (folder.spec, folder.resolved):
        if path.is_file():
            spec = RunSpec.from_options({**read_file(path), **options})
            path.write_text(spec.to_yaml(), encoding="utf-8")
    if not learned:
        _begin_anew(folder)


def _begin_anew(folder: RunFolder) -> None:
    folder.resolved.unlink(missing_ok=True)
    for path in (folder.reference, folder.report):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
    if folder.events.is_file():
        number = 1
        while (aside := folder.events.with_suffix(f".{number}.jsonl")).exists():
            number += 1
        folder.events.rename(aside)
