"""A run that has ended, with an adapter on a toy."""

from pathlib import Path

import pytest

from tests.models.test_adapter import tuned
from xiaozao.runs import process
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder


def finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str = "d.jsonl") -> RunFolder:
    """The folder of such a run, in a home of its own."""
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")
    monkeypatch.setattr(process, "LEAVE_SECONDS", 60.0)  # a busy machine takes long to end a process
    tuned(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "adapter").rename(folder / "adapter")
    asked = {"model": str(tmp_path / "model"), "data": data, "precision": "fp32", "base": "none", "stream": "none"}
    (folder / "spec.yaml").write_text(RunSpec.from_options(asked).to_yaml(), encoding="utf-8")
    return RunFolder(folder)
