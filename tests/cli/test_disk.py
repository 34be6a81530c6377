"""`zao disk`: what takes room, and freeing it without touching anything else."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.models.make import model_folder
from xiaozao.cli.main import run
from xiaozao.store.files import RunFolder, create_run, home
from xiaozao.store.lock import acquire
from xiaozao.store.runs import list_runs, register
from xiaozao.texts.catalogue import say


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_LANG", "en")
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    model_folder(tmp_path / "cache" / "models" / "m-0123")
    (tmp_path / "cache" / "data" / "abc").mkdir(parents=True)
    (tmp_path / "cache" / "data" / "abc" / "x.npy").write_bytes(bytes(5000))
    (tmp_path / "cache" / "streams" / "m-0123-nf4").mkdir(parents=True)
    (tmp_path / "cache" / "streams" / "m-0123-nf4" / "00000.safetensors").write_bytes(bytes(4000))
    for name in ("profiles", "rates", "evaluations"):
        (tmp_path / "cache" / name).mkdir()
    (tmp_path / "cache" / "profiles" / "0123.json").write_bytes(bytes(300))


def a_run(stem: str = "mine", output: str | None = None) -> RunFolder:
    folder = create_run(output, stem)
    folder.spec.write_text("model: m\ndata: d\n", encoding="utf-8")
    folder.checkpoints.mkdir()
    (folder.checkpoints / "weights").write_bytes(bytes(7000))
    register(folder.path)
    return folder


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert run(["disk", *arguments, "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_everything_that_takes_room_is_listed_with_how_to_free_it(capsys: pytest.CaptureFixture[str]) -> None:
    folder = a_run()
    document = answer(capsys)
    sizes = {one["free"]: one["bytes"] for one in document["items"]}
    assert sizes["data"] == 5000
    assert sizes["streams"] == 4000 and sizes["profiles"] == 300
    assert sizes["conversions"] > 0
    assert sizes[f"runs:{folder.name}"] > 7000
    assert document["bytes"] == sum(sizes.values())
    assert document["disk_free_bytes"] > 0
    assert run(["disk"]) == 0
    assert f"--free runs:{folder.name}" in capsys.readouterr().out


def test_runs_in_folders_of_ones_own_are_listed_and_left_to_their_owner(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ours, own = a_run(), a_run(output=str(tmp_path / "own"))
    runs = {one["name"]: one for one in answer(capsys)["items"] if one["kind"] == "run"}
    assert set(runs) == {ours.name, str(own.path)}
    assert runs[str(own.path)]["free"] == "" and runs[str(own.path)]["bytes"] > 7000
    assert run(["disk"]) == 0
    assert say("disk.yours", "en") in capsys.readouterr().out
    own.path.rename(tmp_path / "moved")
    assert [one["name"] for one in answer(capsys)["items"] if one["kind"] == "run"] == [ours.name]


@pytest.mark.parametrize("what", ["conversions", "data", "streams", "profiles", "rates", "evaluations"])
def test_a_cache_is_freed_and_the_rest_stays(capsys: pytest.CaptureFixture[str], tmp_path: Path, what: str) -> None:
    folder = a_run()
    names = {"conversions": "models", "data": "data", "streams": "streams", "profiles": "profiles",
             "rates": "rates", "evaluations": "evaluations"}  # fmt: skip
    would = answer(capsys, "--free", what, "--dry-run")
    assert (tmp_path / "cache" / names[what]).is_dir()
    done = answer(capsys, "--free", what, "--yes")
    assert done["removed"] == would["removed"]
    left = {path.name for path in (tmp_path / "cache").iterdir()}
    assert left == set(names.values()) - {names[what]}
    assert folder.spec.is_file()
    assert answer(capsys, "--free", what, "--yes")["removed"][0]["bytes"] == 0  # nothing left is no error


def test_a_run_is_freed_and_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = a_run("first"), a_run("second")
    answer(capsys, "--free", f"runs:{first.name}", "--yes")
    assert not first.path.exists()
    assert second.spec.is_file()
    assert [one.name for one in list_runs()] == [second.name]


def test_a_run_that_is_being_written_is_not_removed(capsys: pytest.CaptureFixture[str]) -> None:
    folder = a_run()
    with acquire(folder):
        error = answer(capsys, "--free", f"runs:{folder.name}", "--yes", code=10)["error"]
    assert str(os.getpid()) in error["message"]
    assert folder.spec.is_file()


@pytest.mark.parametrize("name", ["..", ".", "*", "../runs", "nothing", "a/b", "C:\\x"])
def test_a_name_that_is_no_run_removes_nothing(capsys: pytest.CaptureFixture[str], name: str) -> None:
    folder = a_run()
    assert answer(capsys, "--free", f"runs:{name}", "--yes", code=8)["error"]["code"] == "NOT_FOUND"
    assert folder.spec.is_file()


def test_a_run_in_a_folder_of_the_users_own_is_his_to_remove(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = a_run(output=str(tmp_path / "out"))
    answer(capsys, "--free", "runs:out", "--yes", code=8)
    answer(capsys, "--free", f"runs:{folder.path}", "--yes", code=8)
    assert folder.spec.is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_a_run_that_is_a_link_keeps_its_target(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = a_run(output=str(tmp_path / "out"))
    (home() / "runs").mkdir(parents=True)
    (home() / "runs" / "link").symlink_to(folder.path)
    answer(capsys, "--free", "runs:link", "--yes", code=8)
    assert folder.spec.is_file()


@pytest.mark.parametrize("what", ["everything", "runs", "runs:", "models:", "data:x", ""])
def test_something_unknown_is_refused_with_what_is_possible(capsys: pytest.CaptureFixture[str], what: str) -> None:
    error = answer(capsys, "--free", what, "--yes", code=2)["error"]
    assert "conversions" in error["fix"]


def test_one_mistake_among_several_removes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    answer(capsys, "--free", "data", "--free", "runs:nothing", "--yes", code=8)
    assert (tmp_path / "cache" / "data").is_dir()


def test_nothing_is_freed_unless_somebody_agrees(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["disk", "--free", "data"]) == 2
    shown = capsys.readouterr().err
    assert str(tmp_path / "cache" / "data") in shown
    assert "zao disk --free data --yes" in shown
    assert (tmp_path / "cache" / "data").is_dir()
