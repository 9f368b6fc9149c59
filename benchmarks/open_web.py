"""The open web on loopback, for the scenarios about it: rot, late answers, a tarpit, a host that sets a limit, names.

Each yields lists that differ in one thing, so that what it costs is what one run takes more than another.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import corpus
import name_server
import origin
import web
from web import HOSTS, Web, written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from origin import Origin

__all__ = ["by_name", "late", "one_or_many", "rotten", "strict", "tarpit"]

LATE_S: Final = 0.3
LATE_HOSTS: Final = tuple(f"127.0.{16 + number // 200}.{number % 200 + 1}" for number in range(2000))
# One of so many hosts hangs.
TARPIT_HOSTS: Final = 100
# Of the URLs of a host that sets a limit so many must come to an image.
LIMITED_SHARE_LEAST: Final = 0.995
LIVE_HOSTS: Final = 600
SILENT: Final = tuple(f"127.0.2.{number}" for number in range(1, 61))
REFUSING: Final = tuple(f"127.0.3.{number}" for number in range(1, 201))
# Of ten URLs in turn: the web of a list that is a few years old, as published reports have it.
ROT: Final = ("live",) * 7 + ("silent",) * 2 + ("refused",)


@contextmanager
def rotten(folder: Path, rows: int) -> Iterator[Web]:
    """Serve the corpus on 600 hosts to seven of ten URLs; two ask 60 hosts that never answer, one is refused.

    The list ``live`` has only those that are served.
    """
    hosts = [f"127.0.{4 + number // 200}.{number % 200 + 1}" for number in range(LIVE_HOSTS)]
    with ExitStack() as stack:
        server = stack.enter_context(origin.serve(corpus.images(), addresses=hosts, logged=True))
        deaf = [(address, stack.enter_context(_deaf(address))) for address in SILENT]
        closed = origin.free_port()

        def url(number: int, name: str) -> str:
            kind, turn = ROT[number % len(ROT)], number // len(ROT)
            if kind == "silent":
                address, port = deaf[(2 * turn + number % 2) % len(deaf)]
                return f"http://{address}:{port}/{name}"
            if kind == "refused":
                return f"http://{REFUSING[turn % len(REFUSING)]}:{closed}/{name}"
            return server.url(name, hosts[number % len(hosts)])

        urls = web.corpus_urls(rows, url)
        live = [url for number, url in enumerate(urls) if ROT[number % len(ROT)] == "live"]
        yield _with_live(folder, urls, live, server)


@contextmanager
def late(folder: Path, rows: int) -> Iterator[Web]:
    """Serve the corpus on 2,000 hosts that answer after 0.3 s (``late``), and the same at once (``prompt``)."""

    def urls(port: int) -> list[str]:
        return web.corpus_urls(
            rows, lambda number, name: f"http://{LATE_HOSTS[number % len(LATE_HOSTS)]}:{port}/{name}"
        )

    with web.thinking(LATE_S, LATE_HOSTS) as late, web.thinking(0.0, LATE_HOSTS) as prompt:
        ports = {"late": late, "prompt": prompt}
        yield Web({name: written(folder, name, urls(port)) for name, port in ports.items()}, corpus.images())


@contextmanager
def one_or_many(folder: Path, rows: int) -> Iterator[Web]:
    """Serve the corpus on 200 hosts (``many``), and all of it on one of them (``one``)."""
    with origin.serve(corpus.images(), addresses=HOSTS) as server:
        hosts = {"many": HOSTS, "one": HOSTS[:1]}
        lists = {name: written(folder, name, _urls(server, rows, some)) for name, some in hosts.items()}
        yield Web(lists, corpus.images())


@contextmanager
def tarpit(folder: Path, rows: int) -> Iterator[Web]:
    """Serve the corpus on 99 hosts (``live``); in ``urls`` are those, and a hundredth on one that never answers."""
    with origin.serve(corpus.images(), addresses=HOSTS, logged=True) as server, _deaf(SILENT[0]) as port:
        live = _urls(server, rows - rows // TARPIT_HOSTS, HOSTS[: TARPIT_HOSTS - 1])
        urls = []
        for number, url in enumerate(live):
            urls.append(url)
            if number % (TARPIT_HOSTS - 1) == 0 and len(urls) + len(live) - number <= rows:
                urls.append(f"http://{SILENT[0]}:{port}/{number}.jpg")
        yield _with_live(folder, urls, live, server)


@contextmanager
def strict(folder: Path, rows: int) -> Iterator[Web]:
    """Serve the corpus on a host that answers 50 requests a second, and says 429 to what is more."""
    with origin.serve(corpus.images(), logged=True) as server:
        urls = web.corpus_urls(rows, lambda _, name: server.url(f"strict/{name}"))
        yield Web({"urls": written(folder, "urls", urls)}, corpus.images(), server=server, live=LIMITED_SHARE_LEAST)


@contextmanager
def by_name(folder: Path, rows: int) -> Iterator[Web]:
    """Serve one small JPEG to URLs of which each has a host name of its own, and to the same by address."""
    pictures = web.small_picture(folder)
    names = [(f"n{number:06}.test", HOSTS[number % len(HOSTS)]) for number in range(rows)]
    records = (f"{name}. 300 IN A {address}" for name, address in names)
    with origin.serve(pictures, addresses=HOSTS) as server, name_server.serve(records, logged=True) as known:
        lists = {
            "names": [server.url("small.jpg", name) for name, _ in names],
            "addresses": [server.url(f"small.jpg?{number}", address) for number, (_, address) in enumerate(names)],
        }
        kept = {name: written(folder, name, urls) for name, urls in lists.items()}
        yield Web(kept, pictures, names=known)


def _urls(server: Origin, rows: int, hosts: tuple[str, ...]) -> list[str]:
    return web.corpus_urls(rows, lambda number, name: server.url(name, hosts[number % len(hosts)]))


def _with_live(folder: Path, urls: list[str], live: list[str], server: Origin) -> Web:
    """Return a web whose list is *urls*, and ``live`` those of them that lead to an image."""
    lists = {"urls": written(folder, "urls", urls), "live": written(folder, "live", live)}
    return Web(lists, corpus.images(), server=server, live=len(live) / len(urls))


@contextmanager
def _deaf(address: str) -> Iterator[int]:
    """Yield a port of *address* where connections are accepted, by the system, and nobody reads."""
    with socket.socket() as listening:
        listening.bind((address, 0))
        listening.listen(4096)
        yield int(listening.getsockname()[1])
