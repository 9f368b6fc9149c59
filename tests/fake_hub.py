"""A small fake of the Hugging Face Hub on loopback: what ``huggingface_hub`` asks it for to write a dataset, no more.

It is not the Hub. What it answers was compared with what huggingface_hub 2.4.0 sends and reads (``hf_api.py``,
``_commit_api.py``, ``lfs.py``, ``file_download.py``; 0.34.0 and 1.0.0 were tried with it, too), and with git-lfs' batch
API; which files are LFS is by the endings that a new dataset's ``.gitattributes`` names. Xet, which it has not, is
switched off by ``HF_HUB_DISABLE_XET``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FakeHub", "Repo", "fake_hub"]

TOKEN = "hf_fake"  # noqa: S105  it opens nothing
LFS_ENDINGS = (".tar", ".parquet", ".tfrecord")
# Fewer than any test has, so that listings have several pages.
PAGE = 4


@dataclass
class Repo:
    """A dataset: the files of each branch by path, the commits with the paths of each, and what was uploaded."""

    is_private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {".gitattributes": b"*.tar lfs\n"}})
    commits: list[tuple[str, list[str], list[str]]] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        """Those on the branch main that were put there."""
        return {path: content for path, content in self.branches["main"].items() if path != ".gitattributes"}


@dataclass
class FakeHub:
    """What it has, what it was asked, and how it is to fail.

    *refuses* says of a method and path with what status, *loses* that it is done and its answer lost on the way.
    """

    port: int = 0
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    refuses: Callable[[str, str], int] = lambda _method, _path: 0
    loses: Callable[[str, str], bool] = lambda _method, _path: False

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, home: object) -> dict[str, str]:
        """Return what has huggingface_hub ask here, with files of its own in *home*."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": str(home),
            "NO_PROXY": "127.0.0.1",
        }


class _Handler(BaseHTTPRequestHandler):
    """One request: found by its path, and answered as the Hub does."""

    hub: FakeHub
    protocol_version = "HTTP/1.1"
    is_lost = False

    def log_message(self, *_: object) -> None:
        """Be silent."""

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        url = urlsplit(self.path)
        self.hub.asked.append((self.command, url.path))
        if status := self.hub.refuses(self.command, url.path):
            self._json({"error": "as the test wants it"}, status)
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not url.path.startswith("/objects/"):
            self._json({"error": "Invalid username or password."}, 401)
            return
        self.is_lost = self.hub.loses(self.command, url.path)
        for method, pattern, answer in ROUTES:
            if method == self.command and (found := re.fullmatch(pattern, url.path)):
                try:
                    getattr(self, answer)(*map(unquote, found.groups()), query=parse_qs(url.query), body=body)
                except KeyError as missing:  # a repository, or a branch
                    self._json({"error": f"there is no {missing}"}, 404, {"X-Error-Code": "RevisionNotFound"})
                return
        self._json({"error": f"the fake has no {self.command} {self.path}"}, 501)

    do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815  as http.server calls them

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        if self.is_lost:
            content, status, headers, self.is_lost = b"", 504, None, False
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _create(self, *, body: bytes, **_: Any) -> None:
        told = json.loads(body)
        name = f"{told['organization']}/{told['name']}"
        assert told["type"] == "dataset"
        if name in self.hub.repos:
            self._json(
                {"error": "You already created this dataset repo", "url": f"{self.hub.url}/datasets/{name}"}, 409
            )
            return
        is_private = told.get("visibility") == "private" or bool(told.get("private"))
        self.hub.repos[name] = Repo(is_private)
        self._json({"url": f"{self.hub.url}/datasets/{name}", "name": name, "id": "0"})

    def _info(self, repo: str, *_: str, **__: Any) -> None:
        found = self.hub.repos[repo]
        told = {"_id": "0", "id": repo, "private": found.is_private, "sha": "0" * 40, "siblings": [], "tags": []}
        self._json({**told, "xetEnabled": False})

    def _branch(self, repo: str, branch: str, **_: Any) -> None:
        branches = self.hub.repos[repo].branches
        if branch in branches:
            self._json({"error": "Reference already exists"}, 409)
            return
        branches[branch] = dict(branches["main"])
        self._json({})

    def _tree(self, repo: str, branch: str, *, query: dict[str, list[str]], **_: Any) -> None:
        files = sorted(self.hub.repos[repo].branches[branch].items())
        folders = sorted({path.rpartition("/")[0] for path, _ in files} - {""})
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in folders]
        entries += [_entry(path, content) for path, content in files]
        begin = int(query.get("cursor", ["0"])[0])
        links = {}
        if begin + PAGE < len(entries):
            again = f"{self.hub.url}{urlsplit(self.path).path}?recursive=true&cursor={begin + PAGE}"
            links = {"Link": f'<{again}>; rel="next"'}
        self._json(entries[begin : begin + PAGE], headers=links)

    def _paths(self, repo: str, branch: str, *, body: bytes, **_: Any) -> None:
        files = self.hub.repos[repo].branches[branch]
        asked = parse_qs(body.decode())["paths"]
        self._json([_entry(path, files[path]) for path in asked if path in files])

    def _preupload(self, repo: str, branch: str, *, body: bytes, **_: Any) -> None:
        there = self.hub.repos[repo].branches[branch]
        answers = []
        for one in json.loads(body)["files"]:
            is_lfs = one["path"].endswith(LFS_ENDINGS)
            oid = _oid(one["path"], there[one["path"]]) if one["path"] in there else None
            mode = "lfs" if is_lfs else "regular"  # also of empty files, which the client then sends as text
            answers.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": answers})

    def _batch(self, _repo: str, *, body: bytes, **_: Any) -> None:
        told = json.loads(body)
        assert (told["operation"], told["hash_algo"]) == ("upload", "sha256")
        objects = []
        for one in told["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/objects/{one['oid']}", "header": {}}}
            objects.append(one if one["oid"] in self.hub.objects else {**one, "actions": actions})
        self._json({"transfer": "basic", "objects": objects})

    def _object(self, oid: str, *, body: bytes, **_: Any) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.objects[oid] = body
        self.hub.uploads.append(oid)
        self._send(b"")

    def _commit(self, repo: str, branch: str, *, body: bytes, **_: Any) -> None:
        found = self.hub.repos[repo]
        files, paths, gone, summary = dict(found.branches[branch]), [], [], ""
        for line in body.splitlines():
            key, value = (told := json.loads(line))["key"], told["value"]
            if key == "header":
                summary = value["summary"]
            elif key == "deletedFile":
                if files.pop(value["path"], None) is None:
                    words = {"error": "A file with this name doesn't exist"}
                    self._json(words, 404, {"X-Error-Code": "EntryNotFound"})
                    return
                gone.append(value["path"])
            else:
                content = base64.b64decode(value["content"]) if key == "file" else self.hub.objects[value["oid"]]
                assert (key == "lfsFile") == _is_lfs(value["path"], content)
                files[value["path"]] = content
                paths.append(value["path"])
        found.branches[branch] = files
        found.commits.append((summary, paths, gone))
        oid = f"{len(found.commits):040x}"
        self._json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/datasets/{repo}/commit/{oid}"})

    def _validate(self, *, body: bytes, **_: Any) -> None:
        content = json.loads(body)["content"]
        if content.startswith("---\n") and "\n---\n" not in content:
            self._json({"errors": [{"message": "the front matter does not end"}]}, 400)
            return
        self._json({"errors": [], "warnings": []})

    def _resolve(self, repo: str, branch: str, path: str, **_: Any) -> None:
        content = self.hub.repos[repo].branches[branch].get(path)
        if content is None:
            self._send(b"", 404, {"X-Error-Code": "EntryNotFound"})
            return
        self._send(content, 200, {"ETag": f'"{_oid(path, content)}"', "X-Repo-Commit": "0" * 40})


