"""The program without the checks that it makes of addresses, answers and images, to see what they cost.

Put on PYTHONPATH by the scenario ``trust`` alone: each check is taken out of its module as soon as that is imported.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def _no_addresses(module: ModuleType) -> None:
    module.AddressPolicy.allows = lambda *_: True
    module.AddressPolicy.allows_port = lambda *_: True


def _no_consent(module: ModuleType) -> None:
    module.Consent.seen_in = lambda *_: []


def _no_answers(module: ModuleType) -> None:
    for name in ("data_received", "feed_data", "set_exception"):
        delattr(module._Talk, name)


def _no_bounds(module: ModuleType) -> None:
    for name in ("_check_size", "_check_scans", "_webp_size"):
        setattr(module, name, lambda *_: None)


def _no_memory(module: ModuleType) -> None:
    module.PixelMemory.of = lambda *_: nullcontext()


def _no_guard(module: ModuleType) -> None:
    module.Guard.decoding = lambda *_: nullcontext()


CHECKS: Final[Mapping[str, Callable[[ModuleType], None]]] = {
    "async_img2ds.policy.urls": _no_addresses,
    "async_img2ds.policy.optout": _no_consent,
    "async_img2ds.fetch.client": _no_answers,
    "async_img2ds.images.codec": _no_bounds,
    "async_img2ds.images.memory": _no_memory,
    "async_img2ds.worker.guard": _no_guard,
}


class _Unchecked(importlib.abc.MetaPathFinder):
    """Finds the modules with checks as anybody does, and takes these out behind their import."""

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in CHECKS:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                CHECKS[fullname](module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Unchecked())
