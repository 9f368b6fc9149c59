"""What lies in a folder elsewhere, page by page: a dataset may have millions of files.

Of each fsspec's ``ls`` makes a dict of all that the server says, and gives them when all are there: 1.3 kB of S3's.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fsspec.asyn import sync

from async_img2ds.storage.filesystems import protocols
from async_img2ds.storage.patience import status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from async_img2ds.storage.patience import Patience

__all__ = ["entries_in", "is_listed", "uploads_below"]

# The name of a file and its size in bytes, the name of a folder and None.
Entry: TypeAlias = "tuple[str, int | None]"

# Google's and Azure's most; S3 gives a thousand, whatever it is asked for.
PAGE: Final = 5000
# S3's most.
UPLOADS: Final = 1000
_FIELDS: Final = "items(name,size),prefixes,nextPageToken"


def entries_in(fs: Any, path: str, patience: Patience) -> Iterator[Entry]:  # noqa: ANN401  fsspec's file systems are untyped
    """Yield what lies in the folder *path* of *fs*, asked for with *patience*; nothing if there is none."""
    with suppress(FileNotFoundError):
        for name, size in _listed(fs, path, patience):
            if short := name.rstrip("/").rpartition("/")[2]:
                yield short, size


def is_listed(fs: Any, path: str, patience: Patience) -> bool:  # noqa: ANN401  as above
    """Whether there is a folder or bucket *path* in *fs*, as its first page tells, asked for with *patience*.

    An object store has a folder that has nothing in it.
    """
    try:
        next(_listed(fs, path, patience), None)
    except FileNotFoundError:
        return False
    return True


def _listed(fs: Any, path: str, patience: Patience) -> Iterator[Entry]:  # noqa: ANN401  as above
    lister = next((_LISTERS[name] for name in protocols(fs) if name in _LISTERS), _listed_at_once)
    return lister(fs, path, patience)


def _listed_at_once(fs: Any, path: str, patience: Patience) -> Iterator[Entry]:  # noqa: ANN401  as above
    fs.invalidate_cache(path)
    for entry in patience(fs.ls, path, detail=True):
        if entry["type"] in ("file", "directory"):
            yield entry["name"], int(entry["size"] or 0) if entry["type"] == "file" else None


def _listed_by_s3(fs: Any, path: str, patience: Patience) -> Iterator[Entry]:  # noqa: ANN401  as above
    bucket, key, _ = fs.split_path(path)
    prefix = f"{key}/" if key else ""
    asked = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/", "MaxKeys": PAGE}
    while True:
        page = patience(fs.call_s3, "list_objects_v2", **asked)
        yield from ((entry["Key"], entry["Size"]) for entry in page.get("Contents", ()) if entry["Key"] != prefix)
        yield from ((entry["Prefix"], None) for entry in page.get("CommonPrefixes", ()))
        if not (token := page.get("NextContinuationToken")):
            return
        asked["ContinuationToken"] = token


def uploads_below(fs: Any, path: str) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401  as above
    """Yield the uploads that were begun to *path* in S3, or below it, and neither completed nor given up."""
    bucket, key, _ = fs.split_path(path)
    asked = {"Bucket": bucket, "Prefix": key, "MaxUploads": UPLOADS}
    while True:
        page = fs.call_s3("list_multipart_uploads", **asked)
        yield from page.get("Uploads", ())
        if not page.get("IsTruncated"):
            return
        asked |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _listed_by_gcs(fs: Any, path: str, patience: Patience) -> Iterator[Entry]:  # noqa: ANN401  as above
    bucket, key, _ = fs.split_path(path)
    prefix, token = f"{key}/" if key else None, None
    asked = {"delimiter": "/", "prefix": prefix, "maxResults": PAGE, "fields": _FIELDS}
    while True:
        page = patience(fs.call, "GET", "b/{}/o", bucket, **asked, pageToken=token, json_out=True)
        yield from ((entry["name"], int(entry["size"])) for entry in page.get("items", ()) if entry["name"] != prefix)
        yield from ((name, None) for name in page.get("prefixes", ()))
        if not (token := page.get("nextPageToken")):
            return


def _listed_by_azure(fs: Any, path: str, patience: Patience) -> Iterator[Entry]:  # noqa: ANN401  as above
    container, key, _ = fs.split_path(path)
    prefix, token = f"{key}/" if key else None, None
    client = fs.service_client.get_container_client(container)

    async def page_at(token: str | None) -> tuple[list[Any], str | None]:
        pages = client.walk_blobs(name_starts_with=prefix, results_per_page=PAGE).by_page(continuation_token=token)
        async for page in pages:
            return [entry async for entry in page], pages.continuation_token
        return [], None

    while True:
        try:
            entries, token = patience(sync, fs.loop, page_at, token)
        except OSError as error:
            if status_of(error) == HTTPStatus.NOT_FOUND:  # the container
                raise FileNotFoundError(errno.ENOENT, "there is none", path) from error
            raise
        for entry in entries:
            if entry.name != prefix:
                yield entry.name, getattr(entry, "size", None)
        if not token:
            return


_LISTERS: Final[Mapping[str, Callable[[Any, str, Patience], Iterator[Entry]]]] = {
    "s3": _listed_by_s3,
    "gs": _listed_by_gcs,
    "az": _listed_by_azure,
}
