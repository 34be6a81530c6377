"""What `zao doctor` looks at: each check takes plain values and returns one row. Torch is read about, not imported."""

import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from huggingface_hub import constants

from xiaozao.hub.reach import Reach, hf_place, modelscope_place, pypi_place, reach_all
from xiaozao.machine.hardware import Gpu, Hardware, driver_cuda, look
from xiaozao.runs.launch import try_worker
from xiaozao.store.files import cache, home

Version = tuple[int, int]
PYTHON, TORCH = (3, 11), (2, 9)
WORKER_SECONDS = 120.0
DISK_BAD, DISK_WARN = 2_000_000_000, 20_000_000_000
MEMORY_BAD, MEMORY_WARN = 1_000_000_000, 4_000_000_000
# CUDA builds of torch, newest first: the index, what the driver must speak, the oldest GPU that the build has code for.
BUILDS: tuple[tuple[str, Version, Version], ...] = (
    ("cu130", (13, 0), (7, 5)), ("cu128", (12, 8), (7, 0)), ("cu126", (12, 0), (5, 0)),
)  # fmt: skip
BLACKWELL, NEEDS = (10, 0), (12, 8)  # GPUs that older builds of torch have no code for


@dataclass(frozen=True)
class Check:
    """One row: the texts are doctor.name.<name>, doctor.<key> and doctor.<key>.fix."""

    name: str
    state: Literal["ok", "warn", "bad"]
    key: str
    params: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class TorchBuild:
    """The installed torch, by its metadata: version, and the CUDA it was built for."""

    version: str
    cuda: Version | None


def check_machine(offline: bool, seconds: float) -> list[Check]:
    """All checks, in the order in which trouble usually comes."""
    hardware = look()
    torch = torch_build()
    driver = driver_cuda()
    places = {"home": home(), "cache": cache(), "hub": Path(constants.HF_HUB_CACHE), "here": Path.cwd(),
              "python": Path(sys.prefix)}  # fmt: skip
    checks = [
        check_python(sys.version_info[:2], sys.maxsize > 2**32),
        check_torch(torch),
        *([check_worker(try_worker(WORKER_SECONDS))] if torch else []),
        *check_gpus(hardware.gpus, torch, driver, idle_card(Path("/sys/bus/pci/devices"))),
        check_bf16(hardware),
        check_memory(hardware.memory_available, hardware.memory_total),
        *(check_disk(name, places[name], hardware.disk_free(places[name])) for name in ("home", "hub")),
        check_home(home()),
        check_links(home()),
        check_paths(places, os.name == "nt" or sys.getfilesystemencoding() != "utf-8"),
        check_kernels(importlib.util.find_spec("kernels") is not None),
        check_pip(importlib.util.find_spec("pip") is not None),
    ]
    if offline:
        return [*checks, Check("hubs", "ok", "hubs_skipped")]
    return [*checks, *check_hubs(reach_all((hf_place(), modelscope_place(), pypi_place()), seconds))]


def torch_build() -> TorchBuild | None:
    """The installed torch, read but not imported: that takes seconds, and a broken torch would end the doctor."""
    try:
        installed = version("torch")
    except PackageNotFoundError:
        return None
    spec = importlib.util.find_spec("torch")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    file = Path(folders[0]) / "version.py" if folders else Path("version.py")
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return TorchBuild(installed, cuda_in(text))


def cuda_in(text: str) -> Version | None:
    """The CUDA version in the text of torch/version.py; None for a CPU build."""
    number = re.search(r"^cuda\b[^=\n]*=\s*['\"](\d+)\.(\d+)", text, re.MULTILINE)
    return (int(number[1]), int(number[2])) if number else None


def wheel_index(driver: Version | None, gpus: Sequence[Gpu]) -> str:
    """Which build of torch fits driver and GPUs: cu130, cu128, cu126, or cpu."""
    oldest = min((gpu.compute_capability or (7, 5) for gpu in gpus), default=None)
    if driver is None or oldest is None:
        return "cpu"
    return next((name for name, needs, least in BUILDS if driver >= needs and oldest >= least), "cpu")


def check_python(running: Version, is_64_bit: bool) -> Check:
    params: dict[str, object] = {"found": ".".join(map(str, running)), "least": ".".join(map(str, PYTHON))}
    good = running >= PYTHON and is_64_bit
    return Check("python", "ok" if good else "bad", "python" if good else "python_old", params)


def check_worker(failed: str) -> Check:
    """Check that a worker process can import torch: it gets only a part of this process's environment."""
    if failed:
        return Check("worker", "bad", "worker_dies", {"detail": failed, "python": sys.executable})
    return Check("worker", "ok", "worker")


def check_torch(torch: TorchBuild | None) -> Check:
    if torch is None:
        return Check("torch", "bad", "torch_missing", {"python": sys.executable})
    cuda = "CUDA " + ".".join(map(str, torch.cuda)) if torch.cuda else "CPU"
    params: dict[str, object] = {"found": torch.version, "build": cuda, "least": ".".join(map(str, TORCH))}
    numbers = re.match(r"(\d+)\.(\d+)", torch.version)
    if numbers and (int(numbers[1]), int(numbers[2])) < TORCH:
        return Check("torch", "bad", "torch_old", {**params, "python": sys.executable})
    return Check("torch", "ok", "torch", params)


