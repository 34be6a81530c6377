"""install.sh: chooses Python, torch and places; --dry-run says what it would do, and a real one works."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="install.sh is for macOS and Linux")


def install(
    tmp_path: Path, *arguments: str, shell: str = "sh", path: Path | None = None, language: str = "C", **more: str
) -> "subprocess.CompletedProcess[str]":
    """Run the script with a home of its own; `path` stands before everything else on the PATH."""
    (tmp_path / "home").mkdir(exist_ok=True)
    variables = {
        **os.environ, "HOME": str(tmp_path / "home"), "XDG_DATA_HOME": "", "ZAO_LANG": "", "LC_ALL": language,
        "PATH": os.pathsep.join(str(one) for one in (path, Path(sys.executable).parent, os.environ["PATH"]) if one),
        "ZAO_HOME": str(tmp_path / "zao"), "ZAO_CACHE": "", "XDG_CACHE_HOME": "", **more,
    }  # fmt: skip
    command = [shell, str(ROOT / "install.sh"), *arguments]
    return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, encoding="utf-8")


def program(folder: Path, name: str, script: str) -> Path:
    """A program of the test's own."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)
    return folder


def dry(tmp_path: Path, *arguments: str, path: Path | None = None) -> str:
    places = ("--prefix", str(tmp_path / "app"), "--python", sys.executable)
    done = install(tmp_path, "--dry-run", *places, *arguments, path=path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "app").exists()
    assert not (tmp_path / "home" / ".local").exists()
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_a_dry_run_says_everything_and_does_nothing(tmp_path: Path, shell: str) -> None:
    done = install(tmp_path, "--dry-run", shell=shell)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("+ ")]
    for words in ("-m venv", "torch>=2.9", str(ROOT), "ln -sf", "install.json"):
        assert any(words in line for line in told), words
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.skipif(sys.platform == "darwin", reason="torch has one build there")
@pytest.mark.parametrize(
    ("driver", "capability", "build"),
    [
        ("580.65.06", "8.6", "cu130"),
        ("570.86.10", "12.0", "cu128"),
        ("535.129.03", "8.9", "cu126"),
        ("580.65.06", "6.1", "cu126"),
        ("580.65.06", "7.0", "cu128"),
        ("580.65.06", "8.6\n7.0", "cu128"),
        ("470.82", "8.6", "cpu"),
        ("580.65.06", "3.5", "cpu"),
        ("535.129.03", "[N/A]", "cu126"),
        ("NVIDIA-SMI has failed", "", "cpu"),
    ],
)
def test_torch_is_chosen_by_driver_and_card(tmp_path: Path, driver: str, capability: str, build: str) -> None:
    answers = f"case $1 in *driver_version*) echo '{driver}' ;; *) echo '{capability}' ;; esac"
    told = dry(tmp_path, path=program(tmp_path / "fake", "nvidia-smi", answers))
    assert f"--index-url https://download.pytorch.org/whl/{build}\n" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--mirror", "tuna", "--torch", "cu128"),
         ("pypi.tuna.tsinghua.edu.cn/simple", "mirrors.nju.edu.cn/pytorch/whl/cu128")),
        (("--mirror", "ustc", "--torch", "cpu"), ("mirrors.ustc.edu.cn/pypi/simple", "[modelscope]")),
        (("--mirror", "aliyun", "--torch", "cu126"),
         ("mirrors.aliyun.com/pypi/simple", "--no-index --find-links https://mirrors.aliyun.com/pytorch-wheels/cu126/")),
        (("--mirror", "https://mirror.example/simple"), ("index-url = https://mirror.example/simple",)),
        (("--torch-index", "https://t.example/cu999"), ("--index-url https://t.example/cu999",)),
        (("--torch-spec", "torch==2.9.1"), ("--upgrade torch==2.9.1\n",)),
    ],
)  # fmt: skip
def test_mirrors_and_torch_can_be_named(tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    told = dry(tmp_path, *arguments)
    for word in words:
        assert word in told


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--mirror", "moon"), 2, "moon"),
        (("--torch", "cu1"), 2, "cu1"),
        (("--prefix",), 2, "--prefix"),
        (("--colour",), 2, "--colour"),
        (("--source", "nothing.whl"), 8, "nothing.whl"),
        (("--python", "/bin/true/no"), 9, "/bin/true/no"),
    ],
)
@pytest.mark.parametrize(("language", "word"), [("C", "Error"), ("zh_CN.UTF-8", "错误")])
def test_a_mistake_is_said_in_the_readers_language(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str, language: str, word: str
) -> None:
    done = install(tmp_path, "--dry-run", "--python", sys.executable, *arguments, language=language)
    assert done.returncode == code
    assert word in done.stderr
    assert words in done.stderr


