"""Checks a model folder before anything loads it: complete, plain data, and no code or kernels named in its config.

Nothing here imports torch or runs what it reads, and a pickle is never opened. transformers obeys some keys of a
config.json (code to fetch, kernels to load); `read_config` drops those and keeps what describes the model.
"""

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from xiaozao.errors import ArtefactError, NotFound
from xiaozao.hub.bounds import check_sizes, check_weights
from xiaozao.hub.jsonfile import open_regular, read_object, shown, wrong
from xiaozao.hub.tensorfile import TENSORS_LIMIT, StoredTensor, kind_of, read_header

CONFIG, INDEX, WEIGHTS, TOKENIZER = "config.json", "model.safetensors.index.json", "model.safetensors", "tokenizer.json"
# Keys that make transformers fetch or run something, or that pass for arguments of its constructors.
ORDERS = {
    "auto_map",
    "trust_remote_code",
    "code_revision",
    "use_kernels",
    "kernel_config",
    "self",
    "cls",
    "args",
    "kwargs",
}
ORDER = re.compile(r"_.*|.*_implementation(_internal)?")
# Private keys that transformers itself writes; dropped like the others, but not worth a notice.
USUAL = {"_name_or_path", "_model_name_or_path", "_commit_hash", "_attn_implementation_autoset", "_from_model_config"}
NAMES_OF_FILES = {"vocab_file", "merges_file", "tokenizer_file", "chat_template_file", "base_model_name_or_path"}
SUFFIX = ".safetensors"
LONGEST_NAME = 200  # characters; systems allow 255 bytes
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}


@dataclass(frozen=True)
class ModelConfig:
    """config.json without the keys that load code. `stripped`: the paths of dropped keys that deserve a notice."""

    values: dict[str, Any]
    stripped: tuple[str, ...]


def read_config(folder: Path) -> ModelConfig:
    """Read config.json. Raises NotFound, or ArtefactError for a file that is no config."""
    path = folder / CONFIG
    if not path.exists():
        raise NotFound("no_config", folder=folder)
    values = read_object(path)
    stripped: list[str] = []
    values = _without_orders(values, "", stripped)
    if not isinstance(values.get("model_type"), str):
        raise wrong(path, "no_model_type")
    check_sizes(path, values)
    return ModelConfig(values, tuple(name for name in stripped if name.rsplit(".", 1)[-1] not in USUAL))


def check_folder(folder: Path) -> None:
    """Refuse a folder that is not whole or not plain data.

    Raises NotFound where there is no model, ArtefactError naming the file otherwise. Reads headers, not tensors.
    """
    if not folder.is_dir():
        raise NotFound("model_folder", folder=folder)
    root = _root(folder)
    for path in sorted(folder.iterdir()):
        _check_entry(path, root)
    if (folder / "adapter_config.json").exists():
        raise ArtefactError("adapter_not_model", folder=folder)
    for name in (CONFIG, "tokenizer_config.json", "generation_config.json"):
        if (folder / name).exists():
            _check_names(folder / name, read_object(folder / name))
    read_config(folder)
    tensors(folder)


