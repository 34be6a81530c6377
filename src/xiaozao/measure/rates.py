"""How fast this machine is: measured once in a process of its own, and kept in the cache. No torch."""

import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from xiaozao.events import OnProgress
from xiaozao.machine.hardware import processor
from xiaozao.measure.fastest import DECIDING
from xiaozao.plan.profile_cache import keep_if_possible
from xiaozao.runs.launch import environment
from xiaozao.spec.pace import ASKED, RATES, VERSION, Asked, Rates
from xiaozao.store.files import cache

MODULE = "xiaozao.measure.calibrate"
BUSY = 0.5  # of the processors
PATIENCE = 120  # seconds; it takes five, but the machine may be busy with other things


def rates(asked: Asked, report: OnProgress, folder: Path | None = None) -> Rates | None:
    """The rates from the cache, or measured (announced through `report`); None if they cannot be measured now."""
    kept = known(asked, folder)
    if kept is not None or busy():
        return kept
    report("calibrate", 0, 1)
    try:
        measurement = measure(asked)
    except (OSError, subprocess.SubprocessError, ValidationError):
        return None
    finally:
        report("calibrate", 1, 1)
    keep_if_possible(_path(asked, folder), RATES.dump_json(measurement))
    return measurement


def busy() -> bool:
    """Whether other programs use the cores, so that a measurement now would be wrong."""
    if not hasattr(os, "getloadavg"):  # Windows
        return False
    return os.getloadavg()[0] > BUSY * (os.cpu_count() or 1) + 1  # a plan is itself one


def known(asked: Asked, folder: Path | None = None) -> Rates | None:
    """The cached rates; None if there are none."""
    try:
        return RATES.validate_json(_path(asked, folder).read_bytes())
    except (OSError, ValidationError):
        return None


def measure(asked: Asked) -> Rates:
    """Measure the rates in a new process. Raises SubprocessError if it fails or does not end."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", MODULE], input=ASKED.dump_json(asked), capture_output=True, check=True,
        env=environment(), timeout=PATIENCE,
    )  # fmt: skip
    return RATES.validate_json(done.stdout)


def key(asked: Asked, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The name of rates in the cache: a hash of what they depend on and of the versions that measured them."""
    parts = [ASKED.dump_python(asked), processor(cpuinfo), os.cpu_count(), VERSION, version("torch")]
    parts += [os.environ.get(name, "") for name in DECIDING]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _path(asked: Asked, folder: Path | None) -> Path:
    return (folder or cache() / "rates") / f"{key(asked)}.json"
