"""`zao uninstall`: what the installer put, and nothing more."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from xiaozao.cli.main import run
from xiaozao.cli.uninstall import later

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="removes by a process of its own there")


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation as install.sh leaves it, with runs, a cache, and things that are not ours."""
    monkeypatch.setenv("ZAO_LANG", "en")
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_CACHE", str(tmp_path / "cache"))
    prefix = tmp_path / "app"
    (prefix / "venv" / "bin").mkdir(parents=True)
    (prefix / "venv" / "pyvenv.cfg").touch()
    (prefix / "venv" / "bin" / "zao").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "zao").symlink_to(prefix / "venv" / "bin" / "zao")
    (tmp_path / "bin" / "other").write_text("a program of somebody else", encoding="utf-8")
    (tmp_path / "bin" / "elsewhere").symlink_to("/bin/sh")
    launchers = [str(tmp_path / "bin" / name) for name in ("zao", "other", "elsewhere", "gone")]
    (prefix / "install.json").write_text(json.dumps({"launchers": launchers}), encoding="utf-8")
    for name in ("home/runs/r1", "cache/models/m"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(bytes(100))
    (tmp_path / "home" / "my data.jsonl").touch()
    monkeypatch.setattr(sys, "prefix", str(prefix / "venv"))
    return prefix


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert run(["uninstall", *arguments, "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_the_program_goes_and_everything_else_stays(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = answer(capsys, "--yes")
    assert document["launchers"] == [str(tmp_path / "bin" / "zao")]
    assert not prefix.exists()
    assert sorted(path.name for path in (tmp_path / "bin").iterdir()) == ["elsewhere", "other"]
    assert (tmp_path / "home" / "runs" / "r1" / "file").is_file()
    assert (tmp_path / "cache" / "models" / "m" / "file").is_file()


@pytest.mark.parametrize(
    ("flag", "gone", "kept"), [("--runs", "home/runs", "cache"), ("--caches", "cache", "home/runs")]
)
def test_runs_and_caches_go_only_when_they_are_named(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, gone: str, kept: str
) -> None:
    answer(capsys, "--yes", flag)
    assert not (tmp_path / gone).exists()
    assert (tmp_path / kept).is_dir()
    assert (tmp_path / "home" / "my data.jsonl").is_file()


@pytest.mark.parametrize(("arguments", "code"), [(["--dry-run"], 0), ([], 2)])
def test_first_it_is_said_what_would_go(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    assert run(["uninstall", "--runs", *arguments]) == code
    shown = "".join(capsys.readouterr())
    for path in (prefix / "venv", tmp_path / "bin" / "zao", tmp_path / "home" / "runs"):
        assert str(path) in shown
    assert str(tmp_path / "bin" / "other") not in shown
    assert (prefix / "venv" / "pyvenv.cfg").is_file()
    assert (tmp_path / "bin" / "zao").is_symlink()
    assert (tmp_path / "home" / "runs").is_dir()


@pytest.mark.parametrize("record", [None, "", "[]", '{"launchers": 1}', '{"else": []}'])
def test_what_no_installer_made_is_left_alone(
    prefix: Path, capsys: pytest.CaptureFixture[str], record: str | None
) -> None:
    (prefix / "install.json").unlink()
    if record is not None:
        (prefix / "install.json").write_text(record, encoding="utf-8")
    error = answer(capsys, "--yes", code=9)["error"]
    assert "pip uninstall xiaozao" in error["fix"]
    assert (prefix / "venv" / "pyvenv.cfg").is_file()


def test_a_folder_that_is_no_environment_is_left_alone(prefix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (prefix / "venv" / "pyvenv.cfg").unlink()
    answer(capsys, "--yes", code=9)
    assert (prefix / "venv" / "bin" / "zao").is_file()


def test_the_command_for_windows_takes_the_path_literally() -> None:
    script = later(Path("C:/Users/O'Brien [1]/app/venv"))[-1]
    assert f"-LiteralPath '{Path('C:/Users/O')}''Brien [1]" in script
