"""An object store on loopback, and a proxy before it that answers badly at chosen requests.

The store is moto's server. The proxy passes requests on one by one, writes down what was done, and for a request that
its plan names resets the connection or answers 500, before the store has heard of it or after it has done it.
"""

from __future__ import annotations

import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import boto3

from origin import free_port, wait_for_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["BUCKET", "Bucket", "Fault", "Proxy", "Request", "serving"]

BUCKET: Final = "chaos"
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}
# Moto is slow to be imported.
STARTS_S: Final = 60
HOP_BY_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length"})


class Fault(StrEnum):
    """What the proxy does with a request."""

    RESET = "reset"
    RESET_AFTER = "reset after it was done"
    ERROR = "500"
    ERROR_AFTER = "500 after it was done"
    KILL = "the run is killed"
    KILL_AFTER = "the run is killed after it was done"

    @property
    def after(self) -> bool:
        """Whether the store does what was asked."""
        return self in {Fault.RESET_AFTER, Fault.ERROR_AFTER, Fault.KILL_AFTER}


@dataclass(frozen=True, slots=True)
class Request:
    """A request: its *kind* as S3 calls it, and the *key* that it is about."""

    kind: str
    key: str

    @classmethod
    def of(cls, method: str, target: str) -> Request:
        """Return what *method* on *target* asks for."""
        parts = urlsplit(target)
        asked = parse_qs(parts.query, keep_blank_values=True)
        key = unquote(parts.path).removeprefix(f"/{BUCKET}").lstrip("/")
        kinds = {
            "PUT": "UploadPart" if "partNumber" in asked else "PutObject",
            "POST": "CreateMultipartUpload"
            if "uploads" in asked
            else "CompleteMultipartUpload"
            if "uploadId" in asked
            else "DeleteObjects",
            "DELETE": "AbortMultipartUpload" if "uploadId" in asked else "DeleteObject",
        }
        return cls(kinds.get(method, method.title()), key)

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return self.kind not in {"Get", "Head"}


@dataclass
class Proxy:
    """Between a run and the store: *plan* says what happens to a request, and *done* is told of what the store did."""

    store_port: int
    plan: Callable[[Request], Fault | None] = lambda _: None
    done: Callable[[Request], None] = lambda _: None
    kill: Callable[[], None] = lambda: None
    seen: list[tuple[Request, Fault | None]] = field(default_factory=list)
    port: int = 0
    _one_by_one: threading.Lock = field(default_factory=threading.Lock)

    def pass_on(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, bytes] | None:
        """Return what is answered: status, headers and body; None if the connection is reset."""
        request = Request.of(method, target)
        # The store is asked for one thing at a time, so that what was done is known in order.
        with self._one_by_one:
            fault = self.plan(request)
            self.seen.append((request, fault))
            answer = None
            if fault is None or fault.after:
                answer = self._asked(method, target, headers, body)
                if answer[0] < http.client.BAD_REQUEST and request.writes:
                    self.done(request)
            if fault in {Fault.KILL, Fault.KILL_AFTER}:
                self.kill()
                return None
            if fault in {Fault.ERROR, Fault.ERROR_AFTER}:
                said = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
                return 500, {"Content-Type": "application/xml"}, said
            return None if fault else answer

    def _asked(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.store_port)
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = proxy.pass_on(self.command, self.path, dict(self.headers.items()), body)
            if answer is None:
                # Closed with a reset, not with an end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
            status, headers, content = answer
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815  as the base class calls them

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def finish(self) -> None:
            with suppress(OSError, ValueError):  # it was reset, by us or by a run that was killed
                super().finish()

        def handle(self) -> None:
            with suppress(OSError, ValueError):
                super().handle()

    return Handler


class Bucket:
    """What lies in the store, seen without the proxy."""

    def __init__(self, port: int) -> None:
        """Make the bucket."""
        self._client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        self._client.create_bucket(Bucket=BUCKET)
        self._known: dict[tuple[str, str, Any], bytes] = {}

    def contents(self, prefix: str) -> dict[str, bytes]:
        """Return the objects below *prefix* by name."""
        found: dict[str, bytes] = {}
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/"):
            for entry in page.get("Contents", []):
                told = entry["Key"], entry["ETag"], entry["LastModified"]
                if told not in self._known:
                    self._known[told] = self._client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
                found[entry["Key"].removeprefix(f"{prefix}/")] = self._known[told]
        return found

    def versions(self, prefix: str) -> dict[str, tuple[str, Any]]:
        """Return the digest and the time of each object below *prefix*, which another upload changes."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        return {
            entry["Key"].removeprefix(f"{prefix}/"): (entry["ETag"], entry["LastModified"])
            for page in pages
            for entry in page.get("Contents", [])
        }

    def pending(self, prefix: str) -> list[str]:
        """Return the keys below *prefix* of which an upload was begun, and neither completed nor given up."""
        uploads = self._client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return sorted(upload["Key"] for upload in uploads if upload["Key"].startswith(f"{prefix}/"))


@contextmanager
def serving() -> Iterator[tuple[Bucket, Proxy]]:
    """Run a store and a proxy until the end of the block."""
    store_port = free_port()
    # Parts may be of any size: the pictures are small.
    environment = {**os.environ, **CREDENTIALS, "S3_UPLOAD_PART_MIN_SIZE": "1"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(store_port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as store:
        try:
            wait_for_port(store_port, STARTS_S)
            proxy = Proxy(store_port)
            server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy))
            server.daemon_threads = True
            proxy.port = server.server_address[1]
            threading.Thread(target=server.serve_forever, daemon=True, name="proxy").start()
            try:
                yield Bucket(store_port), proxy
            finally:
                server.shutdown()
                server.server_close()
        finally:
            store.terminate()
