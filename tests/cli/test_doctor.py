"""`zao doctor`: each thing that can be wrong is named, with what mends it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xiaozao.cli import doctor_checks as checks
from xiaozao.cli.doctor import fix, what
from xiaozao.cli.doctor_checks import Check, TorchBuild, Version
from xiaozao.cli.main import run
from xiaozao.hub.reach import Reach
from xiaozao.machine.hardware import Gpu, Hardware
from xiaozao.texts.catalogue import LANGUAGES

GB = 10**9
CPU = TorchBuild("2.13.0+cpu", None)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_LANG", "en")
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))


def gpu(capability: Version | None = (8, 6), driver: str = "580.65") -> Gpu:
    return Gpu("RTX 3060", 12 * GB, 11 * GB, driver, capability)


def torch(cuda: Version) -> TorchBuild:
    return TorchBuild(f"2.13.0+cu{cuda[0]}{cuda[1]}", cuda)


def said(check: Check) -> str:
    """What a user reads, in English; the Chinese is there, too."""
    assert what(check, "zh-CN")
    if check.state != "ok":
        assert fix(check, "zh-CN"), f"{check.key} names no way out"
    return f"{what(check, 'en')} | {fix(check, 'en')}"


@pytest.mark.parametrize(
    ("driver", "capability", "index"),
    [
        (None, (8, 6), "cpu"),
        ((11, 8), (8, 6), "cpu"),
        ((12, 2), (8, 6), "cu126"),
        ((12, 8), (8, 6), "cu128"),
        ((13, 0), (8, 6), "cu130"),
        ((14, 1), (12, 0), "cu130"),
        ((13, 0), (7, 0), "cu128"),  # CUDA 13 has no code for Volta
        ((13, 0), (6, 1), "cu126"),
        ((13, 0), (3, 5), "cpu"),
        ((13, 0), None, "cu130"),
    ],
)
def test_the_build_of_torch_fits_driver_and_card(
    driver: Version | None, capability: Version | None, index: str
) -> None:
    assert checks.wheel_index(driver, [gpu(capability)]) == index
    assert checks.wheel_index(driver, [gpu((12, 0)), gpu(capability)]) == index  # the weakest card decides


@pytest.mark.parametrize(
    ("card", "build", "driver", "state", "words"),
    [
        (gpu(), torch((13, 0)), (13, 0), "ok", "RTX 3060"),
        (gpu(), CPU, (12, 8), "bad", "whl/cu128"),
        (gpu(), None, (12, 8), "bad", "whl/cu128"),
        (gpu(), torch((13, 0)), (12, 8), "bad", "whl/cu128"),
        (gpu(), torch((12, 8)), (12, 2), "warn", "driver"),
        (gpu(), torch((12, 8)), (11, 4), "bad", "Update the NVIDIA driver"),
        (gpu((6, 1)), torch((13, 0)), (13, 0), "bad", "whl/cu126"),
        (gpu((12, 0)), torch((12, 6)), (13, 0), "bad", "whl/cu130"),
        (gpu((12, 0)), torch((12, 8)), (13, 0), "ok", "RTX 3060"),
        (gpu(None), torch((12, 8)), (13, 0), "ok", "RTX 3060"),
    ],
)
def test_a_card_that_torch_cannot_use_is_named_with_the_build_that_can(
    card: Gpu, build: TorchBuild | None, driver: Version, state: str, words: str
) -> None:
    (check,) = checks.check_gpus([card], build, driver, idle=False)
    assert check.state == state
    assert words in said(check)


@pytest.mark.parametrize(("idle", "state"), [(False, "ok"), (True, "warn")])
def test_a_card_without_a_driver_is_told_from_no_card(tmp_path: Path, idle: bool, state: str) -> None:
    for name, vendor, kind in (("a", "0x8086", "0x030000"), ("b", "0x10de", "0x040300")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(vendor, encoding="ascii")
        (tmp_path / name / "class").write_text(kind, encoding="ascii")
    if idle:
        (tmp_path / "b" / "class").write_text("0x030200\n", encoding="ascii")
    assert checks.idle_card(tmp_path) is idle
    (check,) = checks.check_gpus([], CPU, None, checks.idle_card(tmp_path))
    assert check.state == state
    said(check)


@pytest.mark.parametrize(
    ("text", "cuda"),
    [("cuda: Optional[str] = None\nhip = '6.4'", None), ("cuda: Optional[str] = '12.8'", (12, 8)),
     ("__version__ = '2.9'\ncuda = '13.0'\n", (13, 0)), ("", None), ("xcuda = '12.8'", None)],
)  # fmt: skip
def test_the_cuda_of_torch_is_read_from_its_version_file(text: str, cuda: Version | None) -> None:
    assert checks.cuda_in(text) == cuda


@pytest.mark.parametrize(
    ("check", "state"),
    [
        (checks.check_python((3, 11), True), "ok"),
        (checks.check_python((3, 10), True), "bad"),
        (checks.check_python((3, 12), False), "bad"),
        (checks.check_torch(None), "bad"),
        (checks.check_torch(TorchBuild("2.8.1+cu126", (12, 6))), "bad"),
        (checks.check_torch(TorchBuild("2.10.0", None)), "ok"),
        (checks.check_bf16(Hardware(2, GB, GB, (gpu((7, 5)),), True)), "warn"),
        (checks.check_bf16(Hardware(2, GB, GB, (gpu((8, 0)),), False)), "ok"),
        (checks.check_bf16(Hardware(2, GB, GB, (), False)), "warn"),
        (checks.check_bf16(Hardware(2, GB, GB, (), True)), "ok"),
        (checks.check_memory(8 * GB, 16 * GB), "ok"),
        (checks.check_memory(2 * GB, 16 * GB), "warn"),
        (checks.check_memory(GB // 2, 16 * GB), "bad"),
        (checks.check_disk("home", Path("p"), 100 * GB), "ok"),
        (checks.check_disk("hub", Path("p"), 10 * GB), "warn"),
        (checks.check_disk("hub", Path("p"), GB), "bad"),
        (checks.check_worker(""), "ok"),
        (checks.check_worker("libpython3.11.so: not found"), "bad"),
        (checks.check_kernels(True), "warn"),
        (checks.check_kernels(False), "ok"),
        (checks.check_pip(False), "warn"),
        (checks.check_pip(True), "ok"),
        (checks.check_paths({"home": Path("plain")}, True), "ok"),
        (checks.check_paths({"home": Path("用户")}, True), "warn"),
        (checks.check_paths({"home": Path("用户")}, False), "ok"),
    ],
)
def test_each_check_knows_good_from_bad(check: Check, state: str) -> None:
    assert check.state == state
    said(check)


def test_a_home_that_cannot_be_written_is_bad(tmp_path: Path) -> None:
    assert checks.check_home(tmp_path / "new").state == "ok"
    (tmp_path / "file").touch()
    check = checks.check_home(tmp_path / "file" / "below")
    assert check.state == "bad"
    assert "ZAO_HOME" in said(check)


@pytest.mark.parametrize(
    ("ok", "states"),
    [((True, True, True), "ok ok ok"), ((False, True, True), "warn ok ok"), ((False, False, True), "warn warn ok"),
     ((False, False, False), "bad bad bad")],
)  # fmt: skip
def test_one_hub_out_of_reach_is_a_hint_and_all_are_an_obstacle(ok: tuple[bool, ...], states: str) -> None:
    names = ("huggingface.co", "www.modelscope.cn", "pypi.org")
    found = [
        Reach(name, f"https://{name}/x", one, 1.0, "" if one else "no route")
        for name, one in zip(names, ok, strict=True)
    ]
    rows = checks.check_hubs(found)
    assert " ".join(row.state for row in rows) == states
    for row, name in zip(rows, names, strict=True):
        assert name in said(row)
    models = [row for row in rows[:2] if row.state != "ok"]
    # No hub is named as the way out of a hub's absence unless it was seen to answer.
    assert all((row.key == "hub_no_models") == (not any(ok[:2])) for row in models)
    assert all("source=" not in fix(row, "en") for row in models if row.key == "hub_no_models")


def test_every_check_has_its_texts_in_both_languages() -> None:
    rows = checks.check_machine(offline=True, seconds=1)
    for row in rows:
        for language in LANGUAGES:
            assert what(row, language)
    assert {row.name for row in rows} >= {"python", "torch", "gpu", "bf16", "memory", "disk_home", "paths", "hubs"}


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = run(["doctor", *arguments, "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, document


def test_a_sound_machine_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = answer(capsys, "--offline")
    states = {one["check"]: one["state"] for one in document["checks"]}
    assert states["torch"] == states["home"] == "ok"
    assert (code, document["ok"]) == ((9, False) if "bad" in states.values() else (0, True))
    assert run(["doctor", "--offline"]) == code
    assert "torch" in capsys.readouterr().out


def test_what_is_bad_sets_the_exit_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "file" / "below"))
    code, document = answer(capsys, "--offline")
    assert (code, document["ok"]) == (9, False)
    bad = {one["check"]: one["fix"] for one in document["checks"] if one["state"] == "bad"}
    assert "ZAO_HOME" in bad["home"]


def test_the_doctor_does_not_import_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from xiaozao.cli.main import run; run(['doctor', '--offline', '-q']);"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
