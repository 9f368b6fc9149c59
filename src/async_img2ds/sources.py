"""Places beside the web that images may be read from, as people type them."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from async_img2ds.errors import OptionsError

__all__ = ["BUCKETS", "CONTAINER_AT_ACCOUNT", "KINDS", "LOCAL", "Source", "parse_source"]

LOCAL: Final = "file"
# The scheme of a URL → the one that its kind of place is called by. Those that lead to a machine of the list's choice
# (ssh, hdfs, http), to another process's memory, or to what is inside something else (zip, simplecache) are not here.
KINDS: Final = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "az"),
    LOCAL: LOCAL,
}
# What each cloud calls a bucket; so no address and no name of Amazon's own for one (ARN). Azure's containers may be
# named with their account.
BUCKETS: Final = {
    "s3": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}"),
    "gs": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,221}"),
    "az": re.compile(r"\$?[A-Za-z0-9][A-Za-z0-9-]{0,62}(?:@[a-z0-9]{3,24}\.(?:dfs|blob)\.core\.windows\.net)?"),
}
# How a URL begins that has a container before its account, where others have a user before their host.
CONTAINER_AT_ACCOUNT: Final = (
    r"^\s*(?i:abfss?|az)://[A-Za-z0-9$-]+@[a-z0-9]{3,24}\.(?:dfs|blob)\.core\.windows\.net(?:[/?#]|$)"
)
# A bucket whose name says at which host it is, and not the account's own: S3's directory buckets.
_ELSEWHERE: Final = "--x-s3"
_WORDS: Final = re.compile(r"(?P<scheme>[a-z0-9]+)(?::(?://)?(?P<place>.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Source:
    """A *place* of a *kind*: a folder of this machine, a bucket or a folder in it; all buckets if it is empty."""

    kind: str
    place: str

    def holds(self, path: str) -> bool:
        """Whether *path*, of the same kind and without ``..``, lies in it.

        All buckets are those whose host the user's configuration chooses: not those of which the name does.
        """
        if self.place:
            return path.startswith(f"{self.place}/")
        bucket = path.partition("/")[0]
        return "@" not in bucket and not bucket.endswith(_ELSEWHERE)


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
    is_bucket = kind == LOCAL or not place or BUCKETS[kind].fullmatch(place.partition("/")[0])
    if not is_bucket or any(part in (".", "..") for part in place.split("/")):
        raise OptionsError(f"allow_sources takes whole names of buckets and folders, and no patterns; got {text!r}")
    return Source(kind, place)
