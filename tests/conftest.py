"""What many tests share: real photographs, a real origin server, and one that misbehaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import name_server
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


RECORDS = (
    "pictures.example.test. 300 IN A 127.0.0.1",
    "inside.example.test. 300 IN A 10.0.0.5",
    "mixed.example.test. 300 IN A 10.0.0.5",
    "mixed.example.test. 300 IN A 127.0.0.1",
    "dead-or-alive.example.test. 300 IN A 127.0.9.9",
    "dead-or-alive.example.test. 300 IN A 127.0.0.1",
    "empty.example.test. 300 IN TXT nothing",
    *(f"crowd.example.test. 300 IN A 127.9.{number // 250}.{number % 250 + 1}" for number in range(400)),
)


@pytest.fixture(scope="session")
def dns() -> Iterator[str]:
    """Unbound on loopback, with a few names; yields its address and port."""
    with name_server.serve(RECORDS) as server:
        yield server.address


# A busy machine must not make a property look broken.
settings.register_profile("default", deadline=None)
settings.load_profile("default")
