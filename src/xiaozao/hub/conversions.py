"""The cache of converted models: one folder per GGUF file, named after the file's SHA-256, made once.

CACHE/models/SmolLM2-135M-Instruct.Q4_1-b179c9523d0e6a0f/{config.json, model.safetensors, tokenizer.json, source.json}
             .staging-x1y2z3/     while it is made; renamed when whole, so two processes at once do no harm

source.json also records which version of this code wrote the settings. A folder of an earlier version is updated in
place: its weights are right, and the original file may be unavailable.
"""

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
from pathlib import Path
from typing import Any

from xiaozao.errors import (
    ArtefactError,
    EnvironmentProblem,
    NotFound,
    OutOfMemory,
    Problem,
    UnsupportedModel,
    XiaozaoError,
)
from xiaozao.events import OnProgress
from xiaozao.hub.folder import CONFIG, is_complete, read_config
from xiaozao.hub.ggufheader import read_gguf
from xiaozao.hub.hubs import check_space, sha256_of
from xiaozao.hub.spellings import both_spellings, plain_tokenizer

STALE_SECONDS = 24 * 3600
USUAL_SECONDS = 15.0
VERSION = 2  # counts changes of what is written beside the weights
SOURCE, SETTINGS = "source.json", "tokenizer_config.json"


def conversions(cache: Path) -> Path:
    """Where converted models lie."""
    return cache / "models"


def folder_of(cache: Path, file: Path, sha256: str) -> Path:
    """Where the conversion of a GGUF file with this hash lies or would lie."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-.")[:80] or "model"
    return conversions(cache) / f"{stem}-{sha256[:16]}"


def converted(path: Path, origin: str, name: str, cache: Path, on_progress: OnProgress) -> tuple[Path, str]:
    """The folder of a GGUF file, converted now if need be, and the file's SHA-256.

    Raises ArtefactError, UnsupportedModel, EnvironmentProblem, OutOfMemory.
    """
    header = read_gguf(path)
    digest = sha256_of(path, on_progress)
    folder = folder_of(cache, path, digest)
    if not is_converted(folder):
        check_space(cache, header.parameters * 2)
        _convert(path, folder, {"origin": origin, "name": name, "sha256": digest}, on_progress)
    return folder, digest


def is_converted(folder: Path) -> bool:
    """Whether the folder holds a complete conversion; one of an earlier version is updated."""
    if not is_complete(folder):
        return False
    try:
        origin = _mapping(folder / SOURCE)
        if origin.get("version") != VERSION:
            write_settings(folder)
            _put(folder / SOURCE, {**origin, "version": VERSION})
    except (ValueError, OSError):
        return False  # damaged, or half removed: made again
    return True


def write_settings(folder: Path) -> None:
    """Write config and tokenizer's settings again, for readers old and new, with nothing of the conversion itself."""
    _put(folder / CONFIG, both_spellings(read_config(folder).values))
    if (folder / SETTINGS).is_file():
        _put(folder / SETTINGS, plain_tokenizer(_mapping(folder / SETTINGS)))


def _mapping(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no file. Raises ValueError for anything else."""
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(values, dict):
        raise ValueError(path.name)
    return values


def _put(path: Path, values: dict[str, object]) -> None:
    """Replace a file atomically, because another process may be reading it."""
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(values, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(path)


def _convert(path: Path, folder: Path, origin: dict[str, object], on_progress: OnProgress) -> None:
    """Convert into a folder beside the target, then rename: a folder with that name is always whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".staging-"))
    try:
        made = staging / folder.name
        _run_conversion(path, made, on_progress)
        _put(made / SOURCE, {**origin, "version": VERSION})
        if folder.exists() and not is_converted(folder):  # left by a deletion that was cut short
            shutil.rmtree(folder)
        try:
            made.rename(folder)
        except OSError:  # another process was first; its folder is as good
            if not is_converted(folder):
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def sweep(folder: Path, now: float | None = None) -> None:
    """Remove what conversions that were killed left behind a day ago."""
    for path in folder.glob(".*-*"):
        if path.is_dir() and (now or time.time()) - path.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _run_conversion(path: Path, folder: Path, on_progress: OnProgress) -> None:
    command = [sys.executable, "-P", "-m", "xiaozao.models.loading.convert", str(path.resolve()), str(folder)]
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
            on_progress("convert", int(total * spent / (spent + USUAL_SECONDS)), total)

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
        raise conversion_error(path, process.returncode, out, err)
    on_progress("convert", total, total)


def conversion_error(path: Path, code: int, out: str, err: str) -> XiaozaoError:
    """The error that the converting process printed, or the error for its exit code."""
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
