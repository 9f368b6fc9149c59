"""What many tests share: real photographs, a real origin server, and one that misbehaves."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import origin as origin_server
import photographs as pictures
from async_img2ds.images import codec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from origin import Origin


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real photographs in the formats of the web, and half of one."""
    folder = tmp_path_factory.mktemp("photographs")
    pictures.write_all(folder)
    whole = (folder / "rocket.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="session")
def origin(photographs: Path) -> Iterator[Origin]:
    """Nginx on loopback, serving the photographs."""
    with origin_server.serve(photographs) as server:
        yield server


@pytest.fixture(autouse=True)
def _prepared_codec() -> None:
    """Decode in this process as a worker does; anew for each test, as pytest takes back its filters of warnings."""
    codec.prepare()


@pytest.fixture(scope="session")
def photographs_bytes(photographs: Path) -> dict[str, bytes]:
    """The photographs by name."""
    return {path.name: path.read_bytes() for path in photographs.iterdir()}


_ZONES = """
server:
  directory: "{folder}"
  pidfile: "{folder}/unbound.pid"
  username: ""
  chroot: ""
  use-syslog: no
  logfile: "{folder}/unbound.log"
  interface: 127.0.0.1
  port: {port}
  do-daemonize: no
  module-config: "iterator"
  local-zone: "example.test." static
  local-data: "pictures.example.test. A 127.0.0.1"
  local-data: "inside.example.test. A 10.0.0.5"
  local-data: "mixed.example.test. A 10.0.0.5"
  local-data: "mixed.example.test. A 127.0.0.1"
remote-control:
  control-enable: no
"""


@pytest.fixture(scope="session")
def dns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Unbound on loopback, with a few names; yields its address and port."""
    folder, port = tmp_path_factory.mktemp("dns"), origin_server.free_port()
    (folder / "unbound.conf").write_text(_ZONES.format(folder=folder, port=port))
    unbound = shutil.which("unbound") or "/usr/sbin/unbound"
    with subprocess.Popen([unbound, "-c", str(folder / "unbound.conf")]) as server:
        try:
            origin_server.wait_for_port(port)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


# A busy machine must not make a property look broken.
settings.register_profile("default", deadline=None)
settings.load_profile("default")