def check_gpus(gpus: Sequence[Gpu], torch: TorchBuild | None, driver: Version | None, idle: bool) -> list[Check]:
    """A row per GPU: is there a driver, is torch built for it, and for this GPU?"""
    if not gpus:
        return [Check("gpu", "warn", "gpu_without_driver") if idle else Check("gpu", "ok", "gpu_none")]
    return [_check_gpu(gpu, gpus, torch, driver) for gpu in gpus]


def _check_gpu(gpu: Gpu, gpus: Sequence[Gpu], torch: TorchBuild | None, driver: Version | None) -> Check:
    index = wheel_index(driver, gpus)
    params: dict[str, object] = {
        "gpu": gpu.name, "memory": f"{gpu.memory_total / 1e9:.1f}", "free": f"{gpu.memory_free / 1e9:.1f}",
        "driver": gpu.driver, "speaks": ".".join(map(str, driver or ())), "index": index, "python": sys.executable,
        "built": ".".join(map(str, torch.cuda)) if torch and torch.cuda else "CPU",
    }  # fmt: skip
    if index == "cpu":
        return Check("gpu", "bad", "driver_too_old", params)
    if torch is None or torch.cuda is None:
        return Check("gpu", "bad", "torch_without_cuda", params)
    if driver is not None and driver[0] < torch.cuda[0]:
        return Check("gpu", "bad", "driver_older_than_torch", params)
    oldest = next((least for _, cuda, least in BUILDS if torch.cuda >= cuda), (5, 0))
    capability = gpu.compute_capability or oldest
    if capability < oldest or (capability >= BLACKWELL and torch.cuda < NEEDS):
        return Check("gpu", "bad", "gpu_not_in_torch", params)
    return Check("gpu", "warn" if driver and driver < torch.cuda else "ok", "gpu", params)


def idle_card(devices: Path) -> bool:
    """Whether an NVIDIA display device is plugged in (Linux only). With a working driver, NVML would have listed it."""
    for device in devices.glob("*"):
        try:
            vendor, kind = ((device / name).read_text(encoding="ascii").strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def check_bf16(hardware: Hardware) -> Check:
    if hardware.gpus:
        weak = next((gpu for gpu in hardware.gpus if not gpu.bf16), None)
        return Check("bf16", "warn", "bf16_gpu", {"gpu": weak.name}) if weak else Check("bf16", "ok", "bf16")
    return Check("bf16", "ok", "bf16") if hardware.fast_bf16 else Check("bf16", "warn", "bf16_cpu")


def check_memory(available: int, total: int) -> Check:
    params: dict[str, object] = {"available": f"{available / 1e9:.1f}", "total": f"{total / 1e9:.1f}"}
    if available >= MEMORY_WARN:
        return Check("memory", "ok", "memory", params)
    return Check("memory", "bad" if available < MEMORY_BAD else "warn", "memory_little", params)


def check_disk(name: str, path: Path, free: int) -> Check:
    params: dict[str, object] = {"path": path, "free": f"{free / 1e9:.1f}"}
    if free >= DISK_WARN:
        return Check(f"disk_{name}", "ok", "disk", params)
    return Check(f"disk_{name}", "bad" if free < DISK_BAD else "warn", "disk_little", params)


def check_home(path: Path) -> Check:
    """Check that the folder of runs can be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        return Check("home", "bad", "home_unwritable", {"path": path, "detail": error.strerror or str(error)})
    return Check("home", "ok", "home", {"path": path})


def check_links(path: Path) -> Check:
    """Check for symbolic links. Without them the hub's cache keeps a copy of each file per revision."""
    try:
        with tempfile.TemporaryDirectory(dir=path) as folder:
            (Path(folder) / "link").symlink_to("target")
    except (OSError, NotImplementedError):
        return Check("links", "warn", "links_missing")
    return Check("links", "ok", "links")


def check_paths(places: Mapping[str, Path], fragile: bool) -> Check:
    """Check for paths beyond ASCII. On Windows some native libraries still open files by the system's code page."""
    odd = [str(path) for path in places.values() if not str(path).isascii()]
    if not odd:
        return Check("paths", "ok", "paths")
    state: Literal["ok", "warn"] = "warn" if fragile else "ok"
    return Check("paths", state, "paths_odd" if fragile else "paths_odd_fine", {"paths": ", ".join(dict.fromkeys(odd))})


def check_kernels(present: bool) -> Check:
    return (
        Check("kernels", "warn", "kernels", {"python": sys.executable})
        if present
        else Check("kernels", "ok", "no_kernels")
    )


def check_pip(present: bool) -> Check:
    return Check("pip", "ok", "pip") if present else Check("pip", "warn", "pip_missing", {"python": sys.executable})


def check_hubs(reached: Sequence[Reach]) -> list[Check]:
    """Check the hubs.

    One unreachable hub is a hint to use the other; if none can be reached, the fix is a proxy or a folder.
    """
    kinds: tuple[str, ...] = ("hf", "modelscope", "pypi")
    none, models = not any(one.ok for one in reached), any(one.ok for one in reached[:2])
    rows = []
    for kind, hub in zip(kinds, reached, strict=True):
        params: dict[str, object] = {"host": hub.name, "seconds": f"{hub.seconds:.1f}", "detail": hub.detail}
        state: Literal["bad", "warn"] = "bad" if none else "warn"
        key = f"hub_{kind}" if models or kind == "pypi" else "hub_no_models"
        rows.append(Check(kind, "ok", "hub", params) if hub.ok else Check(kind, state, key, params))
    return rows