def test_an_old_python_is_passed_over_and_its_lack_explained(tmp_path: Path) -> None:
    fake = tmp_path / "fake"
    for name in ("python3.11", "python3.12", "python3.13", "python3.14", "python3", "python"):
        program(fake, name, "exit 1")
    done = install(tmp_path, "--dry-run", path=fake)
    assert done.returncode == 9
    assert "3.11" in done.stderr
    assert "uv python install" in done.stderr or "brew" in done.stderr


def test_a_disk_that_is_too_small_is_named_with_both_numbers(tmp_path: Path) -> None:
    fake = program(tmp_path / "fake", "df", "printf 'Filesystem\\nx 5000000 3000000 2000000 60%% /\\n'")
    done = install(tmp_path, "--dry-run", "--torch", "cpu", path=fake)
    assert done.returncode == 9
    assert "3 GB" in done.stderr
    assert "2 GB" in done.stderr


def test_every_message_of_both_scripts_is_in_both_languages() -> None:
    for name in ("install.sh", "install.ps1"):
        text = (ROOT / name).read_text(encoding="utf-8-sig")
        assert "错误" in text
        assert "安装完成" in text
    data = (ROOT / "install.ps1").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf"), (
        "Windows PowerShell 5.1 reads a file without a BOM in the system's code page"
    )


@pytest.mark.real
@pytest.mark.long
@pytest.mark.timeout(2400)
def test_an_installation_works_is_repeated_and_goes_again(tmp_path: Path) -> None:
    app, bin_ = tmp_path / "with space" / "app", tmp_path / "bin"
    spec = f"torch=={version('torch').partition('+')[0]}"
    arguments = ("--prefix", str(app), "--bin", str(bin_), "--torch-spec", spec)
    # Python compiles what is used when it is used; pip would compile all that torch brings, which takes a minute.
    first = install(tmp_path, *arguments, PIP_NO_COMPILE="1")
    assert first.returncode == 0, first.stderr
    zao = str(bin_ / "zao")
    variables = {**os.environ, "ZAO_HOME": str(tmp_path / "zao"), "ZAO_LANG": "en"}

    def ask(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([zao, *words], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)

    assert ask("--version").stdout == f"zao {version('xiaozao')}\n"
    checks = json.loads(ask("doctor", "--offline", "--json").stdout)["checks"]
    assert next(one for one in checks if one["check"] == "torch")["state"] == "ok"
    second = install(tmp_path, *arguments, PIP_NO_COMPILE="1")
    assert second.returncode == 0, second.stderr
    assert "Upgrading" in second.stdout
    gone = ask("uninstall", "--yes", "--json")
    assert gone.returncode == 0, gone.stderr
    assert not app.exists()
    assert list(bin_.iterdir()) == []


def test_a_command_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    program(tmp_path / "bin", "zao", "echo somebody else")
    done = install(tmp_path, "--dry-run", "--bin", str(tmp_path / "bin"))
    assert done.returncode == 0
    assert "ln -sf" not in done.stdout
    assert str(tmp_path / "bin" / "zao") in done.stderr
