"""The speed of matrix products by dtype on this CPU: measured once and kept in the cache. No torch.

The processor's flags are not enough: a virtual machine may hide instructions, a library may lack kernels for them, or
an environment variable may disable them.
"""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from xiaozao.events import OnProgress
from xiaozao.machine.hardware import Hardware, processor
from xiaozao.plan.profile_cache import keep_if_possible
from xiaozao.runs.launch import environment
from xiaozao.store.files import cache

MODULE = "xiaozao.measure.multiply"
PATIENCE = 60  # seconds; it takes two, most of them for the import of torch
SLOW = 0.5  # of the rate in fp32: below it somebody who asked for a dtype is told
# Variables that decide which instructions torch's libraries use.
DECIDING = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")

Products = dict[str, float]  # operations a second, by the name of the dtype
PRODUCTS = TypeAdapter(Products)


def products(report: OnProgress, folder: Path | None = None) -> Products | None:
    """The rates from the cache, or measured in a process of its own (announced through `report`).

    None if that fails.
    """
    kept = known(folder)
    if kept is not None:
        return kept
    report("calibrate", 0, 1)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", MODULE], capture_output=True, check=True, env=environment(), timeout=PATIENCE
        )
        return keep(PRODUCTS.validate_json(done.stdout), folder)
    except (OSError, subprocess.SubprocessError, ValidationError):
        return None
    finally:
        report("calibrate", 1, 1)


def known(folder: Path | None = None) -> Products | None:
    """The cached measurement; None if there is none or it cannot be read."""
    try:
        measurement = PRODUCTS.validate_json(_path(folder).read_bytes())
    except (OSError, ValidationError):
        return None
    return measurement if measurement.keys() >= {"bf16", "fp16", "fp32"} else None


def keep(measurement: Products, folder: Path | None = None) -> Products:
    """Write a measurement into the cache and return it."""
    keep_if_possible(_path(folder), PRODUCTS.dump_json(measurement))
    return measurement


def measured(hardware: Hardware, measurement: Products | None) -> Hardware:
    """The machine, with the measured speed of bf16 in place of what its flags say."""
    return hardware if measurement is None else replace(hardware, fast_bf16=measurement["bf16"] > measurement["fp32"])


def is_slow(measurement: Products | None, precision: str) -> bool:
    """Whether products in a dtype take more than twice as long as in fp32; False where nothing is known."""
    return measurement is not None and measurement[precision] < SLOW * measurement["fp32"]


def _path(folder: Path | None) -> Path:
    parts = [processor(), version("torch"), *(os.environ.get(name, "") for name in DECIDING)]
    name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
    return (folder or cache() / "rates") / f"products-{name}.json"
