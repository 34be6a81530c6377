"""Where things lie."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xiaozao.errors import ArtefactError, EnvironmentProblem, NotFound, UsageError
from xiaozao.runs.launch import start
from xiaozao.store.files import cache, create_run, home, open_run, refuse_links


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
    (used / ".mutex").unlink()
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


MANY = """
import sys, time
from xiaozao.errors import UsageError
from xiaozao.store.files import create_run
begin, output = float(sys.argv[1]), sys.argv[2]
for turn in range(40):
    while time.time() < begin + turn * 0.02:
        pass
    try:
        print(turn, create_run(f"{output}-{turn}" if output else None, "m", clock=0.0).path)
    except UsageError as error:
        print(turn, error.key)
"""


@pytest.mark.parametrize("output", ["out", ""], ids=["one output", "names of their own"])
def test_of_many_that_ask_at_once_each_has_a_folder_alone(tmp_path: Path, output: str) -> None:
    named = str(tmp_path / output) if output else ""
    words = [sys.executable, "-c", MANY, str(time.time() + 2), named]
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    lines = [line for one in started for line in one.communicate()[0].splitlines()]
    assert [one.returncode for one in started] == [0] * 4 and len(lines) == 160
    made = [line for line in lines if not line.endswith("output_in_use")]
    if output:
        assert sorted(int(line.split()[0]) for line in made) == list(range(40))
    else:
        assert len({line.split()[1] for line in made}) == 160


def test_a_folder_that_another_has_just_taken_is_refused(tmp_path: Path) -> None:
    create_run(str(tmp_path / "out"), "m")
    with pytest.raises(UsageError, match="not empty"):
        create_run(str(tmp_path / "out"), "m")


def test_a_model_with_a_very_long_name_gives_a_name_that_the_disk_takes() -> None:
    assert len(create_run(None, "a" * 300, clock=0.0).name) < 128


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize(
    "name", ["events.jsonl", "worker.log", "report/loss.png", "report", "checkpoints", "stop", "blind/1"]
)
def test_a_planted_link_is_refused_wherever_a_run_writes(tmp_path: Path, name: str) -> None:
    folder = create_run(str(tmp_path / "out"), "m")
    refuse_links(folder)
    (folder.path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "precious").write_text("mine", encoding="utf-8")
    (folder.path / name).symlink_to(tmp_path / "precious")
    with pytest.raises(ArtefactError) as caught:
        refuse_links(folder)
    assert name in caught.value.what() and "precious" in caught.value.what("zh-CN")
    with pytest.raises(ArtefactError):
        start([sys.executable, "-c", "print(1)"], folder)
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "mine"
