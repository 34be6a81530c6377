"""The self-test, which is all that tells us of other people's hardware, passes on this machine and says so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from xiaozao.measure.selftest import KERNELS

pytestmark = pytest.mark.real


def test_the_selftest_passes_here_and_names_what_it_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = [sys.executable, "-m", "xiaozao.cli", "--json", "doctor", "--selftest"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    found = json.loads(done.stdout)
    assert [one for one in found["checks"] if not one["passed"]] == []
    assert done.returncode == 0 and found["ok"] is True
    assert all(0 <= one["measured"] <= one["bound"] for one in found["checks"])
    names = {one["name"] for one in found["checks"]}
    assert names == {*KERNELS, "resume", "plan"}
