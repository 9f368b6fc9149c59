"""Folders on local disk for what is not finished: gone with the process that made them, or with the next that looks."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from async_img2ds.storage.holders import locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["remove_unheld", "staging_in", "sweep_staging", "temporary_folder"]

_NAME: Final = re.compile(r"aimg2ds-[0-9a-f]{32}")


def staging_in(parent: Path) -> Path:
    """Return a folder in *parent* that nobody else has; nothing is created."""
    return parent / f"aimg2ds-{uuid.uuid4().hex}"


def sweep_staging(parent: Path) -> None:
    """Remove what processes that were killed have left in *parent*: those staging folders that nobody holds."""
    for folder in filter(_is_staging, parent.iterdir() if parent.exists() else ()):
        remove_unheld(folder)


def remove_unheld(folder: Path) -> None:
    """Remove the staging folder *folder*, unless anybody holds it."""
    with suppress(OSError):  # it is held, or somebody else's
        if (lock := locked(folder, make=False)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Have a folder in *parent*, which need not exist, during the block.

    Raises:
        OSError: it cannot be made.

    """
    made, held, is_made = staging_in(parent), None, False
    while not is_made:
        made.mkdir(parents=True, exist_ok=True)
        with suppress(BlockingIOError, FileNotFoundError):  # another process looks whether anybody holds it
            held = locked(made, shared=True)
            is_made = True
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if held is not None:
            os.close(held)


def _is_staging(path: Path) -> bool:
    """Whether *path* is a folder in which a run of this user stages, by its name, which nobody else gives one."""
    with suppress(OSError):
        ours = not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()
        return ours and _NAME.fullmatch(path.name) is not None and path.is_dir() and not path.is_symlink()
    return False
