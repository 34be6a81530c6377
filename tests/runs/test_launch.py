"""How a worker is started: a constant command line and an environment by allow-list."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xiaozao.runs.launch import DEFAULTS, SETTINGS, command, environment, start, try_worker
from xiaozao.store.files import RunFolder

HOSTILE = {
    "LD_PRELOAD": "x", "LD_AUDIT": "x", "DYLD_INSERT_LIBRARIES": "x", "PYTHONPATH": "x", "PYTHONSTARTUP": "x",
    "AWS_SECRET_ACCESS_KEY": "x", "PYTHONHOME": "x",
}  # fmt: skip
WANTED = {
    "PATH": "p", "HOME": "h", "HF_TOKEN": "t", "HF_ENDPOINT": "e", "ZAO_HOME": "z", "LC_ALL": "C",
    "SystemRoot": "C:\\Windows", "PIP_INDEX_URL": "u", "HTTPS_PROXY": "q",
    "no_proxy": "n", "SSL_CERT_FILE": "s", "REQUESTS_CA_BUNDLE": "r",
    "MODELSCOPE_CACHE": "m", "CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "2", "XDG_CACHE_HOME": "x", "TMPDIR": "d",
    "LD_LIBRARY_PATH": "/opt/python/lib", "DYLD_FALLBACK_LIBRARY_PATH": "/opt/lib", "BNB_CUDA_VERSION": "126",
    "CONDA_PREFIX": "c", "NIX_LD_LIBRARY_PATH": "n", "TRITON_CACHE_DIR": "t",
    "https_proxy": "q", "LANG": "zh_CN.UTF-8", "NCCL_P2P_DISABLE": "1", "GLOO_SOCKET_IFNAME": "lo",
}  # fmt: skip


def test_the_worker_gets_what_it_needs_and_nothing_else() -> None:
    found = environment({**HOSTILE, **WANTED, "EDITOR": "vi"})
    ours = dict(SETTINGS) | dict(DEFAULTS)
    assert {name: value for name, value in found.items() if name not in ours} == WANTED
    assert found["GOMP_SPINCOUNT"] == "10000"
    asked = environment({"OMP_WAIT_POLICY": "ACTIVE"})
    assert asked["OMP_WAIT_POLICY"] == "ACTIVE" and "GOMP_SPINCOUNT" not in asked


def test_our_settings_win_over_the_users() -> None:
    assert environment({"HF_HUB_DISABLE_TELEMETRY": "0"})["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_only_the_folder_stands_on_the_command_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a; rm -rf $(x) --flag")
    assert command(folder) == [sys.executable, "-P", "-m", "xiaozao.worker.main", str(folder.path)]


def test_a_run_on_several_devices_is_started_by_the_agent(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert command(folder, 4) == [sys.executable, "-P", "-m", "xiaozao.worker.per_device", str(tmp_path), "4"]
    assert command(folder, 1) == command(folder)


PROBE = """
import json, os, sys
json.dump({"env": dict(os.environ), "argv": sys.argv[1:], "session": os.getsid(0),
           "path": sys.path, "stdin": sys.stdin.read()}, open(os.path.join(sys.argv[1], "probe.json"), "w"))
print("said by a library")
"""


@pytest.mark.skipif(os.name == "nt", reason="sessions are POSIX; the flags of Windows are data above")
def test_a_started_process_is_detached_and_writes_to_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "运行 1")
    folder.path.mkdir()
    package = tmp_path / "elsewhere"
    package.mkdir()
    probe = package / "probe.py"
    probe.write_text(PROBE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "evil"))
    assert start([sys.executable, "-P", str(probe), str(folder.path)], folder).wait(60) == 0
    seen = json.loads((folder.path / "probe.json").read_text())
    assert seen["session"] != os.getsid(0)
    assert seen["argv"] == [str(folder.path)]
    assert seen["stdin"] == ""
    assert "PYTHONPATH" not in seen["env"]
    assert str(tmp_path / "evil") not in seen["path"]
    assert folder.log.read_text(encoding="utf-8") == "said by a library\n"


def test_a_worker_does_not_carry_what_draws_and_what_reads_tables() -> None:
    """55 MB of every run's memory, where a run needs neither before its end."""
    code = "import sys, xiaozao.worker.main, xiaozao.worker.jobs; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "polars", "openpyxl"} & set(done.stdout.split())
    assert "torch" in done.stdout.split()


@pytest.mark.skipif(os.name == "nt", reason="a program of the test's own, as a script")
def test_a_worker_that_would_not_start_is_found_by_trying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that finds its libraries by LD_LIBRARY_PATH alone, as those of environment modules do."""
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\n[ "$LD_LIBRARY_PATH" = /opt/lib ] || { echo "libpython3.11.so: not found" >&2; exit 127; }\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert try_worker(10) == "libpython3.11.so: not found"
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    assert try_worker(10) == ""
    python.write_text("#!/bin/sh\nexit 3\n")
    assert try_worker(10) == "exit code 3"
