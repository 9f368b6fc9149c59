"""Which URLs and which addresses may be asked, and the host a URL is paced under.

Only http and https, and only public unicast addresses unless the user allowed more: a list of URLs from the web
is not to be trusted with the inside of anybody's network. Python's ``ipaddress.is_global`` is not used because
it says yes to NAT64, 6to4, site-local and multicast addresses (CPython issues 113171, 124217), so the table
below is our own, from the IANA registries.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin, urlsplit

import idna

from async_img2ds.errors import ErrorClass, FetchFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "REDIRECTS",
    "URL_CHARACTERS_MAX",
    "AddressPolicy",
    "Target",
    "host_named",
    "is_address",
    "parse",
    "redirect",
    "refused",
    "with_those_above",
]

# Where clouds tell a machine who it is, with the keys to prove it (their documentation). Two lie in public or shared
# space; all stay closed when a network around them is opened, unless they are named by themselves.
_METADATA: Final = {
    ip_address("169.254.169.254"): "the metadata service of AWS, Google, Azure and others",
    ip_address("169.254.170.2"): "the metadata service of AWS containers",
    ip_address("fd00:ec2::254"): "the metadata service of AWS",
    ip_address("fd20:ce::254"): "the metadata service of Google",
    ip_address("168.63.129.16"): "Azure's own service for its machines",
    ip_address("100.100.100.200"): "the metadata service of Alibaba",
    ip_address("192.0.0.192"): "the metadata service of Oracle",
}
# Ports of other services than the web, at which a request can be taken for something else (WHATWG Fetch, "port
# blocking"). Port 0 is none.
_BAD_PORTS: Final = frozenset(
    (
        *(1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109),
        *(110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530),
        *(531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045),
        *(4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10_080),
    )
)
# IANA IPv4 Special-Purpose Address Registry, everything in it that is not globally reachable unicast,
# with multicast and the reserved top.
_CLOSED_4: Final = tuple(
    IPv4Network(net)
    for net in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
# IANA IPv6 Global Unicast: all of it lies in 2000::/3, so anything else is closed, and with it
# loopback, link-local, unique-local, site-local, multicast, IPv4-mapped and NAT64. Inside it: protocol
# assignments (Teredo, ORCHID), documentation, 6to4.
_OPEN_6: Final = IPv6Network("2000::/3")
# What an IPv4 address looks like to a machine that has IPv6 alone (RFC 6052: the well-known prefix of NAT64).
_NAT64: Final = IPv6Network("64:ff9b::/96")
_CLOSED_6: Final = tuple(IPv6Network(net) for net in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))

# Answers that lead elsewhere (RFC 9110 15.4); 300 and 304 do not.
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

# Longer than any browser sends; a URL that long in a list is a data: URL or an accident.
URL_CHARACTERS_MAX: Final = 16_384


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be asked for. *url* is ready to send: no credentials, no fragment, ASCII only.

    *is_literal* says that the host is an address rather than a name.
    """

    url: str
    scheme: str
    host: str
    port: int
    is_literal: bool = False

    @property
    def authority(self) -> str:
        """Its host, and the port if it is not the scheme's own, as they stand in a URL."""
        return self.url.partition("://")[2].partition("/")[0]

    @property
    def path(self) -> str:
        """What is asked of the host: the path and the query."""
        _, slash, rest = self.url.partition("://")[2].partition("/")
        return slash + rest


class AddressPolicy:
    """Says whether an address may be connected to: public unicast, or in a network that the user allowed."""

    def __init__(self, allowed: Iterable[tuple[IPv4Network | IPv6Network, int | None]] = ()) -> None:
        """Open *allowed* beside the public addresses: networks, each with the one port it is open for or None."""
        self._allowed = tuple(allowed)
        self._verdict = functools.lru_cache(maxsize=65_536)(self._decide)

    def allows(self, address: str, port: int) -> bool:
        """Whether *address*, a literal without brackets, may be connected to at *port*."""
        return self._verdict(address, port)

    def allows_port(self, port: int) -> bool:
        """Whether *port* is one that the web is at, or one that the user named."""
        return port not in _BAD_PORTS or any(only == port for _, only in self._allowed)

    def _decide(self, text: str, port: int) -> bool:
        try:
            address = _unwrapped(ip_address(text.partition("%")[0]))
        except ValueError:
            return False
        if not self.allows_port(port):
            return False
        around = [
            net
            for net, only in self._allowed
            if net.version == address.version and address in net and only in (None, port)
        ]
        if address in _METADATA or not _METADATA.keys().isdisjoint(_embedded(address)):
            return any(net.num_addresses == 1 for net in around)
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            return False  # to a socket it is the IPv4 address, of which other networks speak
        return bool(around) or _is_public(address)


