"""A real origin server on loopback: nginx, with a folder of pictures and a few places that fail in the web's ways.

It can be many hosts: addresses of loopback that serve the same pictures over HTTP, and over HTTPS those that have a
certificate.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_CONFIGURATION = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 8192; }}
http {{
  log_format urls '$status $msec $request_uri';
  limit_req_zone $server_addr zone=strict:1m rate={rate}r/s;
  limit_req_status 429;
  access_log {log};
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  types {{ image/jpeg jpg; image/png png; image/webp webp; image/gif gif; text/html html; }}
  keepalive_requests 1000000;
  sendfile on;
  ssl_protocols TLSv1.2 TLSv1.3;
{hosts}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {pictures};
    location = /page.jpg {{
      default_type image/jpeg;
      return 200 "<!DOCTYPE html><html><body>not here any more</body></html>";
    }}
    location = /loop {{ return 302 /loop; }}
    location = /busy {{ return 503; }}
    location = /empty {{ return 200; }}
    location = /nocontent {{ return 204; }}
    location = /gone {{ return 410; }}
    location = /limited {{ add_header Retry-After 1 always; return 429; }}
    location = /elsewhere {{ return 302 ftp://127.0.0.1/x.jpg; }}
    location = /inside {{ return 302 http://10.0.0.1/x.jpg; }}
    location = /away {{ return 302 http://$arg_host:{port}/coffee.png; }}
    location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}
    location /reserved/ {{ alias {pictures}/; add_header X-Robots-Tag "noai, noimageai"; }}
    location /others/ {{ alias {pictures}/; add_header X-Robots-Tag "otherbot: noai"; }}
    location /strict/ {{ alias {pictures}/; limit_req zone=strict burst=10 nodelay; }}
    location /slow/ {{ alias {pictures}/; limit_rate 200k; }}
  }}
}}
"""
_HOST = "  server {{ listen {address}:{port} backlog=4096; root {pictures}; }}\n"
_SECURE_HOST = (
    "  server {{ listen {address}:{port} ssl backlog=4096; root {pictures}; location = /stranger {{ return 407; }}"
    " ssl_certificate {certificate}; ssl_certificate_key {certificate}; }}\n"
)


class Origin:
    """A running server."""

    def __init__(self, port: int, pictures: Path, log: Path, secure_port: int = 0) -> None:
        """Know where it listens, what it serves, and what it logs."""
        self.port = port
        self.secure_port = secure_port
        self.pictures = pictures
        self._log = log

    def url(self, path: str, address: str = "127.0.0.1") -> str:
        """Return the URL of *path* on *address*."""
        return f"http://{address}:{self.port}/{path.lstrip('/')}"

    def secure_url(self, path: str, address: str) -> str:
        """Return the HTTPS URL of *path* on *address*."""
        return f"https://{address}:{self.secure_port}/{path.lstrip('/')}"

    def requests(self) -> list[str]:
        """Return the paths asked for so far, in order; empty unless it was started with a log."""
        return [line.split(" ", 2)[2] for line in self._log.read_text().splitlines()] if self._log.exists() else []

    def first_request_at(self) -> float | None:
        """Return when the first answer was sent, as a Unix time in seconds; None if none was, or none is logged."""
        with self._log.open() as lines:
            first = next(lines, "")
        return float(first.split(" ")[1]) if first else None

    def answers(self) -> list[tuple[int, float]]:
        """Return the answers sent so far, in order: status, and when, as a Unix time in seconds."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [(int(status), float(at)) for status, at, _ in (line.split(" ", 2) for line in lines)]

    def forget_requests(self) -> None:
        """Empty the log."""
        os.truncate(self._log, 0)


@contextmanager
def serve(
    pictures: Path,
    *,
    logged: bool = False,
    addresses: Iterable[str] = (),
    certificates: Mapping[str, Path] = MappingProxyType({}),
    rate: int = 50,
) -> Iterator[Origin]:
    """Serve the folder *pictures* on a free port until the end of the block.

    Args:
        pictures: what to serve.
        logged: whether to keep a log of the requests.
        addresses: further addresses of loopback to serve it on, over HTTP.
        certificates: addresses to serve it on over HTTPS, each with a file of its certificate and key.
        rate: how many requests a second it bears below ``strict/``, ten at a time more, before it answers 429.

    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        raise RuntimeError("nginx is not installed: apt-get install nginx-light")
    with tempfile.TemporaryDirectory(prefix="origin-") as name:
        folder = Path(name)
        port, secure_port, log = free_port(), free_port(), folder / "access.log"
        hosts = [_HOST.format(address=address, port=port, pictures=pictures) for address in addresses]
        hosts += [
            _SECURE_HOST.format(address=address, port=secure_port, pictures=pictures, certificate=certificate)
            for address, certificate in certificates.items()
        ]
        configuration = folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                user=_served_as(),
                folder=folder,
                pictures=pictures,
                port=port,
                rate=rate,
                hosts="".join(hosts),
                log=f"{log} urls" if logged else "off",
            )
        )
        with subprocess.Popen(
            [nginx, "-e", str(folder / "error.log"), "-c", str(configuration)], stderr=subprocess.DEVNULL
        ) as server:
            try:
                wait_for_port(port)
                yield Origin(port, pictures, log, secure_port)
            finally:
                server.terminate()


def _served_as() -> str:
    """Return the directive that lets nginx read what its starter can: started by root, it would serve as another."""
    return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};" if os.geteuid() == 0 else ""


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 10, address: str = "127.0.0.1") -> None:
    """Return as soon as somebody listens on *port* of *address*."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return
