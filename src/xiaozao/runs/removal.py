"""Removes a run that is over: its folder, or only our files if the folder holds others."""

import shutil
from pathlib import Path

from xiaozao.errors import Busy, NotFound
from xiaozao.store.files import RunFolder, home
from xiaozao.store.lock import holder
from xiaozao.store.runs import find_run, forget, known_folders

# What a run and an export write into a run's folder; beside them a name that only begins like one of these
# (events.jsonl.damaged, lock.4711.tmp), or with a dot.
OURS = (
    "spec", "resolved", "events", "worker", "lock", "stop", "checkpoints", "reference", "track", "adapter", "model",
    "report", "blind", "merged", "evaluations", "",
)  # fmt: skip


def remove_run(folder: RunFolder) -> list[str]:
    """Remove a run; returns the names of what is not ours and stays. Links are removed, never followed.

    Raises Busy while a worker holds the run, NotFound where nothing ever ran.
    """
    pid = holder(folder)
    if pid is not None:
        raise Busy("run_alive", name=folder.name, pid=pid)
    own = folder.path.parent.resolve() == (home() / "runs").resolve() and not folder.path.is_symlink()
    if not folder.events.is_file() and folder.path not in known_folders():  # somebody else's spec.yaml
        raise NotFound("run", name=folder.name)
    entries = sorted(folder.path.iterdir(), key=lambda path: path == folder.spec)  # last, what makes it a run
    kept = [path.name for path in entries if not own and path.name.partition(".")[0] not in OURS]
    for path in entries:
        if path.name not in kept:
            _remove(path)
    if not kept:
        _remove(folder.path)
    forget(folder.path)
    return kept


def forget_missing(name: str) -> Path | None:
    """Forget a run by name or path whose folder is gone; None where it is there, or was never known."""
    try:
        find_run(name)
    except NotFound:
        wanted = Path(name).expanduser().absolute()
        gone = [path for path in known_folders() if not path.is_dir() and (path == wanted or path.name == name)]
        for path in gone:
            forget(path)
        return gone[0] if gone else None
    return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
