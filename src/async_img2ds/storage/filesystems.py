"""Which file system a URL is of, by fsspec, which is told credentials and servers by its own configuration."""

from __future__ import annotations

from typing import Any, Final

import fsspec

from async_img2ds.errors import AsyncImg2dsError, MissingExtraError, OptionsError, StorageError

__all__ = ["OBJECT_STORES", "file_system", "folder_system", "protocols"]

# File systems without folders, whose top ones are buckets, and whose files appear when they are whole.
OBJECT_STORES: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})

_EXTRAS: Final = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "ssh": "ssh",
    "sftp": "ssh",
    "hf": "hf",
}
_SSH: Final = ("ssh", "sftp")
# What is no package, and so no extra: the file system's own client.
_DRIVERS: Final = {
    "hdfs": "hdfs:// is read by Hadoop's own library: install Java and a Hadoop client, and set JAVA_HOME, HADOOP_HOME "
    "and CLASSPATH=$($HADOOP_HOME/bin/hadoop classpath --glob), on each machine that fetches",
}


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of *url* and the path of *url* in it.

    Raises:
        MissingExtraError: the file system is an optional package.
        OptionsError: there is no such file system, or what it needs is not on this machine.

    """
    scheme = url.partition("://")[0]
    try:
        fs, path = _ssh(url) if scheme in _SSH else fsspec.core.url_to_fs(url)
    except ImportError as error:
        if scheme in _EXTRAS:
            raise MissingExtraError(f"{scheme}://", _EXTRAS[scheme]) from error
        raise OptionsError(f"{url}: {error}") from error
    except ValueError as error:
        raise OptionsError(f"{url}: {error}") from error
    except OSError as error:
        if scheme in _DRIVERS:
            said, *_ = str(error).splitlines() or [""]
            raise OptionsError(f"{_DRIVERS[scheme]} ({said})") from error
        raise
    if not OBJECT_STORES.isdisjoint(protocols(fs)) and "@" in path.partition("/")[0]:
        raise OptionsError(
            f"{url}: credentials in the URL of an object store are not read; give them by the environment or a "
            "file, as docs/stores.md says"
        )
    return fs, path


def folder_system(url: str) -> tuple[Any, str]:
    """Do as :func:`file_system` for the folder of a dataset; some file systems connect when they are made.

    Raises:
        OptionsError: as there.
        StorageError: it cannot be reached, or lets nobody in.

    """
    try:
        fs, path = file_system(url)
    except AsyncImg2dsError:
        raise
    except Exception as error:  # each file system raises its own
        raise StorageError(f"output_folder: {url} cannot be reached: {str(error) or type(error).__name__}") from error
    if not OBJECT_STORES.isdisjoint(protocols(fs)) and not path.strip("/"):
        raise OptionsError(f"output_folder: {url} names no bucket; give one, and a folder in it")
    return fs, path


def _ssh(url: str) -> tuple[Any, str]:
    from async_img2ds.storage.ssh import SshFileSystem

    return SshFileSystem(**SshFileSystem._get_kwargs_from_urls(url)), SshFileSystem._strip_protocol(url)  # noqa: SLF001  how fsspec calls them, too


def protocols(fs: Any) -> frozenset[str]:  # noqa: ANN401  fsspec's file systems are untyped
    """Return the names under which fsspec knows the file system *fs*: it says one or several."""
    return frozenset([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol)
