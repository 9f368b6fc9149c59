"""Which files and objects may be read beside the web, and the place that they are paced under.

A list is not to be trusted with the files of whoever reads it: only what the user named is opened, and a URL is never
one for fsspec to take apart, which would see chains of file systems in it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from async_img2ds.errors import ErrorClass, FetchFailure
from async_img2ds.policy import urls
from async_img2ds.policy.urls import URL_CHARACTERS_MAX, Target
from async_img2ds.sources import BUCKETS, KINDS, LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from async_img2ds.sources import Source

__all__ = ["NO_SOURCES", "Sources", "blocked", "path_of"]

# A file's URL is of this machine if it names none, or says so (RFC 8089 2 and appendix B).
_FILE: Final = re.compile(r"file:(?://(?:localhost)?)?(?P<path>/(?!/).*)", re.IGNORECASE | re.DOTALL)
# Control characters and what nothing can store, as in URLs of the web.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f\ufffd\ud800-\udfff]")


class Sources:
    """Reads what a list has: URLs of the web, and of the sources that the user allowed."""

    def __init__(self, allowed: Iterable[Source] = ()) -> None:
        """Allow *allowed*."""
        self._allowed = tuple(allowed)

    def parse(self, url: str | None) -> Target:
        """Read a URL, or a path, as it stands in a list.

        Raises:
            FetchFailure: it is of neither the web nor a kind of source that is allowed, it is malformed, or it lies in
                none of the places that are.

        """
        text = (url or "").strip(" \t\r\n")
        kind, path = _split(text)
        places = [source for source in self._allowed if source.kind == kind]
        if kind is None or not places:
            return urls.parse(url)
        if len(text) > URL_CHARACTERS_MAX or _CONTROL.search(path) or not path or path.endswith("/"):
            raise FetchFailure(ErrorClass.URL_INVALID, f"malformed path in a URL of {kind}:")
        bucket = path.partition("/")[0]
        if kind != LOCAL and (bucket == path or not BUCKETS[kind].fullmatch(bucket)):
            raise FetchFailure(ErrorClass.URL_INVALID, f"malformed bucket in a URL of {kind}:")
        place = next((source for source in places if source.holds(path)), None)
        if place is None or any(part in (".", "..") for part in path.split("/")):
            raise blocked("it lies in no place that --allow_sources names")
        # With a colon in it, so that it is nobody's host.
        host = f"{kind}://{bucket or place.place}"
        return Target(f"{kind}://{path}", kind, host, 0)

    def is_closed(self, url: str | None) -> bool:
        """Whether *url* names a file or an object, and one that is not opened."""
        if _split((url or "").strip(" \t\r\n"))[0] is None:
            return False
        try:
            self.parse(url)
        except FetchFailure:
            return True
        return False

    @property
    def allowed(self) -> tuple[Source, ...]:
        """What is allowed."""
        return self._allowed


NO_SOURCES: Final = Sources()


def path_of(target: Target) -> str:
    """Return the path of what :meth:`Sources.parse` has read: on this machine, or the bucket and the key in it."""
    return target.url.partition("://")[2]


def blocked(why: str) -> FetchFailure:
    """Return what becomes of a row that is not to be read."""
    return FetchFailure(ErrorClass.SOURCE_BLOCKED, f"not read: {why}")


def _split(text: str) -> tuple[str | None, str]:
    """Return the kind of source that *text* is of, None if it is none, and the path in it."""
    if text.startswith("/") and not text.startswith("//"):
        return LOCAL, text
    if found := _FILE.fullmatch(text):
        return LOCAL, unquote(found["path"])
    scheme, _, path = text.partition("://")
    kind = KINDS.get(scheme.lower()) if path else None
    return (None, "") if kind == LOCAL else (kind, path)