def check_loadable(folder: Path) -> None:
    """check_folder, and check that the weights can be those of config.json. Raises what check_folder raises."""
    check_folder(folder)
    stored = tensors(folder)
    check_weights(folder / CONFIG, read_config(folder).values, len(stored), sum(one.count for one in stored.values()))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the model: one, or the shards of its index. Raises NotFound, ArtefactError."""
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if not index.exists():
        pickles = [path.name for path in sorted(folder.iterdir()) if path.suffix in PICKLES]
        if pickles:
            raise ArtefactError("only_pickle", folder=folder, file=pickles[0])
        raise NotFound("no_weights", folder=folder)
    return [folder / name for name in sorted(set(_weight_map(index).values()))]


def tensors(folder: Path) -> dict[str, StoredTensor]:
    """All stored tensors of the model by name, from the headers of its files."""
    index = folder / INDEX
    expected = _weight_map(index) if index.exists() and not (folder / WEIGHTS).exists() else {}
    stored: dict[str, StoredTensor] = {}
    for path in weight_files(folder):
        if not path.exists():
            raise wrong(index, "shard_missing", file=path.name)
        header = read_header(path)
        twice = next((name for name in header if name in stored), None)
        if twice:
            raise wrong(path, "tensor_twice", name=twice)
        stored |= header
    missing = next((name for name in expected if name not in stored), None)
    if missing:
        raise wrong(index, "tensor_missing", name=missing)
    return stored


def parameter_count(folder: Path) -> int:
    """Stored elements; a head that is tied to the embedding is not stored and not counted."""
    return sum(tensor.count for tensor in tensors(folder).values())


def tensor_bytes(folder: Path) -> int:
    """Bytes of all stored tensors."""
    return sum(tensor.bytes for tensor in tensors(folder).values())


def is_complete(folder: Path) -> bool:
    """Whether config, tokenizer and all weight files are there; says nothing about their contents."""
    if not (folder / CONFIG).is_file() or not (folder / TOKENIZER).is_file():
        return False
    try:
        return all(path.is_file() for path in weight_files(folder))
    except (NotFound, ArtefactError):
        return False


def _root(folder: Path) -> Path:
    """The folder that links may point into: the model folder itself, or in a hub cache the repository's folder."""
    real = _resolved(folder)
    if real.parent.name == "snapshots" and real.parent.parent.name.startswith("models--"):
        return real.parent.parent
    return real


def _check_entry(path: Path, root: Path) -> None:
    if path.is_symlink() and not (target := _resolved(path)).is_relative_to(root):
        raise ArtefactError("link_outside", path=path, target=target)
    try:
        mode = path.stat().st_mode
    except OSError as error:  # a link to nothing, or to itself
        raise ArtefactError("not_a_plain_file", path=path) from error
    if stat.S_ISDIR(mode):
        return
    if not stat.S_ISREG(mode):
        raise ArtefactError("not_a_plain_file", path=path)
    if path.suffix in (".json", ".safetensors"):
        _check_content(path)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise ArtefactError("not_a_plain_file", path=path) from error


def _check_content(path: Path) -> None:
    """Refuse a file whose content is not what its name says (JSON, safetensors)."""
    with open_regular(path) as file:
        start = file.read(512)
    kind = kind_of(start)
    if kind is None and path.suffix == ".json" and start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] not in (b"{", b"["):
        kind = "?"
    if kind:
        raise ArtefactError("artefact_kind", path=path, kind=kind)


def _weight_map(index: Path) -> dict[str, str]:
    """Which file holds which tensor; file names only, nothing that could lead out of the folder."""
    names = read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise wrong(index, "no_weight_map")
    if len(names) > TENSORS_LIMIT:
        raise wrong(index, "tensors_many", count=len(names), limit=TENSORS_LIMIT)
    files: set[str] = set()  # each name is judged once, however many tensors lie in it
    for key, name in names.items():
        if not isinstance(name, str) or (name not in files and not (is_file_name(name) and name.endswith(SUFFIX))):
            raise ArtefactError("unsafe_path", path=index, key=f"weight_map.{key}", value=shown(name))
        files.add(name)
    return names


def is_file_name(name: str) -> bool:
    """A bare name: no folder, drive, NUL or `..` on any system."""
    bare = PurePosixPath(name).name == name and PureWindowsPath(name).name == name
    return bare and name not in ("", ".", "..") and not set(name) & set('\0:*?"<>|') and len(name) <= LONGEST_NAME


def _check_names(path: Path, values: dict[str, Any]) -> None:
    """Values that some reader takes for a path must be bare file names."""
    for key, value in _leaves(values, ""):
        if key.rsplit(".", 1)[-1] in NAMES_OF_FILES and isinstance(value, str) and not is_file_name(value):
            raise ArtefactError("unsafe_path", path=path, key=key, value=shown(value))


def _leaves(values: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else key)
    elif isinstance(values, list):
        for value in values:
            yield from _leaves(value, prefix)
    else:
        yield prefix, values


def _without_orders(values: Any, prefix: str, stripped: list[str]) -> Any:
    if isinstance(values, list):
        return [_without_orders(value, prefix, stripped) for value in values]
    if not isinstance(values, dict):
        return values
    kept = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else key
        if key in ORDERS or ORDER.fullmatch(key):
            stripped.append(name)
        else:
            kept[key] = _without_orders(value, name, stripped)
    return kept
