"""Rows of a list that look wrong before anybody is asked: what each is, whether it is fetched, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import ErrorClass, FetchFailure
from async_img2ds.policy.urls import URL_CHARACTERS_MAX, is_address
from async_img2ds.sources import CONTAINER_AT_ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from async_img2ds.policy.sources import Sources
    from async_img2ds.policy.urls import AddressPolicy, Target

__all__ = ["ODD", "SUSPICIONS", "Suspicion", "Told", "caption_columns", "hash_columns", "suspicion_of"]


class Suspicion(StrEnum):
    """What looks wrong with a row; the first that holds is told of it."""

    BLANK = "no URL"
    CONTROL = "control character"
    TOO_LONG = "too long"
    SCHEME = "scheme not fetched"
    SOURCE = "source not allowed"
    NO_URL = "not a URL"
    HOST = "malformed host"
    ADDRESS = "private address"
    PORT = "port not asked"
    LOCAL = "local name"
    PLACEHOLDER = "placeholder"
    ESCAPED = "escaped for HTML"
    SPACE = "whitespace"
    CREDENTIALS = "credentials"
    ENDING = "not an image's ending"


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of a suspicion: whether its rows are asked for all the same, and what to do about them."""

    is_fetched: bool
    advice: str


SUSPICIONS: Final[Mapping[Suspicion, Told]] = {
    Suspicion.BLANK: Told(is_fetched=False, advice="they fail as url_invalid; drop them from the list"),
    Suspicion.CONTROL: Told(
        is_fetched=False,
        advice="a tab or line break in a URL: often two columns read as one; look at --input_format and --url_col",
    ),
    Suspicion.TOO_LONG: Told(
        is_fetched=False,
        advice=f"more than {URL_CHARACTERS_MAX:,} characters: often an image within the list (data:); drop them",
    ),
    Suspicion.SCHEME: Told(
        is_fetched=False,
        advice="only http and https are fetched; for buckets and folders of yours name them by --allow_sources",
    ),
    Suspicion.SOURCE: Told(is_fetched=False, advice="lies in no place that --allow_sources names, or in an odd one"),
    Suspicion.NO_URL: Told(
        is_fetched=False,
        advice="paths or words: is --url_col the column of URLs? For paths of yours see --allow_sources file:/FOLDER",
    ),
    Suspicion.HOST: Told(is_fetched=False, advice="nobody can be asked for them; mend or drop them"),
    Suspicion.ADDRESS: Told(
        is_fetched=False, advice="not public, so they fail as addr_blocked; --allow_net opens networks of yours"
    ),
    Suspicion.PORT: Told(
        is_fetched=False, advice="a port of another service than the web; --allow_net with a port opens one of yours"
    ),
    Suspicion.LOCAL: Told(
        is_fetched=True, advice="names of somebody's own network, which fail unless --allow_net opens yours"
    ),
    Suspicion.PLACEHOLDER: Told(is_fetched=True, advice="names reserved for examples; there are no images to be had"),
    Suspicion.ESCAPED: Told(
        is_fetched=True, advice="&amp; stands for & in HTML: unescape the list, or many will be asked for in vain"
    ),
    Suspicion.SPACE: Told(
        is_fetched=True,
        advice="asked for as %20, and without spaces around; if words follow the URL, look at --input_format",
    ),
    Suspicion.CREDENTIALS: Told(
        is_fetched=True, advice="names and passwords in URLs are never sent nor kept; for hosts of yours: --hosts_file"
    ),
    Suspicion.ENDING: Told(
        is_fetched=True, advice="pages, films and drawings (svg) fail as not_image; is --url_col that of the images?"
    ),
}