def refused(address: str) -> str:
    """Say why *address* is not connected to."""
    service = _METADATA.get(_unwrapped(ip_address(address.partition("%")[0])))
    if service is not None:
        return f"{address} is {service}; --allow_net opens it by itself alone"
    return f"{address} is not a public address; --allow_net opens networks"


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 one stands for where it leads there, or else the address itself.

    All others that hold one are closed as they are: mapped ones are of no network, 6to4 and Teredo lead through
    strangers.
    """
    if isinstance(address, IPv6Address) and address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _embedded(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that an IPv6 one may lead to: mapped, by NAT64 or 6to4 (RFC 4291, 6052, 8215, 3056)."""
    if isinstance(address, IPv4Address):
        return []
    found = [IPv4Address(int(address) & 0xFFFF_FFFF)]
    return [*found, address.sixtofour] if address.sixtofour is not None else found


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in net for net in _CLOSED_4)
    return address in _OPEN_6 and not any(address in net for net in _CLOSED_6)


# What may stand unquoted in what we send: RFC 3986's characters, "%" among them because lists hold quoted
# URLs, and the few more that browsers leave alone (WHATWG URL, path and query percent-encode sets), so
# that a signed URL arrives as it was signed.
_SENDABLE: Final = "!#$%&'()*+,-./:;=?@[]_~|^`{}\\"
# Control characters, what stands for bytes that were no text, and halves of characters, which nothing can store.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f\ufffd\ud800-\udfff]")
# A host and port: brackets are for addresses and enclose the whole host.
# Python's urlsplit is more generous, by version.
_HOST_AND_PORT: Final = re.compile(r"(?:\[[0-9a-fA-F:.%]*\]|[^\[\]]*)(?::\d*)?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# What Python's urllib opens, too. Here it is refused, in words of our own.
_FETCHED_ELSEWHERE: Final = frozenset({"ftp", "file", "data"})
# A last label of digits or of hexadecimal digits makes the whole host an IPv4 address in some
# spelling (WHATWG URL, "ends in a number").
_NUMERIC_HOST: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?")


def parse(url: str | None) -> Target:
    """Read a URL as it stands in a list.

    Raises:
        FetchFailure: it is empty, malformed, or of a scheme other than http and https.

    """
    if url is None or not (url := url.strip(" \t\r\n")):
        raise FetchFailure(ErrorClass.URL_INVALID, f"unknown url type: '{url}'")
    _check_length(url)
    if bad := _CONTROL.search(url):
        # As Python's http.client says it, of the path with its query.
        path = _shown(re.sub(r"^[a-zA-Z]+://[^/]*", "", url))
        said = f"URL can't contain control characters. {path!r} (found at least {bad[0]!r})"
        raise FetchFailure(ErrorClass.URL_INVALID, said)
    scheme = url.partition(":")[0].lower()
    if scheme not in _DEFAULT_PORTS:
        raise _not_fetched(url, scheme)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:  # whose words may quote credentials
        said = "Invalid IPv6 URL" if "IPv6" in str(error) else "malformed host or port in URL"
        raise FetchFailure(ErrorClass.URL_INVALID, said) from None
    if not host:
        raise FetchFailure(ErrorClass.URL_INVALID, "<urlopen error no host given>")
    # Browsers end a host at a backslash, so what is behind one may be another host to them.
    if port == 0 or "\\" in parts.netloc or not _HOST_AND_PORT.fullmatch(parts.netloc.rpartition("@")[2]):
        raise FetchFailure(ErrorClass.URL_INVALID, "malformed host or port in URL")
    if port is None:
        port = _DEFAULT_PORTS[scheme]
    host, is_literal = _ascii_host(host)
    bracketed = f"[{host}]" if ":" in host else host
    netloc = bracketed if port == _DEFAULT_PORTS[scheme] else f"{bracketed}:{port}"
    path = quote(parts.path, safe=_SENDABLE) or "/"
    query = f"?{quote(parts.query, safe=_SENDABLE)}" if parts.query else ""
    sent = f"{scheme}://{netloc}{path}{query}"
    _check_length(sent)
    return Target(sent, scheme, host, port, is_literal)


def host_named(name: str) -> str:
    """Return a name or an address that is written by itself as the host of a :class:`Target`, without a last dot.

    Raises:
        FetchFailure: it is neither, or more than that.

    """
    if not re.fullmatch(r"[^/@?#\s]+", name):
        raise FetchFailure(ErrorClass.URL_INVALID, "more than a host")
    bare = name.removeprefix("[").removesuffix("]")
    return parse(f"http://[{bare}]/" if ":" in bare else f"http://{bare}/").host.removesuffix(".")


def with_those_above(host: str) -> Iterator[str]:
    """Yield the host of a :class:`Target` and the names that it is below of, the longest first; an address alone."""
    name = host.removesuffix(".")
    yield name
    while not is_address(host) and (name := name.partition(".")[2]):
        yield name


def is_address(host: str) -> bool:
    """Whether the host of a :class:`Target` is an address rather than a name."""
    return ":" in host or host.rpartition(".")[2].isdigit()


def _not_fetched(url: str, scheme: str) -> FetchFailure:
    """Say why a URL that is neither of http nor of https is not fetched, in the words of Python's urllib."""
    if scheme in _FETCHED_ELSEWHERE:
        return FetchFailure(ErrorClass.URL_SCHEME, f"only http and https URLs are fetched, not {scheme}:")
    if not re.match(r"[^/:]+:", url):  # what urllib takes for a scheme
        return FetchFailure(ErrorClass.URL_INVALID, f"unknown url type: '{_shown(url)}'")
    kind = ErrorClass.URL_SCHEME if re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) else ErrorClass.URL_INVALID
    return FetchFailure(kind, f"<urlopen error unknown url type: {_shown(scheme)}>")


