"""Starts a worker: a process of its own that outlives its parent and inherits nothing it does not need."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from xiaozao.spec.run import RunSpec, read_file
from xiaozao.store.files import RunFolder, refuse_links

MODULE = "xiaozao.worker.main"  # what a worker runs; of several, each of them
EVALUATION = "xiaozao.worker.evaluator"

# Allowed by name or by prefix. Not PYTHONPATH, PYTHONSTARTUP or LD_PRELOAD: what runs in the worker is what is
# installed; and no credentials of services that the worker never talks to. Where the libraries of the interpreter lie
# is kept: a Python of environment modules, Nix or conda does not start without.
ALLOWED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "TEMP", "TMP", "TMPDIR", "LANG", "LANGUAGE",
    "USERPROFILE", "USERNAME", "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "LOCALAPPDATA", "APPDATA",
    "PROGRAMDATA", "PROGRAMFILES", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE", "USE_MODELSCOPE_HUB",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "DYLD_FRAMEWORK_PATH",
    "DYLD_FALLBACK_FRAMEWORK_PATH", "NIX_LD", "NIX_LD_LIBRARY_PATH", "LOCALE_ARCHIVE", "CONDA_PREFIX",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY",
)  # fmt: skip
ALLOWED_PREFIXES = (
    "LC_", "HF_", "ZAO_", "MODELSCOPE_", "MS_", "SSL_CERT", "PIP_", "XDG_", "CUDA_", "NVIDIA_", "PYTORCH_", "TORCH_",
    "NCCL_", "GLOO_", "OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_", "WANDB_", "MLFLOW_", "SWANLAB_", "TRACKIO_",
    "BNB_", "TRITON_", "ROCM_", "HIP_", "HSA_", "ROCR_",
)  # fmt: skip

# What every worker runs with, whatever the user's environment says.
SETTINGS = (
    ("MALLOC_ARENA_MAX", "2"),  # glibc: one arena per core keeps freed memory and spoils the plan
    # Code that is compiled for every shape of a product; a thousand of them kept (the default) grow to a gigabyte.
    ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64"),
    ("LRU_CACHE_CAPACITY", "64"),
    ("PYTHONUNBUFFERED", "1"),
    ("PYTHONUTF8", "1"),
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("TOKENIZERS_PARALLELISM", "false"),
)


# What a worker runs with unless the user's environment says otherwise. Threads that wait for each other spin for about
# half a millisecond and then sleep. Sleeping at once costs a third of the pace on two virtual cores (205 instead of 300
# tokens/s); spinning without end keeps, beside a busy program, the thread that is waited for off its core (under 10).
DEFAULTS = (
    ("GOMP_SPINCOUNT", "10000"),  # GNU's runtime, which torch brings on Linux
    ("KMP_BLOCKTIME", "1"),  # milliseconds; LLVM's and Intel's
)


def command(folder: RunFolder, devices: int = 1) -> list[str]:
    """The command line. -P keeps the current directory off sys.path; the run's options go by file, not by argument."""
    if devices > 1:
        return [sys.executable, "-P", "-m", "xiaozao.worker.per_device", str(folder.path), str(devices)]
    return words(MODULE, folder)


def words(module: str, folder: RunFolder) -> list[str]:
    """The command line of a module that works on a folder."""
    return [sys.executable, "-P", "-m", module, str(folder.path)]


def environment(own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The worker's environment: the allowed part of ours, and our settings."""
    kept = {name: value for name, value in own.items() if _allowed(name.upper())}
    waiting = {} if "OMP_WAIT_POLICY" in kept else dict(DEFAULTS)
    return waiting | kept | dict(SETTINGS)


def try_worker(timeout: float) -> str:
    """The error when a process with a worker's environment imports torch; empty if there is none."""
    called = [sys.executable, "-P", "-c", "import torch"]
    try:
        done = subprocess.run(called, env=environment(), capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    told = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return "" if done.returncode == 0 else (told or [f"exit code {done.returncode}"])[-1]


def launch(folder: RunFolder, devices: int | None = None) -> subprocess.Popen[bytes]:
    """Start the worker of a run, or one per device. devices: their number, which may differ from before."""
    if devices is None:
        path = folder.resolved if folder.resolved.is_file() else folder.spec
        devices = RunSpec.from_options(read_file(path)).train.devices
    return start(command(folder, devices), folder)


def start(called: Sequence[str], folder: RunFolder) -> subprocess.Popen[bytes]:
    """Start a process in a run folder, detached from our terminal; what libraries print goes to the run's log.

    Raises ArtefactError where something in the folder is a link.
    """
    refuse_links(folder)
    with folder.log.open("ab") as log:
        return subprocess.Popen(
            called,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder.path,
            env=environment(),
            start_new_session=os.name != "nt",
            creationflags=_windows_flags(),
            close_fds=True,
        )


def _windows_flags() -> int:
    """No console window, and a Ctrl-C of our console does not reach it; 0 elsewhere."""
    names = ("CREATE_NO_WINDOW", "CREATE_NEW_PROCESS_GROUP")
    return sum(int(getattr(subprocess, name, 0)) for name in names)


def _allowed(name: str) -> bool:
    return name in ALLOWED or name.startswith(ALLOWED_PREFIXES)
