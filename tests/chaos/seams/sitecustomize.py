"""What a run under the harness does otherwise: Python imports this in each of its processes, before the program.

``CHAOS_WORKER`` is started in the place of Python for workers, so that they can be traced without their parent.
``CHAOS_NAMES`` is a folder that counts processes, so that random names are the same in each run and calls that concern
a file can be picked by its name. ``CHAOS_PART_BYTES`` is the size of the parts of uploads to an object store.
"""

from __future__ import annotations

import itertools
import os
import sys
import uuid
from contextlib import suppress
from pathlib import Path


def _number(folder: Path) -> int:
    """Return how many processes were here before this one."""
    for number in itertools.count():
        with suppress(FileExistsError):
            (folder / str(number)).mkdir()
            return number
    raise AssertionError


if "CHAOS_WORKER" in os.environ:
    sys.executable = os.environ["CHAOS_WORKER"]

if "CHAOS_NAMES" in os.environ:
    names = itertools.count(_number(Path(os.environ["CHAOS_NAMES"])) * 10_000 + 1)
    # The program takes the first eight digits.
    uuid.uuid4 = lambda: uuid.UUID(f"{next(names):08d}{'0' * 24}")

if "CHAOS_PART_BYTES" in os.environ:
    with suppress(ImportError):
        import s3fs.core

        s3fs.core.calculate_chunksize = lambda *_, **__: int(os.environ["CHAOS_PART_BYTES"])
