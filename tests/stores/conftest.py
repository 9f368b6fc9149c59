"""Places under test: real servers on this machine, each started once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fsspec.config
import pytest

import origin as origin_server
from stores import servers
from stores.program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from origin import Origin
    from stores.servers import Place

# So called in the parameters of tests, and in servers.py.
PLACES = ["s3", "azure", "gcs", "sftp"]
OTHER_HOST = "127.0.0.2"


def _opened(name: str) -> Iterator[Place]:
    # What reads them when it is imported is imported with the server.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        with getattr(servers, name)() as place:
            for variable, value in place.variables.items():
                patch.setenv(variable, value)
            fsspec.config.set_conf_env(fsspec.config.conf, place.variables)
            yield place


@pytest.fixture(scope="session")
def s3() -> Iterator[Place]:
    """Moto's server."""
    yield from _opened("s3")


@pytest.fixture(scope="session")
def azure() -> Iterator[Place]:
    """Azurite."""
    yield from _opened("azure")


@pytest.fixture(scope="session")
def gcs() -> Iterator[Place]:
    """gcp-storage-emulator."""
    yield from _opened("gcs")


@pytest.fixture(scope="session")
def sftp() -> Iterator[Place]:
    """OpenSSH."""
    yield from _opened("sftp")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    """Each of the servers."""
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def web(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """Nginx at two addresses, which are two hosts, with a folder of its own."""
    folder = tmp_path_factory.mktemp("web")
    for path in photographs.iterdir():
        (folder / path.name).hardlink_to(path)
    with origin_server.serve(folder, logged=True, addresses=[OTHER_HOST]) as server:
        yield server


@pytest.fixture
def program(place: Place, tmp_path: Path) -> Program:
    """The program, led to *place*."""
    return Program(place, tmp_path)
