"""The models that are already on this disk: list them with their sizes, or remove one."""

import importlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from xiaozao.errors import UsageError
from xiaozao.hub.conversions import conversions
from xiaozao.hub.folder import is_complete
from xiaozao.hub.hubs import has_modelscope
from xiaozao.hub.jsonfile import strict_json


@dataclass(frozen=True)
class CachedModel:
    """One model in a cache. path: the folder to load, None if incomplete. root: the folder that a removal removes."""

    name: str
    origin: str  # "hf" | "modelscope" | "gguf" | "pypi"
    root: Path
    path: Path | None
    bytes: int
    commit: str | None


def cached_models(cache: Path) -> list[CachedModel]:
    """All models in the hubs' caches and in ours."""
    return [*_hf(), *_modelscope(), *_converted(cache)]


def remove_model(model: CachedModel, cache: Path) -> None:
    """Remove one model from its cache.

    Removes the whole folder of the repository. The hub's client deletes by commit, and would also delete another
    repository that has the same commit.
    """
    root = model.root.parent if model.origin in ("hf", "modelscope") else conversions(cache)
    remove_tree(model.root, root)


def remove_tree(path: Path, root: Path) -> None:
    """Remove a folder that lies below `root`; links inside are removed, never followed. Raises UsageError elsewhere."""
    if path.is_symlink() or path.resolve() == root.resolve() or not path.resolve().is_relative_to(root.resolve()):
        raise UsageError("not_ours", path=path)
    if path.is_dir():
        shutil.rmtree(path)


def folder_bytes(path: Path) -> int:
    """Bytes of all files below; links count as nothing, a file that is there twice by hard link counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                status = os.lstat(os.path.join(folder, name))
            except OSError:  # removed while we look
                continue
            if stat.S_ISREG(status.st_mode) and (status.st_nlink == 1 or (status.st_dev, status.st_ino) not in seen):
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total


def _hf() -> Iterator[CachedModel]:
    try:
        info = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return
    for repo in sorted(info.repos, key=lambda one: one.repo_id):
        if repo.repo_type != "model":
            continue
        newest = max(repo.revisions, key=lambda one: one.last_modified, default=None)
        path = newest.snapshot_path if newest and is_complete(newest.snapshot_path) else None
        commit = newest.commit_hash if newest else None
        yield CachedModel(repo.repo_id, "hf", repo.repo_path, path, folder_bytes(repo.repo_path), commit)


def _modelscope() -> Iterator[CachedModel]:
    if not has_modelscope():
        return
    hub = importlib.import_module("modelscope_hub")
    for repo in hub.HubApi().scan_cache().repos:
        if "model" not in str(repo.repo_type).lower() or not repo.local_path:
            continue
        root = Path(repo.local_path)
        folders = [path.parent for path in sorted(root.rglob("config.json")) if is_complete(path.parent)]
        path = folders[-1] if folders else None
        yield CachedModel(repo.repo_id, "modelscope", root, path, folder_bytes(root), repo.revision)


def _converted(cache: Path) -> Iterator[CachedModel]:
    for path in sorted(conversions(cache).glob("[!.]*")):
        if path.is_symlink() or not path.is_dir():
            continue
        origin = _origin(path / "source.json")
        kind = "pypi" if origin.get("origin") == "pypi" else "gguf"
        whole = path if is_complete(path) else None
        yield CachedModel(origin.get("name", path.name), kind, path, whole, folder_bytes(path), origin.get("sha256"))


def _origin(path: Path) -> dict[str, str]:
    """What conversions.py wrote of a folder; nothing where the file is gone."""
    try:
        source = strict_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in source.items() if isinstance(value, str)} if isinstance(source, dict) else {}
