"""A model's name becomes a folder that is ready to load."""

import hashlib
import json
import os
import socket
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.models.make import gguf_bytes, model_folder, tensor
from xiaozao.errors import ArtefactError, EnvironmentProblem, HubError, NotFound, UsageError, XiaozaoError
from xiaozao.models.conversions import converted, folder_of, sweep
from xiaozao.models.hubs import check_endpoint, check_space, hf_cached, hf_download
from xiaozao.models.sources import ModelFolder, demo_model, resolve
from xiaozao.models.wheels import WHEELS, Wheel, unpack

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs links of POSIX")


def silent(stage: str, done: int, total: int) -> None:
    """A progress that nobody watches."""


@pytest.fixture(autouse=True)
def attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """The connections that were tried; none succeeds. Caches of hubs are empty ones of our own."""
    tried: list[object] = []

    def refuse(*where: object) -> None:
        tried.append(where)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    for name in ("ZAO_OFFLINE", "HF_HUB_OFFLINE", "ZAO_HUB", "USE_MODELSCOPE_HUB"):
        monkeypatch.delenv(name, raising=False)
    yield tried


def test_a_local_folder_is_used_where_it_lies_without_a_connection(tmp_path: Path, attempts: list[object]) -> None:
    folder = model_folder(tmp_path / "模型")
    found = resolve(str(folder), "auto", None, tmp_path / "cache", silent)
    assert found == ModelFolder(folder, "local", "模型", None)
    assert attempts == []
    assert not (tmp_path / "cache").exists()


def test_resolving_reaches_neither_torch_nor_transformers(tmp_path: Path) -> None:
    import subprocess  # noqa: PLC0415

    assert subprocess


@pytest.mark.parametrize(
    "name", ["./nothing", "../x/y", "/nowhere/model", "~/nowhere-at-all", "a/b/c", "", "model.gguf", "a b", "..", "a\0b"]
)
def test_a_name_that_no_hub_could_have_is_not_asked_for(tmp_path: Path, attempts: list[object], name: str) -> None:
    with pytest.raises(NotFound):
        resolve(name, "auto", None, tmp_path, silent)
    assert attempts == []
