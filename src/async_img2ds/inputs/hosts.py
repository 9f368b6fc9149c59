"""URLs → the hosts that they are paced under, many at a time."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from async_img2ds.errors import FetchFailure
from async_img2ds.policy import urls

__all__ = ["host_of", "hosts_of"]

# A URL as almost all are, of which the host can be told without a closer look: between scheme and slash is a name whose
# last label begins with a letter, so that it is no address, and perhaps a port below 10,000, which is not 0. There is
# no character in it that may not be in any URL. No group catches anything: that takes fifty times as long.
_PLAIN: Final = (
    r"^ *[hH][tT][tT][pP][sS]?://"
    r"(?:[A-Za-z0-9_-]+\.)*[A-Za-z][A-Za-z0-9_-]*(?::[1-9][0-9]{0,3})?"
    r"(?:/[^\x00-\x1f\x7f\x{fffd}]*)?$"
)
# Each byte may become three characters when the URL is sent.
_URL_BYTES: Final = urls.URL_CHARACTERS_MAX // 3 - 100
# No label of a name that is so short is too long.
_NAME_BYTES: Final = 63


def hosts_of(listed: pa.Array) -> pa.Array:
    """Return the host of each URL of a column of texts, null for those that nobody can be asked for."""
    plain = pc.and_(pc.match_substring_regex(listed, _PLAIN), pc.less_equal(pc.binary_length(listed), _URL_BYTES))
    plain = pc.fill_null(plain, False)
    names = _names_in(listed.filter(plain))
    hosts = pc.replace_with_mask(pa.nulls(len(listed), pa.string()), plain, names)
    odd = pc.invert(pc.fill_null(pc.less_equal(pc.binary_length(hosts), _NAME_BYTES), False))
    looked_at = [host_of(url) for url in listed.filter(odd).to_pylist()]
    return pc.replace_with_mask(hosts, odd, pa.array(looked_at, pa.string()))


def _names_in(listed: pa.Array) -> pa.Array:
    """Return the names in plain URLs."""
    authorities = pc.list_element(pc.split_pattern(listed, "/", max_splits=3), 2)
    return pc.ascii_lower(pc.list_element(pc.split_pattern(authorities, ":", max_splits=1), 0))


def host_of(url: str | None) -> str | None:
    """Return the host that a row with *url* is paced under, None if nobody can be asked for it."""
    try:
        return urls.parse(url).host.removesuffix(".")
    except FetchFailure:
        return None