ROUTES = (
    ("POST", r"/api/repos/create", "_create"),
    ("POST", r"/api/datasets/([^/]+/[^/]+)/branch/(.+)", "_branch"),
    ("GET", r"/api/datasets/([^/]+/[^/]+)", "_info"),
    ("GET", r"/api/datasets/([^/]+/[^/]+)/revision/([^/]+)", "_info"),
    ("GET", r"/api/datasets/([^/]+/[^/]+)/tree/([^/]+)", "_tree"),
    ("POST", r"/api/datasets/([^/]+/[^/]+)/paths-info/([^/]+)", "_paths"),
    ("POST", r"/api/datasets/([^/]+/[^/]+)/preupload/([^/]+)", "_preupload"),
    ("POST", r"/api/datasets/([^/]+/[^/]+)/commit/([^/]+)", "_commit"),
    ("POST", r"/api/validate-yaml", "_validate"),
    ("POST", r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", "_batch"),
    ("PUT", r"/objects/([0-9a-f]{64})", "_object"),
    ("HEAD", r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "_resolve"),
    ("GET", r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "_resolve"),
)


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _is_lfs(path: str, content: bytes) -> bool:
    return path.endswith(LFS_ENDINGS) and bool(content)


def _oid(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if _is_lfs(path, content) else _git_sha1(content)


def _entry(path: str, content: bytes) -> dict[str, Any]:
    """Return a file as the Hub lists it: of LFS the git id is that of a pointer."""
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": _git_sha1(content)}
    if _is_lfs(path, content):
        digest = hashlib.sha256(content).hexdigest()
        entry |= {"oid": _git_sha1(digest.encode()), "lfs": {"oid": digest, "size": len(content), "pointerSize": 130}}
    return entry


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Be silent of clients that were ended."""


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Serve one during the block."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with _Server(("127.0.0.1", 0), handler) as server:
        hub.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            with suppress(OSError):
                server.shutdown()
            thread.join()
