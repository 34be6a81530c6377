"""Writes and reads folders of tensors atomically: checkpoints, adapters, exports are complete or absent.

    step-00000012.partial/   1. every file is written and synced   2. manifest.json, last   3. the folder is synced
    step-00000012/           4. takes its name   5. the parent is synced   - only now is it saved
    step-00000012.aside/     a folder of that name that was there before, until 5
    step-00000012.trash/     being removed: a half-removed folder never has a checkpoint's name

manifest.json holds size and SHA-256 of every file. A folder without a valid one is not a checkpoint, whatever its name.
Nothing is read but safetensors and JSON, and nothing in a folder knows where it lies, so that it can be copied.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from xiaozao.errors import ArtefactError, EnvironmentProblem, TrainingError
from xiaozao.models.artefacts.disk import DISK, Disk, disk_errors
from xiaozao.models.artefacts.manifest import MANIFEST, check_files, read_manifest, read_mapping, write_manifest

PARTIAL, ASIDE, TRASH = ".partial", ".aside", ".trash"
STEP = re.compile(r"step-(\d{8,})")
LEFTOVER = re.compile(rf"({STEP.pattern})\.(?:partial|aside|trash)")
MARGIN = 1.2  # free space asked for, over the estimate: file systems keep some to themselves
CHUNK = 1 << 22  # elements looked at together, so that the check of a large tensor needs little memory

Tensors = Mapping[str, torch.Tensor]


class Store(Protocol):
    """The interface of a store for tensors that are on disk and not in memory (loading/trainstore.py)."""

    def leave(self, tensors: Iterable[torch.Tensor], /) -> None:
        """Release these tensors from memory; tensors of other stores are ignored."""


@dataclass(frozen=True)
class Found:
    """The newest complete checkpoint, and the newer ones that were rejected."""

    folder: Path | None
    rejected: tuple[tuple[Path, ArtefactError], ...]


def step_folder(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return checkpoints / f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """The step in the name of a checkpoint."""
    match = STEP.fullmatch(folder.name)
    if match is None:
        raise ValueError(folder.name)
    return int(match[1])


def write_folder(
    target: Path,
    tensors: Mapping[str, Tensors],
    documents: Mapping[str, Mapping[str, object]],
    disk: Disk = DISK,
    store: Store | None = None,
    more: Callable[[Path], object] = lambda folder: None,
) -> int:
    """Write `<name>.safetensors` and `<name>.json` files as one whole folder; return its size in bytes.

    store: where tensors lie that are not in memory; of those a piece at a time is. more: writes further plain files.

    Raises TrainingError, before anything is touched, where a tensor is not finite; EnvironmentProblem where the disk
    refuses. In both cases what was there before is still there.
    """
    for name, group in tensors.items():
        _check_finite(target, f"{name}.safetensors", group, store)
    texts = {name: json.dumps(one, ensure_ascii=False, allow_nan=False).encode() for name, one in documents.items()}
    needed = sum(len(text) for text in texts.values())
    needed += sum(tensor.nbytes for group in tensors.values() for tensor in group.values())
    with staged_folder(target, needed, disk) as staging:
        for name, group in tensors.items():
            if store is None:
                disk.write_tensors(staging / f"{name}.safetensors", group)
            else:
                disk.write_pieces(staging / f"{name}.safetensors", group, partial(_pieces, store, group))
        for name, text in texts.items():
            disk.write_bytes(staging / f"{name}.json", text)
        more(staging)
    return sum(path.stat().st_size for path in target.iterdir())


def _pieces(store: Store, group: Tensors, name: str) -> Iterator[torch.Tensor]:
    """A tensor in flat pieces, each out of memory before the next is looked at."""
    for piece in group[name].detach().reshape(-1).split(CHUNK):
        yield piece
        store.leave([piece])


@contextmanager
def staged_folder(target: Path, needed: int = 0, disk: Disk = DISK) -> Iterator[Path]:
    """Yield an empty folder to write plain files into; afterwards it is `target`, complete and on disk, or gone.

    `needed` is the estimate in bytes that free space is checked against. Raises EnvironmentProblem.
    """
    staging = _beside(target, PARTIAL)
    with disk_errors(target, disk, needed):
        _make_parent(target.parent, disk)
        recover(target, disk)
        free = disk.free_bytes(target.parent)
        if free < needed * MARGIN:
            raise EnvironmentProblem("disk_space", path=target, needed=int(needed * MARGIN), free=free)
        try:
            disk.make_folder(staging)
            yield staging
            write_manifest(staging, disk)
            _share(staging)
            _swap_in(staging, target, disk)
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell; a leftover is swept at the next start
                disk.remove(staging)
            raise


def _share(folder: Path) -> None:
    """Give all files the permissions of the manifest: safetensors makes files that only their owner can read."""
    mode = (folder / MANIFEST).stat().st_mode & 0o777
    for path in folder.iterdir():
        if path.is_file() and path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)


def recover(target: Path, disk: Disk = DISK) -> None:
    """Clear what a crash left beside `target`: half-written and half-removed folders go, the one set aside returns.

    Only for the process that owns the folder: it would take away what another is writing.
    """
    disk.remove(_beside(target, PARTIAL))
    disk.remove(_beside(target, TRASH))
    aside = _beside(target, ASIDE)
    if not aside.exists():
        return
    if target.exists() and (_whole(target) or not _whole(aside)):
        disk.remove(aside)
        return
    if target.exists():
        discard(target, disk)
    disk.rename(aside, target)
    disk.sync_folder(target.parent)


def verify(folder: Path) -> None:
    """Raise ArtefactError that names the file, unless every file of the manifest is there, bit for bit.

    Files that the manifest does not list are ignored; links and special files are refused.
    """
    check_files(folder, read_manifest(folder))


class Reader(Mapping[str, torch.Tensor]):
    """Reads the tensors of a file on demand, each into new memory. Nothing is cached."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self.file, self.names = path, file, tuple(file.keys())

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self.names:
            raise KeyError(name)
        with _reading(self.path):
            tensor: torch.Tensor = self.file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@contextmanager
