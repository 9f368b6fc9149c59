"""What is installed: the program, the event loop, the image library and its codecs, the extras."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import OptionsError
from async_img2ds.policy.findings import Finding, Images, Verdict, of_extras, of_images, of_loop
from async_img2ds.preflight import check_image_library
from async_img2ds.worker.process import loop_factory

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["extras_installed", "findings_of_libraries"]

_PACKAGE: Final = "async-img2ds"
# One of which everybody has, and one that is all others.
_NO_EXTRAS: Final = frozenset({"simd", "pillow", "all"})

# As metadata have it: the package s3fs of the extra 's3'.
_OF_EXTRA: Final = re.compile(r"([A-Za-z0-9._-]+).*;\s*extra\s*==\s*['\"]([^'\"]+)['\"]")


def findings_of_libraries() -> Iterator[Finding]:
    """Yield what there is to say of what is installed."""
    said = f"{_PACKAGE} {_version(_PACKAGE) or 'that is not installed'}, Python {platform.python_version()}"
    yield Finding("program", Verdict.OK, said)
    has_loop = loop_factory() is not None
    yield of_loop(_version("uvloop") or "" if has_loop else None, sys.platform != "win32")
    yield _finding_of_images()
    there, missing = extras_installed(requires(_PACKAGE) or [] if _version(_PACKAGE) else [])
    yield of_extras(there, missing)


def _finding_of_images() -> Finding:
    try:
        check_image_library()
    except OptionsError:
        advice = f"pip install '{_PACKAGE}[simd]' (faster, compiled here) or '{_PACKAGE}[pillow]' (ready to use)"
        return Finding("images", Verdict.PROBLEM, "no image library is installed", advice)
    from async_img2ds.images import codec

    missing = codec.missing_formats()
    return of_images(
        Images(
            codec.library(),
            is_simd=codec.is_simd(),
            may_be_simd=platform.machine().lower() in ("x86_64", "amd64"),
            formats=[name for name in codec.WEB_FORMATS if name not in missing],
            missing=missing,
            has_turbo=codec.has_turbo(),
            has_profiles=codec.converts_profiles(),
        )
    )


def extras_installed(requirements: list[str]) -> tuple[list[str], list[str]]:
    """Return the extras among *requirements* whose package is installed, and those whose is not."""
    there: list[str] = []
    missing: list[str] = []
    for requirement in requirements:
        found = _OF_EXTRA.fullmatch(requirement)
        if found and found[2] not in _NO_EXTRAS:
            (there if _version(found[1]) else missing).append(found[2])
    return there, missing


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
