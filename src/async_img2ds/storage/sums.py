"""Size and digest of what was written, as the stats file of a shard has them."""

from __future__ import annotations

import hashlib
from typing import IO, TYPE_CHECKING, Final

from async_img2ds.records import FileSum
from async_img2ds.storage.base import SAMPLE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from async_img2ds.storage.base import Store

__all__ = ["FolderSum", "sum_in", "sum_of"]

_PIECE_BYTES: Final = 2**20


class FolderSum:
    """Adds up the files of a folder, which are added by name."""

    def __init__(self) -> None:
        """Begin with none."""
        self._bytes = self._files = 0
        self._lines = hashlib.sha256()

    def add(self, name: str, content: bytes) -> str:
        """Add the file *name*; return its own sum, in hex."""
        self._bytes += len(content)
        self._files += 1
        digest = hashlib.sha256(content).hexdigest()
        self._lines.update(f"{digest}  {name}\n".encode())  # as sha256sum prints it
        return digest

    def sum(self) -> FileSum:
        """Return what was added."""
        return FileSum(self._bytes, self._lines.hexdigest(), self._files)


def sum_of(path: Path) -> FileSum:
    """Return those of a file, or of a folder: of the lines that ``sha256sum`` prints of its files, by name."""
    if path.is_dir():
        return _sum_of_folder(
            (name, (path / name).read_bytes()) for name in sorted(entry.name for entry in path.iterdir())
        )
    with path.open("rb") as file:
        return _sum_of_file(file)


def sum_in(store: Store, name: str, *, is_folder: bool) -> FileSum:
    """Return what :func:`sum_of` does, of the file *name* of *store*, or of the samples in the folder of that name."""
    if is_folder:
        samples = sorted(entry for entry, _ in store.names(name) if SAMPLE_NAME.fullmatch(entry))
        return _sum_of_folder((entry, store.content(f"{name}/{entry}")) for entry in samples)
    with store.open(name) as file:
        return _sum_of_file(file)


def _sum_of_file(file: IO[bytes]) -> FileSum:
    size, digest = 0, hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        size += len(piece)
        digest.update(piece)
    return FileSum(size, digest.hexdigest())


def _sum_of_folder(files: Iterable[tuple[str, bytes]]) -> FileSum:
    total = FolderSum()
    for name, content in files:
        total.add(name, content)
    return total.sum()
