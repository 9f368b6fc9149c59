"""What many tests share: real photographs, a real origin server, and one that misbehaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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
    folder.chmod(0o755)
    for parent in list(folder.parents)[:2]:
        parent.chmod(0o755)  # nginx, started by root, serves as another user
    return folder


@pytest.fixture(scope="session")
def origin(photographs: Path) -> Iterator[Origin]:
    """Nginx on loopback, serving the photographs."""
    with origin_server.serve(photographs) as server:
        yield server


@pytest.fixture(autouse=True, scope="session")
def _prepared_codec() -> None:
    """Decode in this process as a worker does."""
    codec.prepare()
