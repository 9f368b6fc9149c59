"""A real name server on loopback: unbound, with zones made up here, which can be ended and started again."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["NameServer", "serve"]

# It knows nothing but what it is told. unbound's own way of failing is to ask somebody who is not there.
_CONFIGURATION = """
server:
  directory: "{folder}"
  pidfile: "{folder}/unbound.pid"
  username: ""
  chroot: ""
  use-syslog: no
  logfile: "{folder}/unbound.log"
  log-queries: {logged}
  log-time-ascii: no
  interface: 127.0.0.1
  port: {port}
  do-daemonize: no
  num-threads: 1
  outgoing-range: 4096
  module-config: "iterator"
  do-not-query-localhost: no
  outbound-msg-retry: 0
  unknown-server-time-limit: 50
  local-zone: "." static
  local-zone: "refusing.test." always_refuse
  local-zone: "mute.test." deny
  local-zone: "failing.test." transparent
  include: "{folder}/names.conf"
forward-zone:
  name: "failing.test."
  forward-addr: 127.0.0.1@{closed}
remote-control:
  control-enable: no
"""


class NameServer:
    """A running server. Any name below ``refusing.test``, ``mute.test`` and ``failing.test`` does what that says."""

    def __init__(self, folder: Path, port: int) -> None:
        """Know where its files are, and where it is to listen."""
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Its address and port, as ``--dns_servers`` takes them."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        unbound = shutil.which("unbound") or shutil.which("unbound", path="/usr/sbin")
        if unbound is None:
            raise RuntimeError("unbound is not installed: apt-get install unbound")
        self._process = subprocess.Popen([unbound, "-c", str(self._folder / "unbound.conf")])
        origin.wait_for_port(self._port, seconds=30)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def queries(self) -> Counter[tuple[str, str]]:
        """Return how often it was asked for each name and kind of record; nothing unless it was started with a log."""
        log = self._folder / "unbound.log"
        lines = log.read_text().splitlines() if log.exists() else []
        # [1700000000] unbound[1:0] info: 127.0.0.1 name.test. A IN
        asked = (line.split() for line in lines if line.endswith(" IN"))
        return Counter((words[-3].lower(), words[-2]) for words in asked)

    def forget_queries(self) -> None:
        """Empty the log."""
        os.truncate(self._folder / "unbound.log", 0)


@contextmanager
def serve(
    records: Iterable[str], *, logged: bool = False, forwarded: Mapping[str, str] = MappingProxyType({})
) -> Iterator[NameServer]:
    """Answer on a free port until the end of the block.

    Args:
        records: what it knows, each as a line of a zone file: ``pictures.test. 300 IN A 127.0.0.1``.
        logged: whether to keep a log of the queries.
        forwarded: zones that other servers know, by name: each ``address@port``.

    """
    with tempfile.TemporaryDirectory(prefix="names-") as name:
        folder, port = Path(name), origin.free_port()
        lines = ["server:", *(f"  local-data: '{record}'" for record in records)]
        lines += [f'  local-zone: "{zone}." transparent' for zone in forwarded]
        for zone, known_by in forwarded.items():
            lines += ["forward-zone:", f'  name: "{zone}."', f"  forward-addr: {known_by}"]
        (folder / "names.conf").write_text("\n".join([*lines, ""]))
        words = {"folder": folder, "port": port, "closed": origin.free_port(), "logged": "yes" if logged else "no"}
        (folder / "unbound.conf").write_text(_CONFIGURATION.format(**words))
        server = NameServer(folder, port)
        try:
            server.start()
            yield server
        finally:
            server.kill()
