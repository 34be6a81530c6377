"""Where things lie."""

import os
import sys
from pathlib import Path

import pytest

from xiaozao.errors import EnvironmentProblem, NotFound, UsageError
from xiaozao.store.files import cache, create_run, home, open_run


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZAO_CACHE", raising=False)


def test_the_cache_is_beside_the_runs_unless_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache() == home() / "cache"
    monkeypatch.setenv("ZAO_CACHE", str(tmp_path / "c"))
    assert cache() == tmp_path / "c"


@pytest.mark.parametrize("stem", ["SmolLM2", "../../etc", "a b;c$(d)", "", "...", "模型", "-rf"])
def test_a_run_without_output_gets_a_plain_name_of_its_own(stem: str) -> None:
    first, second = create_run(None, stem, clock=0.0), create_run(None, stem, clock=0.0)
    assert first.path != second.path
    for folder in (first, second):
        assert folder.path.parent == home() / "runs"
        assert folder.name[0] not in "-."
        assert folder.path.is_dir()


def test_an_output_with_something_in_it_is_never_reused(tmp_path: Path) -> None:
    used = tmp_path / "out"
    used.mkdir()
    assert create_run(str(used), "m").path == used
    (used / "file").touch()
    with pytest.raises(UsageError) as caught:
        create_run(str(used), "m")
    assert str(used) in caught.value.what("zh-CN")
    assert "--resume" not in caught.value.fix()  # nothing ran there
    used.joinpath("spec.yaml").touch()
    with pytest.raises(UsageError) as caught:
        create_run(str(used), "m")
    assert f"--resume {used}" in caught.value.fix()
    assert sorted(used.iterdir()) == [used / "file", used / "spec.yaml"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_without_permission_is_refused(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(EnvironmentProblem) as caught:
        create_run(str(locked / "out"), "m")
    assert caught.value.exit_code == 9


def test_an_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem) as caught:
        create_run(str(tmp_path / "file" / "out"), "m")
    assert "out" in caught.value.what("zh-CN")


@pytest.mark.parametrize("name", ["nothing", "", ".", "..", "../runs"])
def test_what_is_no_run_is_not_found(name: str) -> None:
    with pytest.raises(NotFound):
        open_run(name)


def test_a_run_is_opened_by_name_or_path() -> None:
    folder = create_run(None, "m")
    folder.spec.write_text("model: m\n", encoding="utf-8")
    assert open_run(folder.name) == open_run(str(folder.path)) == folder
