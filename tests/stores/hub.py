"""What Hugging Face's hub answers of a dataset's files: enough of its API for its own library to list and read them."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["REPOSITORY", "serving"]

REPOSITORY = "somebody/lists"
_API = f"/api/datasets/{REPOSITORY}"
_TREE = f"{_API}/tree/"
_FILES = f"/datasets/{REPOSITORY}/resolve/"
_COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _told(path: Path, name: str) -> dict[str, Any]:
    if path.is_dir():
        return {"type": "directory", "oid": _COMMIT, "size": 0, "path": name}
    return {"type": "file", "oid": _COMMIT, "size": path.stat().st_size, "path": name}


class _Hub(BaseHTTPRequestHandler):
    """The hub; *folder* has the files of its only dataset."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def do_GET(self) -> None:
        """Answer what is asked of the dataset, of its folders and of its files."""
        path = unquote(urlsplit(self.path).path)
        if path.startswith(_TREE) and (here := self._named(path, _TREE)).is_dir():
            self._json([_told(entry, str(entry.relative_to(self.folder))) for entry in here.iterdir()])
        elif path.startswith(_FILES) and (here := self._named(path, _FILES)).is_file():
            self._file(here.read_bytes())
        elif path.startswith(f"{_API}/revision/") or path == _API:
            about = {"id": REPOSITORY, "sha": _COMMIT, "private": False, "tags": [], "siblings": []}
            self._json({"_id": "1", "downloads": 0, "likes": 0, "gated": False, "disabled": False, **about})
        else:
            self._say(404, b"", X_Error_Code="EntryNotFound")

    do_HEAD = do_GET  # noqa: N815  as the base class calls it

    def do_POST(self) -> None:
        """Answer which of some paths there are."""
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        found = [(self.folder / name, name) for name in asked.get("paths", [])]
        self._json([_told(path, name) for path, name in found if path.exists()])

    def _named(self, path: str, prefix: str) -> Path:
        """Return what is called by *path*, behind *prefix* and a revision."""
        return self.folder / path.removeprefix(prefix).partition("/")[2]

    def _file(self, content: bytes) -> None:
        headers = {"ETag": '"1"', "X_Repo_Commit": _COMMIT, "Accept_Ranges": "bytes"}
        asked = self.headers.get("Range")
        if asked is None:
            self._say(200, content, **headers)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        end = min(int(last or len(content)), len(content) - 1)
        told = f"bytes {first}-{end}/{len(content)}"
        self._say(206, content[int(first) : end + 1], Content_Range=told, **headers)

    def _json(self, value: object) -> None:
        self._say(200, json.dumps(value).encode(), Content_Type="application/json")

    def _say(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the files of *folder* as the dataset :data:`REPOSITORY`; yield the hub's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (_Hub,), {"folder": folder}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True, name="hub").start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
