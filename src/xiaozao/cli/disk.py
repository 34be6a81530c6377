"""`zao disk`: how much space models, runs and caches take, and how to free it. Only our own folders are removed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.models import named
from xiaozao.errors import Busy, NotFound, UsageError
from xiaozao.hub.cached import cached_models, folder_bytes, remove_model, remove_tree
from xiaozao.hub.conversions import conversions
from xiaozao.hub.folder import is_file_name
from xiaozao.machine.hardware import look
from xiaozao.store.files import RunFolder, cache, home
from xiaozao.store.lock import holder
from xiaozao.store.runs import forget, known_folders

# What may be removed at any time and is made again when it is needed: prepared data, models in another form, matrices
# that stream=disk converted, traces of plans, the measured pace of this machine.
CACHES = ("conversions", "data", "streams", "profiles", "rates", "evaluations")


@dataclass(frozen=True)
class Item:
    """Something that takes disk space. `free` is the argument for --free; empty if we may not remove it."""

    kind: str  # "model" | one of CACHES | "run"
    name: str
    path: Path
    bytes: int
    free: str


@dataclass(frozen=True)
class Removal:
    """Something to be removed, and the function that removes it."""

    path: Path
    bytes: int
    act: Callable[[], None]


def runs_folder() -> Path:
    """The folder of all runs that were started without output=."""
    return home() / "runs"


def cache_of(kind: str) -> Path:
    """The folder of one of CACHES."""
    return conversions(cache()) if kind == "conversions" else cache() / kind


def items() -> list[Item]:
    """Everything that takes room: models in the hubs' caches, our own caches, runs, also in the user's own folders."""
    listed = [
        Item("model", f"{one.origin}:{one.name}", one.root, one.bytes, f"models:{one.origin}:{one.name}")
        for one in cached_models(cache())
        if one.origin in ("hf", "modelscope")
    ]
    listed += [Item(kind, kind, cache_of(kind), folder_bytes(cache_of(kind)), kind) for kind in CACHES]
    for path in sorted(runs_folder().glob("*/spec.yaml")):
        listed.append(Item("run", path.parent.name, path.parent, folder_bytes(path.parent), f"runs:{path.parent.name}"))
    ours = runs_folder().resolve()
    for path in sorted({path.resolve() for path in known_folders() if path.is_dir()}):
        if path.parent != ours:
            listed.append(Item("run", str(path), path, folder_bytes(path), ""))
    return listed


def removal(what: str) -> Removal:
    """What `--free WHAT` removes: one of CACHES, runs:NAME or models:NAME. Raises UsageError, NotFound, Busy."""
    kind, _, name = what.partition(":")
    if what in CACHES:
        path = cache_of(what)
        return Removal(path, folder_bytes(path), lambda: remove_tree(path, cache()))
    if kind == "runs" and name:
        return _run(name)
    if kind == "models" and name:
        model = named(name)
        return Removal(model.root, model.bytes, lambda: remove_model(model, cache()))
    raise UsageError("free_what", what=what)


def _run(name: str) -> Removal:
    """The removal of a run below home(). A run in a folder that the user chose is left for the user to remove."""
    folder = RunFolder(runs_folder() / name)
    if not is_file_name(name) or folder.path.is_symlink() or not folder.spec.is_file():
        raise NotFound("run", name=name)
    pid = holder(folder)
    if pid is not None:
        raise Busy("run_busy", name=name, pid=pid)

    def act() -> None:
        remove_tree(folder.path, runs_folder())
        forget(folder.path)

    return Removal(folder.path, folder_bytes(folder.path), act)


def _table(items: Sequence[Item], free_bytes: int, output: Output) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for key in ("size", "what", "free"):
        table.add_column(output.say(f"disk.{key}"), justify="right" if key == "size" else "left", overflow="fold")
    for item in items:
        name = output.say(f"disk.kind.{item.kind}") + (f" {item.name}" if item.kind in ("model", "run") else "")
        table.add_row(gigabytes(item.bytes), name, f"--free {item.free}" if item.free else output.say("disk.yours"))
    total = output.say("disk.total", size=gigabytes(sum(one.bytes for one in items)), free=gigabytes(free_bytes))
    return Group(table, Text(total))


def gigabytes(count: int) -> str:
    """`0.27 GB`; small things in MB."""
    return f"{count / 1e9:.2f} GB" if count >= 10**8 else f"{count / 1e6:.1f} MB"


def _free(wanted: Sequence[str], dry_run: bool, output: Output) -> None:
    removals = [removal(what) for what in wanted]
    lines = [f"{gigabytes(one.bytes):>10}  {one.path}" for one in removals]
    document: dict[str, Any] = {"removed": [{"path": str(one.path), "bytes": one.bytes} for one in removals]}
    if dry_run:
        output.result("\n".join([output.say("disk.would_remove"), *lines]), {**document, "dry_run": True})
        return
    output.hint("\n".join([output.say("disk.will_remove"), *lines]))
    if not output.confirm("disk.confirm"):
        raise UsageError(
            "not_confirmed", command="zao disk " + " ".join(f"--free {what}" for what in wanted) + " --yes"
        )
    for removed in removals:
        removed.act()
    freed = sum(one.bytes for one in removals)
    output.result(output.say("disk.freed", size=gigabytes(freed)), {**document, "dry_run": False})


def work(free: tuple[str, ...], dry_run: bool) -> None:
    output = current_output()
    if free:
        _free(free, dry_run, output)
        return
    listed = items()
    left = look().disk_free(cache())
    rows = [{"kind": one.kind, "name": one.name, "path": str(one.path), "bytes": one.bytes, "free": one.free}
            for one in listed]  # fmt: skip
    document = {"items": rows, "bytes": sum(one.bytes for one in listed), "disk_free_bytes": left}
    output.result(_table(listed, left, output), document)