def open_tensors(folder: Path, name: str) -> Iterator[Reader]:
    """The tensors of `<name>.safetensors`, of a folder that was verified, to be read one at a time."""
    path = _listed(folder, f"{name}.safetensors")
    with ExitStack() as stack:
        with _reading(path):
            # Read rather than mapped: pages of a mapped file count in the resident set until it is closed.
            file = stack.enter_context(safe_open(path, framework="pt", backend="pread"))
        yield Reader(path, file)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise ArtefactError("checkpoint_unreadable", folder=path.parent, file=path.name, detail=error) from None


def read_tensors(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """All of them at once."""
    with open_tensors(folder, name) as tensors:
        return dict(tensors)


def read_document(folder: Path, name: str) -> dict[str, Any]:
    """The mapping in `<name>.json`, of a folder that was verified."""
    path = _listed(folder, f"{name}.json")
    try:
        return read_mapping(path)
    except (ValueError, RecursionError, OSError) as error:
        raise ArtefactError("checkpoint_unreadable", folder=folder, file=path.name, detail=error) from None


def newest(checkpoints: Path, sweep: bool = True, disk: Disk = DISK) -> Found:
    """The newest whole checkpoint, with the newer ones that were rejected, newest first.

    `sweep` clears what a crash left; a process that does not own the run must leave it off.
    """
    if sweep and checkpoints.is_dir():
        for name in sorted(
            {leftover[1] for path in checkpoints.iterdir() if (leftover := LEFTOVER.fullmatch(path.name))}
        ):
            with disk_errors(checkpoints / name, disk, 0):
                recover(checkpoints / name, disk)
    rejected: list[tuple[Path, ArtefactError]] = []
    for folder in _steps(checkpoints):
        try:
            verify(folder)
        except ArtefactError as error:
            rejected.append((folder, error))
        else:
            return Found(folder, tuple(rejected))
    return Found(None, tuple(rejected))


def rotate(checkpoints: Path, keep: int, protect: frozenset[Path], disk: Disk = DISK) -> None:
    """Keep the newest `keep` whole checkpoints and the protected ones; remove the others, damaged ones too.

    Without one whole checkpoint nothing is removed. What cannot be removed now is tried again at the next rotation.
    """
    kept: list[Path] = []
    spare: list[Path] = []
    safe = {path.resolve() for path in protect}
    for folder in _steps(checkpoints):
        if len(kept) < keep and _whole(folder):
            kept.append(folder)
        elif folder.resolve() not in safe:
            spare.append(folder)
    for folder in reversed(spare) if kept else ():
        with suppress(OSError):  # the save has succeeded; a scanner that holds an old file must not end the run
            discard(folder, disk)


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _make_parent(parent: Path, disk: Disk) -> None:
    """A new folder's own name must be certain too, or all that is saved in it goes with it."""
    if not parent.is_dir():
        disk.make_folder(parent)
        disk.sync_folder(parent.parent)


def _swap_in(staging: Path, target: Path, disk: Disk) -> None:
    aside = _beside(target, ASIDE)
    replaces = target.exists()
    if replaces:
        disk.rename(target, aside)
    try:
        disk.rename(staging, target)
    except BaseException:
        if replaces:
            disk.rename(aside, target)
        raise
    disk.sync_folder(target.parent)
    if replaces:
        with suppress(OSError):  # the new one is safe; the old one is swept at the next start
            disk.remove(aside)


def discard(folder: Path, disk: Disk = DISK) -> None:
    """Remove a whole folder.

    The folder is first renamed and the new name synced to disk. Only then are its files deleted: otherwise a power cut
    could leave a half-deleted folder that looks like a checkpoint.
    """
    trash = _beside(folder, TRASH)
    disk.remove(trash)
    disk.rename(folder, trash)
    disk.sync_folder(folder.parent)
    disk.remove(trash)


def _steps(checkpoints: Path) -> list[Path]:
    """Everything with a checkpoint's name, newest first."""
    if not checkpoints.is_dir():
        return []
    return sorted((path for path in checkpoints.iterdir() if STEP.fullmatch(path.name)), key=step_of, reverse=True)


def _whole(folder: Path) -> bool:
    try:
        verify(folder)
    except ArtefactError:
        return False
    return True


def _check_finite(target: Path, file: str, tensors: Tensors, store: Store | None = None) -> None:
    for name, tensor in tensors.items():
        finite = not tensor.is_floating_point() or _finite(tensor)
        if store is not None:
            store.leave([tensor])
        if not finite:
            raise TrainingError("checkpoint_not_finite", folder=target, file=file, tensor=name)


def _finite(tensor: torch.Tensor) -> bool:
    flat = tensor.detach().reshape(-1)
    return all(bool(flat[at : at + CHUNK].isfinite().all()) for at in range(0, flat.numel(), CHUNK))


def _listed(folder: Path, name: str) -> Path:
    """A file that the manifest vouches for."""
    if name not in read_manifest(folder):
        raise ArtefactError("checkpoint_missing", folder=folder, file=name)
    return folder / name