# Whatever :func:`suspicion_of` may say of a URL that can be asked for, in RE2's language and Python's: what it does not
# match needs no closer look. Between slashes and path there is a user, a port, or an address.
ODD: Final = (
    r"&amp;|[\s\x{a0}]|^[^/]*//[^/?#]*[@:]|^[^/]*//(?:[0-9.]+|[^/.?#]+)(?:[/?#]|$)"
    r"|^[^/]*//[^/?#]*(?i:example\.(?:com|net|org)|\.(?:test|example|invalid"
    r"|local|localhost|localdomain|lan|internal|intranet|home|corp))\.?(?:[/?#]|$)"
    r"|(?i:\.(?:html?|xml|json|js|css|txt|pdf|docx?|svgz?|mp[34]|webm|mov|avi|zip|gz|exe))(?:[?#]|$)"
)
_CONTROL: Final = re.compile("[\x00-\x1f\x7f\ufffd\ud800-\udfff]")
_WITH_SCHEME: Final = re.compile(r"\s*https?:", re.IGNORECASE)
_CREDENTIALS: Final = re.compile(rf"(?!{CONTAINER_AT_ACCOUNT})[^/]*//[^/?#]*@")
# Names that no public server answers for (RFC 6761, 6762, 8375, and what routers and companies take).
_LOCAL: Final = re.compile(r"[^.]+|.*\.(?:local|localhost|localdomain|lan|internal|intranet|home|corp|home\.arpa)")
# RFC 2606 and 6761.
_PLACEHOLDER: Final = re.compile(r"(?:.*\.)?(?:example\.(?:com|net|org)|test|example|invalid)")
_ENDING: Final = re.compile(
    r"\.(?:html?|xml|json|js|css|txt|pdf|docx?|svgz?|mp[34]|webm|mov|avi|zip|gz|exe)(?:[?#]|$)", re.IGNORECASE
)


def suspicion_of(url: str | None, sources: Sources, addresses: AddressPolicy) -> Suspicion | None:
    """Return what looks wrong with a row, None if nothing does; *sources* and *addresses* say what is allowed."""
    try:
        target = sources.parse(url)
    except FetchFailure as failure:
        return _refused(url or "", failure)
    return _odd(url or "", target, addresses)


def _refused(url: str, failure: FetchFailure) -> Suspicion:
    """Return why nobody is asked for *url*."""
    if failure.error_class is ErrorClass.SOURCE_BLOCKED:
        return Suspicion.SOURCE
    bare = url.strip(" \t\r\n")
    if not bare:
        return Suspicion.BLANK
    if len(bare) > URL_CHARACTERS_MAX:
        return Suspicion.TOO_LONG
    if _CONTROL.search(bare):
        return Suspicion.CONTROL
    if failure.error_class is ErrorClass.URL_SCHEME:
        return Suspicion.SCHEME
    return Suspicion.HOST if _WITH_SCHEME.match(url) else Suspicion.NO_URL


def _odd(url: str, target: Target, addresses: AddressPolicy) -> Suspicion | None:
    """Return what looks wrong with a *url* that can be read."""
    if target.scheme not in ("http", "https"):
        return None
    host = target.host.removesuffix(".")
    checks = (
        (Suspicion.PORT, lambda: not addresses.allows_port(target.port)),
        (Suspicion.ADDRESS, lambda: is_address(host) and not addresses.allows(host, target.port)),
        (Suspicion.LOCAL, lambda: not is_address(host) and _LOCAL.fullmatch(host)),
        (Suspicion.PLACEHOLDER, lambda: _PLACEHOLDER.fullmatch(host)),
        (Suspicion.ESCAPED, lambda: "&amp;" in url),
        (Suspicion.SPACE, lambda: re.search(r"\s", url)),
        (Suspicion.CREDENTIALS, lambda: _CREDENTIALS.match(url)),
        (Suspicion.ENDING, lambda: _ENDING.search(url)),
    )
    return next((what for what, holds in checks if holds()), None)


# Names that captions and hashes have in the lists that people share, most telling first.
_CAPTIONS: Final = (
    "caption",
    "text",
    "alt_text",
    "alttext",
    "alt",
    "title",
    "description",
    "sentence",
    "prompt",
    "label",
)
_HASHES: Final = ("md5", "sha256", "sha512")


def caption_columns(columns: Sequence[str]) -> list[str]:
    """Return those of *columns* that seem to hold captions, the most telling first."""
    return [name for wanted in _CAPTIONS for name in columns if _plain(name) == wanted] or [
        name for wanted in _CAPTIONS[:2] for name in columns if wanted in _plain(name).split("_")
    ]


def hash_columns(columns: Sequence[str]) -> list[tuple[str, str]]:
    """Return those of *columns* that seem to hold hashes of images, each with its kind."""
    return [(name, kind) for kind in _HASHES for name in columns if _plain(name) == kind]


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
