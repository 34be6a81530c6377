"""Fetching from a hub: only data, checked, and errors that say what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hub.hubserver import COMMIT, hub
from tests.models.make import model_folder, safetensors_bytes
from xiaozao.errors import EnvironmentProblem, UsageError
from xiaozao.hub.hubs import check_endpoint, check_space

FETCH = """
import json, sys
from pathlib import Path
from xiaozao.errors import XiaozaoError
from xiaozao.hub.sources import resolve
seen = []
answer = {}
try:
    found = resolve("toy/model", "hf", None, Path("cache"), lambda *what: seen.append(what))
    answer = {"path": str(found.path), "origin": found.origin, "commit": found.commit}
except XiaozaoError as error:
    answer = {"code": error.code, "key": error.key, "text": str(error)}
print(json.dumps({**answer, "seen": seen, "torch": "torch" in sys.modules}))
"""


def fetch(folder: Path, endpoint: str) -> dict[str, Any]:
    """`resolve` in a process of its own: the hub's client reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1", "ZAO_OFFLINE": "",
                "HF_HUB_OFFLINE": "", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-P", "-c", FETCH], cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    assert "Downloading" not in done.stderr  # the client's own bars stay off the terminal
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def files(tmp_path: Path) -> dict[str, bytes]:
    folder = model_folder(tmp_path / "origin")
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    canaries = ("pytorch_model.bin", "modeling_toy.py", "optimizer.pt", "consolidated.safetensors", "README.md")
    return {**whole, **dict.fromkeys(canaries, b"canary")}


def test_a_snapshot_is_fetched_without_code_or_pickles_and_then_found_in_the_cache(tmp_path: Path) -> None:
    with hub("toy/model", files(tmp_path)) as server:
        first = fetch(tmp_path, server.url)
        asked = len(server.asked)
        second = fetch(tmp_path, server.url)
        assert len(server.asked) == asked
    assert first["origin"] == "hf", first
    assert second["origin"] == "cache"
    assert first["commit"] == second["commit"] == COMMIT
    assert not first["torch"]
    assert sorted(path.name for path in Path(first["path"]).iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert not [path for path in server.asked if path.endswith((".bin", ".py", ".pt", "consolidated.safetensors"))]
    assert first["seen"][-1][0] == "verify"
    assert [what for what in first["seen"] if what[0] == "download"]


def test_bytes_that_are_not_what_the_hub_announced_are_refused(tmp_path: Path) -> None:
    other = safetensors_bytes(data=b"\1" * 16)
    with hub("toy/model", files(tmp_path), lie=other) as server:
        first = fetch(tmp_path, server.url)
    assert first["key"] == "hash_mismatch"
    assert not list((tmp_path / "hf").rglob("*.safetensors"))


def test_only_pickles_are_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    listed = {"config.json": b"{}", "pytorch_model.bin": b"canary"}
    with hub("toy/model", listed) as server:
        answer = fetch(tmp_path, server.url)
        assert not [path for path in server.asked if "/resolve/" in path]
    assert answer["key"] == "only_pickle"
    assert "pytorch_model.bin" in answer["text"]


def test_a_name_that_the_hub_does_not_have_is_not_found(tmp_path: Path) -> None:
    with hub("other/model", {}) as server:
        answer = fetch(tmp_path, server.url)
    assert answer["code"] == "NOT_FOUND"
    assert "toy/model" in answer["text"]


def test_a_hub_that_is_not_there_is_named_with_the_way_out(tmp_path: Path) -> None:
    answer = fetch(tmp_path, "http://127.0.0.1:9")
    assert answer["code"] == "HUB_UNREACHABLE"
    assert "zao doctor" in answer["text"]


@pytest.mark.parametrize("url", ["http://huggingface.co", "ftp://x", "huggingface.co"])
def test_a_hub_is_not_asked_in_the_clear(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_endpoint(url)
    assert url in str(caught.value)
    check_endpoint("https://hf-mirror.com")


def test_a_download_that_would_fill_the_disk_is_refused_with_both_numbers(tmp_path: Path) -> None:
    check_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(EnvironmentProblem) as caught:
        check_space(tmp_path, 10**18)
    assert str(10**18) in str(caught.value)
