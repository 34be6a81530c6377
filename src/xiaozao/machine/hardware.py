"""This machine's cores, memory, disk and GPUs, and how much of each is free now. Imports no torch and never raises."""

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import pynvml

FAST_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
IDLE_SECONDS = 0.5  # over which it is looked at what other programs take
CGROUP, PROC = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU; bytes. `compute_capability` is (8, 6), or None where the driver does not say."""

    name: str
    memory_total: int
    memory_free: int
    driver: str
    compute_capability: tuple[int, int] | None

    @property
    def bf16(self) -> bool:
        """Whether it computes in bf16 natively (Ampere and later)."""
        return self.compute_capability is not None and self.compute_capability >= (8, 0)


@dataclass(frozen=True)
class Hardware:
    """The machine, or the share of it that a container is given; bytes."""

    cores: int
    memory_total: int
    memory_available: int
    gpus: tuple[Gpu, ...]
    fast_bf16: bool

    def disk_free(self, path: Path) -> int:
        """Free bytes where `path` is or would be."""
        path = path.absolute()
        while not path.exists() and path != path.parent:
            path = path.parent
        return shutil.disk_usage(path).free

    def device(self, asked: str) -> Literal["cpu", "cuda"]:
        """The requested device, "cpu" or "cuda"; for "auto", cuda if there is a GPU."""
        return "cuda" if asked == "cuda" or (asked == "auto" and self.gpus) else "cpu"

    def precision(self, device: str, weights: str = "fp32") -> Literal["bf16", "fp16", "fp32"]:
        """The dtype for precision=auto: the fastest that trains well, or bf16 if the weights are trained in it.

        A GPU that is not here is assumed to support bf16.
        """
        if weights == "bf16":
            return "bf16"
        if device == "cuda":
            return "bf16" if not self.gpus or self.gpus[0].bf16 else "fp16"
        return "bf16" if self.fast_bf16 else "fp32"

    def free(self, device: str) -> int:
        """The memory that a run may take without a budget: what is free now; 0 for a GPU that is not here."""
        if device == "cpu":
            return self.memory_available
        return self.gpus[0].memory_free if self.gpus else 0


def look() -> Hardware:
    """Inspect the machine and return its present state."""
    memory = psutil.virtual_memory()
    limit, used = memory_limit(CGROUP, PROC)
    total = min(memory.total, limit)
    return Hardware(cores(), total, max(0, min(memory.available, total - used)), gpus(), fast_bf16())


def cores() -> int:
    """Cores this process may use: physical ones, by affinity and by the container's quota."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or available
    return max(1, min(available, physical, cpu_quota(CGROUP, PROC)))


def idle_cores(seconds: float = IDLE_SECONDS) -> int:
    """The cores that other programs leave free, measured over so many seconds while this process waits; at least 1."""
    shares = psutil.cpu_percent(seconds, percpu=True)
    ours = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(len(shares))
    busy = sum(shares[core] for core in ours if core < len(shares)) / 100
    return max(1, min(cores(), round(len(ours) - busy)))


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The model of the processor, as far as the system tells."""
    named = [line.partition(":")[2].strip() for line in _text(cpuinfo).splitlines() if line.startswith("model name")]
    return named[0] if named else f"{platform.machine()} {platform.processor()}"


def own_cgroup(proc: Path, controller: str = "") -> str:
    """The path of our control group below its root: of version 2, or of a controller of version 1."""
    for line in _text(proc).splitlines():
        _, name, path = line.split(":", 2)
        if name == controller:
            return path.strip("/")
    return ""


def memory_limit(root: Path, proc: Path) -> tuple[int, int]:
    """The smallest memory limit of our control group and its parents, and how much of it is used (without caches).

    Both versions of Linux control groups; (2^63, 0) where there is no limit.
    """
    limit, used = 2**63, 0
    for folder in _upwards(root, own_cgroup(proc)):
        stated = _number(folder / "memory.max")
        if stated is not None and stated < limit:
            limit, used = stated, _used(folder, "memory.current", "inactive_file ")
    for folder in _upwards(root / "memory", own_cgroup(proc, "memory")):
        stated = _number(folder / "memory.limit_in_bytes")
        if stated is not None and stated < min(limit, 2**60):  # version 1 writes a huge number for no limit
            limit, used = stated, _used(folder, "memory.usage_in_bytes", "total_inactive_file ")
    return limit, used


def cpu_quota(root: Path, proc: Path) -> int:
    """The cores that the CPU quotas of our control group and its parents allow, rounded up."""
    allowed = 2**31
    for folder in _upwards(root, own_cgroup(proc)):
        quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            allowed = min(allowed, -(-int(quota) // int(period)))
    return allowed


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs; none where there is no driver or it does not answer."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        driver = _string(pynvml.nvmlSystemGetDriverVersion())
        return tuple(_gpu(index, driver) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA version that the NVIDIA driver can run; None without a driver."""
    try:
        pynvml.nvmlInit()
        version = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
    return version // 1000, version % 1000 // 10


def fast_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has instructions for products in bf16. Windows does not say, which counts as no.

    Whether they are fast is measured (measure/fastest.py)."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    for line in _text(cpuinfo).splitlines():
        if line.startswith("flags"):
            return bool(FAST_BF16_FLAGS & set(line.split()))
    return False


def _gpu(index: int, driver: str) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        capability = (int(major), int(minor))
    except pynvml.NVMLError:
        capability = None
    return Gpu(_string(pynvml.nvmlDeviceGetName(handle)), int(memory.total), int(memory.free), driver, capability)


def _string(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _upwards(root: Path, group: str) -> list[Path]:
    """Our control group's folder and all above it; a container sees its own as the root."""
    folder = root / group
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def _used(folder: Path, current: str, droppable: str) -> int:
    lines = _text(folder / "memory.stat").splitlines()
    cached = next((int(line.split()[1]) for line in lines if line.startswith(droppable)), 0)
    return max(0, (_number(folder / current) or 0) - cached)


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
