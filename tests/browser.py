"""A browser for the tests of pages: Chromium without a window, spoken to through two pipes, with no package in between.

    with Browser(tmp_path) as browser:
        browser.open(page); browser.press("a"); browser.value("document.title")

Every request that a page makes to anywhere but its own file is in `browser.requests`.
"""

import base64
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
CODES = {"ArrowLeft": 37, "ArrowRight": 39, "Tab": 9, "Enter": 13}


class Browser:
    """One page. folder: where its profile and what it downloads go."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._buffer, self._number = folder, b"", 0
        self.requests: list[str] = []
        self.downloads = folder / "downloads"

    def __enter__(self) -> Self:
        assert CHROMIUM is not None
        self.downloads.mkdir(parents=True, exist_ok=True)
        (read_end, self._say), (self._hear, write_end) = os.pipe(), os.pipe()
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={self._folder / 'profile'}", "about:blank"]
        nowhere = os.open(os.devnull, os.O_RDWR)
        ends = [(os.POSIX_SPAWN_DUP2, nowhere, 2), *self._placed(read_end, write_end)]
        self._process = os.posix_spawn(CHROMIUM, command, dict(os.environ), file_actions=ends)
        for end in (read_end, write_end, nowhere):
            os.close(end)
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._session = None
        self._send("Browser.close", {})
        os.waitpid(self._process, 0)
        os.close(self._say)
        os.close(self._hear)

    def open(self, page: Path) -> None:
        """Show a file, and wait until it is loaded."""
        self.call("Page.navigate", url=page.as_uri())
        while self.value("document.readyState") != "complete" or self.value("location.protocol") != "file:":
            pass

    def show(self, width: int, height: int, dark: bool) -> None:
        """The size of the window, and the colours that the reader prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key: str, modifiers: int = 0) -> None:
        """One key, as a keyboard would."""
        code = CODES.get(key, ord(key[0].upper()))
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, modifiers=modifiers,
                **(text if kind == "keyDown" else {}),
            )  # fmt: skip

    def type(self, text: str) -> None:
        """Text into the field that has the focus."""
        self.call("Input.insertText", text=text)

    def value(self, expression: str) -> Any:
        """What a piece of JavaScript gives."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        return path

    def call(self, method: str, **parameters: Any) -> Any:
        """One command of the DevTools protocol, and its result."""
        number = self._send(method, parameters)
        while True:
            message = self._receive()
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]

    def _send(self, method: str, parameters: Mapping[str, Any]) -> int:
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._number, "method": method, "params": parameters, **session}
        os.write(self._say, json.dumps(message).encode() + b"\0")
        return self._number

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._hear, 1 << 16)
            assert more, "the browser went away"
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        whole: dict[str, Any] = json.loads(message)
        return whole

    @staticmethod
    def _placed(read_end: int, write_end: int) -> list[tuple[int, int, int]]:
        """The pipes become the file descriptors 3 and 4 of the browser, whatever their numbers are here."""
        high = max(read_end, write_end, 10) + 1
        moves = [(read_end, high), (write_end, high + 1), (high, 3), (high + 1, 4)]
        return [(os.POSIX_SPAWN_DUP2, here, there) for here, there in moves]
