"""A file that all processes of a user on this machine open, to tell each other something."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["open_shared", "shared_path"]


def shared_path(name: str, ending: str, folder: Path | None) -> Path:
    """Return where the user's file *name* is: in *folder*, by default that of temporary files."""
    owner = os.getuid() if hasattr(os, "getuid") else 0  # on Windows a folder of temporary files has one user
    return (folder or Path(tempfile.gettempdir())) / f"aimg2ds-{name}-{owner}.{ending}"


def open_shared(path: Path) -> int:
    """Return a descriptor of the file at *path*, which is made if it is not there.

    Raises:
        OSError: it is not to be had; a link of somebody else's making is not followed.

    """
    no_link = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)  # neither on Windows
    return os.open(path, os.O_RDWR | os.O_CREAT | no_link, 0o600)
