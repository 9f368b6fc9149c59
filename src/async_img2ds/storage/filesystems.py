"""Which file system a URL is of, by fsspec."""

from __future__ import annotations

from typing import Any, Final

import fsspec

from async_img2ds.errors import MissingExtraError, OptionsError

__all__ = ["file_system", "protocols"]

_EXTRAS: Final = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of *url* and the path of *url* in it.

    Raises:
        MissingExtraError: the file system is an optional package.
        OptionsError: there is no such file system.

    """
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        scheme = url.partition("://")[0]
        if scheme in _EXTRAS:
            raise MissingExtraError(f"{scheme}://", _EXTRAS[scheme]) from error
        raise OptionsError(f"{url}: {error}") from error
    except ValueError as error:
        raise OptionsError(f"{url}: {error}") from error
    return fs, path


def protocols(fs: Any) -> frozenset[str]:  # noqa: ANN401  fsspec's file systems are untyped
    """Return the names under which fsspec knows the file system *fs*: it says one or several."""
    return frozenset([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol)