# Half a URL, of which urljoin would make the page that it is on.
_NOWHERE: Final = re.compile(r"(?:https?:)?//(?:[/?#]|$)", re.IGNORECASE)
# How a byte stands in a header's text that is no UTF-8 (PEP 383).
_LONE: Final = re.compile("[\udc80-\udcff]")


def redirect(source: Target, location: str) -> Target:
    """Read where an answer of *source* sends us.

    Raises:
        FetchFailure: nowhere, or to something that is not fetched.

    """
    if not location or _CONTROL.search(location) or _NOWHERE.match(location):
        raise FetchFailure(ErrorClass.REDIRECT_INVALID, "redirect without a usable Location")
    # Bytes that are no UTF-8, which most servers with such names send, are what urllib makes of them.
    location = _LONE.sub(lambda found: f"%{ord(found[0]) - 0xDC00:02X}", location)
    try:
        return parse(urljoin(source.url, location))
    except (FetchFailure, ValueError) as error:
        blocked = isinstance(error, FetchFailure) and error.error_class is ErrorClass.URL_SCHEME
        raise FetchFailure(
            ErrorClass.REDIRECT_BLOCKED if blocked else ErrorClass.REDIRECT_INVALID,
            f"redirect refused: {_shown(str(error))}",
        ) from None


def _check_length(url: str) -> None:
    if len(url) > URL_CHARACTERS_MAX:
        message = f"URL of {len(url)} characters; at most {URL_CHARACTERS_MAX} are accepted"
        raise FetchFailure(ErrorClass.URL_INVALID, message)


def _ascii_host(host: str) -> tuple[str, bool]:
    """Return the host in the form that is sent, and whether it is an address; or raise FetchFailure."""
    if ":" in host:
        try:
            return IPv6Address(host.partition("%")[0]).compressed, True
        except ValueError:
            raise FetchFailure(ErrorClass.URL_INVALID, f"malformed address in URL: {_shown(host)}") from None
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise FetchFailure(ErrorClass.URL_INVALID, f"host name cannot be encoded: {_shown(str(error))}") from None
    host = host.lower()
    if _NUMERIC_HOST.fullmatch(host):
        try:
            return str(IPv4Address(host.removesuffix("."))), True
        except ValueError:
            raise FetchFailure(
                ErrorClass.URL_INVALID, f"unusual spelling of an address in URL: {_shown(host)}"
            ) from None
    labels = host.removesuffix(".").split(".")
    # RFC 1035 2.3.4: 63 octets a label, 253 characters a name. Underscores are in use, so they pass.
    if len(host) > 253 or not all(re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in labels):  # noqa: PLR2004  named above
        raise FetchFailure(ErrorClass.URL_INVALID, f"malformed host name in URL: {_shown(host)}")
    return host, False


def _shown(text: str) -> str:
    """Cut a list's own text to a length that fits a message."""
    return text if len(text) <= 100 else text[:97] + "…"  # noqa: PLR2004  a message stays one line
