"""The open web on loopback, for the scenarios about it: rot, late answers, a tarpit, a host that sets a limit, names.

Each yields lists that differ in one thing, so that what it costs is what one run takes more than another.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import corpus
import name_server
import origin
import web
from web import HOSTS, Web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from origin import Origin
    from web import UrlList

__all__ = ["by_name", "late", "one_or_many", "rotten", "strict", "tarpit"]

LATE_S: Final = 0.3
LATE_HOSTS: Final = tuple(f"127.0.{16 + number // 200}.{number % 200 + 1}" for number in range(2000))
# One of so many hosts hangs.
TARPIT_HOSTS: Final = 100
# Of the URLs of a host that sets a limit so many must come to an image.
LIMITED_SHARE_LEAST: Final = 0.995
LIVE_HOSTS: Final = 600
DEAF_HOSTS: Final = 60


@contextmanager
def rotten(folder: Path, rows: int) -> Iterator[Web]:
    """Serve the corpus on 600 hosts to seven of ten URLs; two ask 60 hosts that never answer, one is refused.

    The list ``live`` has only those that are served.
    """
    hosts = [f"127.0.{4 + number // 200}.{number % 200 + 1}" for number in range(LIVE_HOSTS)]
    with ExitStack() as stack:
        server = stack.enter_context(origin.serve(corpus.images(), addresses=hosts, logged=True))
        deaf = [(address, stack.enter_context(web.deaf(address))) for address in web.SILENT[:DEAF_HOSTS]]
        closed = origin.free_port()
        urls = []
        for number, path in enumerate(_names(rows)):
            name = f"{path}?{number}"
            kind, turn = web.ROT[number % len(web.ROT)], number // len(web.ROT)
            if kind == "silent":
                address, port = deaf[(2 * turn + number % 2) % len(deaf)]
                urls.append(f"http://{address}:{port}/{name}")
            elif kind == "refused":
                urls.append(f"http://{web.REFUSING[turn % len(web.REFUSING)]}:{closed}/{name}")
            else:
                urls.append(server.url(name, hosts[number % len(hosts)]))
        live = [url for number, url in enumerate(urls) if web.ROT[number % len(web.ROT)] == "live"]
        lists = {"urls": _list(folder, "urls", urls), "live": _list(folder, "live", live)}
        yield Web(lists, corpus.images(), server=server, live=len(live) / len(urls))


@contextmanager
def late(folder: Path, rows: int) -> Iterator[Web]:
    """Serve the corpus on 2,000 hosts that answer after 0.3 s (``late``), and the same at once (``prompt``)."""
    with ExitStack() as stack:
        ports = {
            name: stack.enter_context(web.thinking(seconds, LATE_HOSTS))
            for name, seconds in (("late", LATE_S), ("prompt", 0.0))
        }
        lists = {
            name: _list(
                folder,
                name,
                [
                    f"http://{LATE_HOSTS[number % len(LATE_HOSTS)]}:{port}/{path}?{number}"
                    for number, path in enumerate(_names(rows))
                ],
            )
            for name, port in ports.items()
        }
        yield Web(lists, corpus.images())


@contextmanager
def one_or_many(folder: Path, rows: int) -> Iterator[Web]:
    """Serve the corpus on 200 hosts (``many``), and all of it on one of them (``one``)."""
    with origin.serve(corpus.images(), addresses=HOSTS) as server:
        lists = {
            name: _list(folder, name, _urls(server, rows, hosts))
            for name, hosts in (("many", HOSTS), ("one", HOSTS[:1]))
        }
        yield Web(lists, corpus.images())


@contextmanager
def tarpit(folder: Path, rows: int) -> Iterator[Web]:
    """Serve the corpus on 99 hosts (``live``); in ``urls`` are those, and a hundredth on one that never answers."""
    with origin.serve(corpus.images(), addresses=HOSTS, logged=True) as server, web.deaf(web.SILENT[0]) as port:
        live = _urls(server, rows - rows // TARPIT_HOSTS, HOSTS[: TARPIT_HOSTS - 1])
        urls = []
        for number, url in enumerate(live):
            urls.append(url)
            if number % (TARPIT_HOSTS - 1) == 0 and len(urls) + len(live) - number <= rows:
                urls.append(f"http://{web.SILENT[0]}:{port}/{number}.jpg")
        lists = {"urls": _list(folder, "urls", urls), "live": _list(folder, "live", live)}
        yield Web(lists, corpus.images(), server=server, live=len(live) / len(urls))


@contextmanager
def strict(folder: Path, rows: int) -> Iterator[Web]:
    """Serve the corpus on a host that answers 50 requests a second, and says 429 to what is more."""
    with origin.serve(corpus.images(), logged=True) as server:
        urls = [server.url(f"strict/{name}?{number}") for number, name in enumerate(_names(rows))]
        yield Web({"urls": _list(folder, "urls", urls)}, corpus.images(), server=server, live=LIMITED_SHARE_LEAST)


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
        kept = {name: _list(folder, name, urls) for name, urls in lists.items()}
        yield Web(kept, pictures, names=known)


def _names(rows: int) -> Iterator[str]:
    """Yield the names of the corpus's files over and over, *rows* in all."""
    names = sorted(path.name for path in corpus.images().iterdir())
    for number in range(rows):
        yield names[number % len(names)]


def _urls(server: Origin, rows: int, hosts: tuple[str, ...]) -> list[str]:
    return [server.url(f"{name}?{number}", hosts[number % len(hosts)]) for number, name in enumerate(_names(rows))]


def _list(folder: Path, name: str, urls: list[str]) -> UrlList:
    return web.written(folder / f"{name}.parquet", urls)
