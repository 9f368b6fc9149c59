"""Places beside the web that images may be read from, as people type them."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from async_img2ds.errors import OptionsError

__all__ = ["KINDS", "LOCAL", "Source", "parse_source"]

LOCAL: Final = "file"
# The scheme of a URL → the one that its kind of place is called by. Those that lead to a machine of the list's choice
# (ssh, hdfs, http), to another process's memory, or to what is inside something else (zip, simplecache) are not here.
KINDS: Final = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "az"),
    LOCAL: LOCAL,
}
_WORDS: Final = re.compile(r"(?P<scheme>[a-z0-9]+)(?::(?://)?(?P<place>.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Source:
    """A *place* of a *kind*: a folder of this machine, a bucket or a folder in it; all buckets if it is empty."""

    kind: str
    place: str

    def holds(self, path: str) -> bool:
        """Whether *path*, of the same kind and without ``..``, lies in it."""
        return not self.place or path.startswith(f"{self.place}/")


def parse_source(text: str) -> Source:
    """Read a source: ``s3``, ``s3://bucket``, ``gs://bucket/folder``, ``file:/folder``.

    Raises:
        OptionsError: it is none of these.

    """
    found = _WORDS.fullmatch(text.strip())
    kind = KINDS.get(found["scheme"]) if found else None
    if found is None or kind is None:
        kinds = ", ".join(KINDS)
        raise OptionsError(f"allow_sources takes {kinds}, or a place of these such as s3://bucket; got {text!r}")
    place = found["place"] or ""
    if kind == LOCAL and "://" in text:
        place = unquote(place)
    if kind != LOCAL:
        place = place.strip("/")
    elif place.startswith("/"):
        place = posixpath.normpath("/" + place.lstrip("/"))
    if kind == LOCAL and (not place.startswith("/") or place == "/"):
        raise OptionsError(f"allow_sources takes a folder behind file:, such as file:/data/images; got {text!r}")
    if any(part in (".", "..") for part in place.split("/")):
        raise OptionsError(f"allow_sources takes whole names of buckets and folders; got {text!r}")
    return Source(kind, place)
