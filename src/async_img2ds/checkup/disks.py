"""Room on the disks of temporary files and of the dataset, and how fast they take bytes; nothing is left on them."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import AsyncImg2dsError
from async_img2ds.policy.findings import Disk, Finding, Verdict, of_disk
from async_img2ds.storage import file_system, protocols
from async_img2ds.worker.room import disk_usage, least_room

if TYPE_CHECKING:
    from async_img2ds.options import DoctorOptions

__all__ = ["WRITING_S", "finding_of_output", "finding_of_temp"]

# Written to see how fast that is: so much, and for no longer.
WRITTEN_BYTES: Final = 64 * 2**20
PIECE_BYTES: Final = 2**20
WRITING_S: Final = 1.0


def finding_of_temp(options: DoctorOptions) -> Finding:
    """Return what there is to say of the disk for temporary files."""
    return of_disk(_disk("temp", Path(options.checkup.temp_folder or tempfile.gettempdir())))


def finding_of_output(options: DoctorOptions) -> Finding:
    """Return what there is to say of where the dataset goes."""
    folder = options.output.output_folder
    try:
        fs, path = file_system(folder)
    except AsyncImg2dsError as error:
        return Finding("output", Verdict.PROBLEM, f"{folder}: {error}", "install it, or choose another --output_folder")
    if "file" not in protocols(fs):
        return Finding("output", Verdict.OK, f"{folder}: not on this machine, so neither room nor speed was looked at")
    there = next(parent for parent in (Path(path), *Path(path).parents) if parent.exists())
    return of_disk(_disk("output", there))


def _disk(use: str, folder: Path) -> Disk:
    """Measure the disk of *folder*, which is there."""
    try:
        usage = disk_usage(folder)
        speed = _bytes_per_s(folder) if usage.free > 2 * WRITTEN_BYTES else None
    except OSError as error:
        return Disk(use, str(folder), 0, 0, None, f"cannot be written to: {error.strerror or error}")
    return Disk(use, str(folder), usage.free, least_room(usage.total), speed)


def _bytes_per_s(folder: Path) -> float:
    """Return how many bytes a second *folder* takes until they are on the disk, in a file without a name."""
    piece, written = os.urandom(PIECE_BYTES), 0
    with tempfile.TemporaryFile(dir=folder, prefix=".aimg2ds-") as file:
        began = time.monotonic()
        while written < WRITTEN_BYTES and time.monotonic() - began < WRITING_S:
            written += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        return written / max(1e-6, time.monotonic() - began)
