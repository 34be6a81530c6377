"""`zao chat` and `zao export` look at what a run left before they use it."""

from pathlib import Path

import pytest

from tests.models.test_adapter import spoil
from tests.worker.finished import finished_run
from xiaozao.cli.main import run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that has ended, with an adapter on a toy."""
    return finished_run(tmp_path, monkeypatch).path


@pytest.mark.parametrize("words", [["chat", "--ask", "hello", "--max-tokens", "2"], ["export"]], ids=["chat", "export"])
def test_a_result_is_held_against_its_hashes_and_their_absence_is_said(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, str(folder)]) == 0
    assert "manifest.json" not in capsys.readouterr().err
    spoil(folder / "adapter", "a bit of the weights")
    target = [] if words[0] == "chat" else ["--folder", str(folder / "again")]
    assert run([*words, *target, str(folder)]) == 3
    assert "is damaged" in capsys.readouterr().err
    (folder / "adapter" / "manifest.json").unlink()
    assert run([*words, *target, str(folder)]) == 0
    assert f"{folder / 'adapter'} has no manifest.json" in capsys.readouterr().err
