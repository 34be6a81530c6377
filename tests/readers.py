"""What others read of our files with: the transformers of this environment, and the oldest that we write for.

The oldest cannot stand in the same environment, so it is put into a folder of its own, once for all sessions. The path
of a process that reads with it begins with that folder.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs
import pytest

OLD = ("transformers==4.57.6", "tokenizers==0.22.2", "huggingface_hub==0.36.0", "peft==0.18.0")
READERS = ("old", "new")
START = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, pipeline
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
asked = json.loads(sys.stdin.read())
"""


def read_by(reader: str, code: str, **asked: Any) -> Any:
    """What a program in a process of its own says as JSON on its last line; `asked` is in it under that name."""
    path = {"PYTHONPATH": str(old_packages())} if reader == "old" else {}
    done = subprocess.run(
        [sys.executable, "-c", START + code], input=json.dumps(asked, default=str), capture_output=True, text=True,
        env={**os.environ, **path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@cache
def old_packages() -> Path:
    """The folder with the oldest packages; skips where the package index is out of reach."""
    named = hashlib.sha256(" ".join((*OLD, sys.version)).encode()).hexdigest()[:12]
    folder = platformdirs.user_cache_path("xiaozao-tests", appauthor=False) / f"readers-{named}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as making:
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        words += ["--target", f"{making}/whole", *OLD]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600)
        if done.returncode:
            pytest.skip(f"the package index is out of reach: {done.stderr.strip().splitlines()[-1:]}")
        try:
            (Path(making) / "whole").rename(folder)
        except OSError:  # another test process was first; its folder is as good
            assert folder.is_dir()
    return folder
