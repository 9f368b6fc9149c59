"""Networks, addresses and proxies as people type them, with a port."""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from async_img2ds.errors import OptionsError

__all__ = ["Proxy", "check_server", "parse_net", "parse_proxy"]

# A bare IPv6 address takes a port only behind its prefix length, because "::1:80" is an address by itself.
_NET: Final = re.compile(
    r"""(?: (?P<v4>[\d.]+) | \[(?P<v6>[\da-f:.]+)\] | (?P<bare>[\da-f:.]+)(?=/|$) )
        (?P<bits>/\d{1,3})? (?: : (?P<port>\d{1,5}) )?""",
    re.VERBOSE | re.IGNORECASE,
)


def parse_net(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int | None]:
    """Read a network with an optional port: ``127.0.0.0/8``, ``127.0.0.1:8080``, ``[::1]/128:8080``, ``::1``.

    Raises:
        OptionsError: it is none of these.

    """
    if found := _NET.fullmatch(text.strip()):
        address, bits, port = found["v4"] or found["v6"] or found["bare"], found["bits"] or "", found["port"]
        try:
            network = ipaddress.ip_network(address + bits, strict=False)
        except ValueError:
            pass
        else:
            if port is None or 0 < int(port) < 2**16:
                return network, int(port) if port else None
    raise OptionsError(
        f"allow_net takes networks such as 127.0.0.0/8, 10.1.2.3/32:8080 or [::1]/128:8080; got {text!r}"
    )


def check_server(text: str) -> None:
    """Refuse what is not an address with an optional port.

    Raises:
        OptionsError: it is not.

    """
    found = _NET.fullmatch(text.strip())
    if found is not None and not found["bits"] and 0 < int(found["port"] or 53) < 2**16:
        try:
            ipaddress.ip_address(found["v4"] or found["v6"] or found["bare"])
        except ValueError:
            pass
        else:
            return
    raise OptionsError(f"dns_servers takes addresses such as 9.9.9.9, 127.0.0.1:5353 or [::1]:53; got {text!r}")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; *authorization* is what it wants to be told of who asks, None if nothing."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @property
    def lines(self) -> str:
        """The header lines by which it is told."""
        return f"Proxy-Authorization: {self.authorization}\r\n" if self.authorization else ""


def parse_proxy(text: str) -> Proxy:
    """Read a proxy: ``http://proxy.example.org:3128``, with ``user:password@`` before the host if it wants that.

    Raises:
        OptionsError: it is none; what it says does not repeat a password.

    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    else:
        if parts.scheme == "http" and host and port and parts.path in ("", "/") and not parts.query + parts.fragment:
            if parts.username is None:
                return Proxy(host, port)
            told = f"{unquote(parts.username)}:{unquote(parts.password or '')}"  # RFC 7617 2
            return Proxy(host, port, "Basic " + base64.b64encode(told.encode()).decode("ascii"))
    raise OptionsError("proxy takes http://host:port, with user:password@ before the host if it asks for that")
