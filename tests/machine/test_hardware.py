"""What the machine has, and the share of it that a container is given."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from xiaozao.machine.hardware import (
    Gpu,
    cores,
    cpu_quota,
    fast_bf16,
    gpus,
    idle_cores,
    look,
    memory_limit,
    own_cgroup,
    processor,
)

GB = 10**9


def lay(root: Path, files: dict[str, str]) -> Path:
    """Files as the kernel shows them."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return tmp_path / "proc"


def test_this_machine_is_seen_as_it_is(tmp_path: Path) -> None:
    hardware = look()
    assert 1 <= hardware.cores <= 4096
    assert 0 < hardware.memory_available <= hardware.memory_total
    assert 0 < hardware.disk_free(tmp_path / "not" / "yet")
    assert hardware.gpus == gpus()


def test_looking_reaches_no_torch() -> None:
    code = "import sys; from xiaozao.machine.hardware import look; look(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


V2 = {"memory.max": "max\n", "a/memory.max": "8000000000\n", "a/memory.current": "3000000000\n",
      "a/memory.stat": "anon 1\ninactive_file 1000000000\n", "a/b/memory.max": "max\n"}  # fmt: skip


@pytest.mark.parametrize(
    ("files", "groups", "expected"),
    [
        ({}, "", (2**63, 0)),
        (V2, "0::/a/b\n", (8 * GB, 2 * GB)),  # the limit stands above our own group; dropped cache is not used memory
        ({**V2, "a/b/memory.max": "4000000000\n", "a/b/memory.current": "1000000000\n"}, "0::/a/b\n", (4 * GB, GB)),
        (V2, "0::/elsewhere\n", (2**63, 0)),
        ({"memory/x/memory.limit_in_bytes": "2000000000", "memory/x/memory.usage_in_bytes": "500000000"},
         "4:memory:/x\n0::/\n", (2 * GB, GB // 2)),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, "4:memory:/\n", (2**63, 0)),
        ({"memory.max": "garbage"}, "0::/\n", (2**63, 0)),
    ],
)  # fmt: skip
def test_the_containers_limit_is_found(
    tmp_path: Path, proc: Path, files: dict[str, str], groups: str, expected: tuple[int, int]
) -> None:
    proc.write_text(groups, encoding="utf-8")
    assert memory_limit(lay(tmp_path / "cgroup", files), proc) == expected


def test_the_containers_share_of_the_cores_is_rounded_up(tmp_path: Path, proc: Path) -> None:
    proc.write_text("0::/a/b\n", encoding="utf-8")
    root = lay(tmp_path / "cgroup", {"a/cpu.max": "350000 100000\n", "a/b/cpu.max": "max 100000\n"})
    assert cpu_quota(root, proc) == 4
    lay(root, {"a/b/cpu.max": "50000 100000\n"})
    assert cpu_quota(root, proc) == 1
    assert cpu_quota(tmp_path / "none", proc) >= cores()


def test_our_own_group_is_read_for_both_versions(proc: Path) -> None:
    proc.write_text("4:memory:/docker/x\n3:cpu,cpuacct:/y\n0::/user.slice/z\n", encoding="utf-8")
    assert own_cgroup(proc) == "user.slice/z"
    assert own_cgroup(proc, "memory") == "docker/x"
    assert own_cgroup(proc.with_name("none")) == ""


@pytest.mark.skipif(sys.platform == "darwin", reason="there the machine's type decides")
@pytest.mark.parametrize(
    ("flags", "fast"),
    [("fpu avx512f avx512_bf16", True), ("fpu amx_bf16 amx_tile", True), ("fpu avx2 avx512f", False), ("bf16", False)],
)
def test_fast_bf16_is_read_from_the_cpus_flags(tmp_path: Path, flags: str, fast: bool) -> None:
    lay(tmp_path, {"cpuinfo": f"processor : 0\nflags\t\t: {flags}\n\nprocessor : 1\n"})
    assert fast_bf16(tmp_path / "cpuinfo") is fast
    assert fast_bf16(tmp_path / "none") is False


def test_a_processor_has_the_name_that_the_system_gives_it(tmp_path: Path) -> None:
    lay(tmp_path, {"cpuinfo": "processor : 0\nmodel name\t: A Chip 9\nmodel name : another\n"})
    assert processor(tmp_path / "cpuinfo") == "A Chip 9"
    assert processor(tmp_path / "none")


def test_a_core_that_another_program_keeps_busy_is_not_idle() -> None:
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        assert 1 <= idle_cores(0.3) <= max(1, cores() - 1)
    finally:
        program.kill()
        program.wait()


@pytest.mark.parametrize(("capability", "has"), [((8, 0), True), ((12, 0), True), ((7, 5), False), (None, False)])
def test_bf16_comes_with_ampere(capability: tuple[int, int] | None, has: bool) -> None:
    assert Gpu("card", GB, GB, "580.1", capability).bf16 is has
