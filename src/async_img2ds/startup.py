"""How a process that is this program's own starts, so that it starts quickly and stays quick.

Not for a process of somebody else's, such as that of a script that calls ``download``.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Final

__all__ = ["begin", "keep_pandas_out", "settle"]

# A collection looks at every object that is alive, and a worker has some hundred thousand in flight. Samples leave few
# cycles, the tracebacks of failures above all, so collecting after 50,000 objects more than were freed costs nothing
# to speak of and holds a few megabytes; Python's own 700 cost 40 % of a request at 1,000 in flight.
GARBAGE_OBJECTS: Final = 50_000
GARBAGE_GENERATIONS: Final = (20, 50)


def begin() -> None:
    """Collect no garbage until :func:`settle`: what is made while modules are imported stays.

    And keep the linear algebra that comes with numpy from starting a thread a core, which spin: 0.07 s of CPU in each
    process on two cores, for nothing.
    """
    gc.disable()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def settle() -> None:
    """Leave what is there now out of all collections, and collect seldom from here on."""
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, *GARBAGE_GENERATIONS)
    gc.enable()


def keep_pandas_out() -> None:
    """Have pyarrow do without pandas, which it would import at the first array: half a second, and 40 MB."""
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([])  # it asks once
    finally:
        sys.meta_path.remove(_NoPandas)


class _NoPandas:
    """A finder of modules that finds out that there is no pandas."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)
