"""What tests of whole runs share: a toy model, and a cache that nothing else fills."""

from pathlib import Path

import pytest
import torch

from tests.toy import toy_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a toy model, for runs on one thread."""
    torch.set_num_threads(1)
    return toy_folder(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_CACHE", str(tmp_path / "cache"))
