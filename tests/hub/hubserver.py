"""A hub on this machine: enough of Hugging Face's HTTP for a snapshot, with a list of what was asked."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """Serves one repository. `asked` are the paths of all requests."""

    def __init__(self, name: str, files: Mapping[str, bytes], lie: bytes = b"") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.files, self.lie = name, dict(files), lie
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        files = self.server.files
        blob = {"type": "file", "oid": "0" * 40, "blobId": "0" * 40}
        listed = [{**blob, "path": name, "rfilename": name, "size": len(data)} for name, data in files.items()]
        api, name = f"/api/models/{self.server.name}", path.rpartition("/")[2]
        if path in (api, f"{api}/revision/main"):
            info = {"id": self.server.name, "modelId": self.server.name, "sha": COMMIT, "siblings": listed}
            self._send(json.dumps(info).encode(), body, {"Content-Type": "application/json"})
        elif path == f"{api}/tree/{COMMIT}":
            self._send(json.dumps(listed).encode(), body, {"Content-Type": "application/json"})
        elif path.startswith(f"/{self.server.name}/resolve/") and name in files:
            data = self.server.lie or files[name] if name.endswith(".safetensors") else files[name]
            etag = hashlib.sha256(files[name]).hexdigest()
            self._send(data, body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(b"", body, {"X-Error-Code": "RepoNotFound"}, 404)

    def _send(self, data: bytes, body: bool, headers: Mapping[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


@contextmanager
def hub(name: str, files: Mapping[str, bytes], lie: bytes = b"") -> Iterator[Hub]:
    """The server, running. With `lie` it sends other bytes than the hash it announces."""
    server = Hub(name, files, lie)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
