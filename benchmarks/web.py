"""A web on loopback as a scenario wants it, and the lists that lead into it.

Hosts are addresses, 200 of them (127.0.1.x). Each way of serving is a context manager that yields what programs are
told.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import authority
import corpus
import origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from name_server import NameServer

__all__ = [
    "UrlList",
    "Web",
    "START_ROWS",
    "corpus_urls",
    "delayed",
    "http",
    "https",
    "long_list",
    "many_lengths",
    "small_bodies",
    "small_picture",
    "thinking",
    "written",
]

HOSTS: Final = tuple(f"127.0.1.{number}" for number in range(1, 201))
DELAY_S: Final = 0.2
# One row group, the default of Arrow's own writer; the list repeats it, as writing is not what is measured.
GROUP_ROWS: Final = 2**20
# Rows of the list ``start`` that most webs have: what a run of it takes is what starting and ending takes.
START_ROWS: Final = 10
# So many rows of the same list take part in a scenario with a long one.
CLEAN_ROWS: Final = 6_000


@dataclass(frozen=True, slots=True)
class UrlList:
    """A list of *rows* URLs, as a parquet file with a column ``url``."""

    path: Path
    rows: int


@dataclass(frozen=True, slots=True)
class Web:
    """What is served, by name of the list that leads to it.

    Attributes:
        lists: a scenario with one list calls it ``urls``.
        pictures: the files behind the URLs.
        environment: variables that programs need to get at it.
        server: where requests are logged, if they are.
        names: where host names are looked up, if the URLs have any.
        live: the share of URLs that lead to an image.

    """

    lists: Mapping[str, UrlList]
    pictures: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    server: origin.Origin | None = None
    names: NameServer | None = None
    live: float = 1.0


@contextmanager
def http(folder: Path, rows: int) -> Iterator[Web]:
    """Serve the corpus on 200 hosts."""
    with origin.serve(corpus.images(), addresses=HOSTS) as server:
        yield _corpus_web(folder, rows, lambda number, name: server.url(name, HOSTS[number % len(HOSTS)]))


@contextmanager
def https(folder: Path, rows: int) -> Iterator[Web]:
    """Serve the corpus on 200 hosts over HTTPS, each with a certificate of a local authority."""
    bundle, certificates = authority.certify(folder, HOSTS)
    with origin.serve(corpus.images(), certificates=certificates) as server:
        yield _corpus_web(
            folder,
            rows,
            lambda number, name: server.secure_url(name, HOSTS[number % len(HOSTS)]),
            {"SSL_CERT_FILE": str(bundle)},
        )


@contextmanager
def delayed(folder: Path, rows: int) -> Iterator[Web]:
    """Serve the corpus on 200 hosts that think for a fifth of a second before they answer."""
    with thinking(DELAY_S, HOSTS) as port:
        yield _corpus_web(folder, rows, lambda number, name: f"http://{HOSTS[number % len(HOSTS)]}:{port}/{name}")


@contextmanager
def small_bodies(folder: Path, rows: int) -> Iterator[Web]:
    """Serve one JPEG of less than a kilobyte on 200 hosts."""
    with many_lengths(folder, [rows]) as web:
        yield replace(web, lists={"urls": web.lists[str(rows)], "start": web.lists["start"]})


@contextmanager
def many_lengths(folder: Path, lengths: list[int]) -> Iterator[Web]:
    """Serve one small JPEG on 200 hosts to lists of *lengths*, each called by its length, beside ``start``."""
    pictures = small_picture(folder)
    with origin.serve(pictures, addresses=HOSTS) as server:
        lists = {}
        for name, rows in {"start": START_ROWS, **{str(length): length for length in lengths}}.items():
            urls = [server.url(f"small.jpg?{number}", HOSTS[number % len(HOSTS)]) for number in range(rows)]
            lists[name] = written(folder, name, urls)
        yield Web(lists, pictures)


@contextmanager
def long_list(folder: Path, rows: int) -> Iterator[Web]:
    """Serve one small JPEG to a list of *rows* rows with captions, called ``long``, and the corpus to one of 6,000.

    Requests for the small one are logged.
    """
    pictures = small_picture(folder)
    with origin.serve(pictures, addresses=HOSTS, logged=True) as server, http(folder, min(rows, CLEAN_ROWS)) as clean:
        path = folder / "long.parquet"
        _write_long_list(path, rows, server)
        yield Web({"long": UrlList(path, rows), **clean.lists}, clean.pictures, server=server)


def _corpus_web(
    folder: Path, rows: int, url: Callable[[int, str], str], environment: Mapping[str, str] | None = None
) -> Web:
    """Return a web whose list has *rows* URLs of corpus images, made by *url* as :func:`corpus_urls` says."""
    urls = corpus_urls(rows, url)
    lists = {"urls": written(folder, "urls", urls), "start": written(folder, "start", urls[:START_ROWS])}
    return Web(lists, corpus.images(), environment or {})


def corpus_urls(rows: int, url: Callable[[int, str], str]) -> list[str]:
    """Return *rows* URLs of corpus images; *url* makes one of its number and the file's name."""
    names = sorted(path.name for path in corpus.images().iterdir())
    # The query makes each URL another; servers of files do not look at it.
    return [f"{url(number, names[number % len(names)])}?{number}" for number in range(rows)]


@contextmanager
def thinking(seconds: float, hosts: Sequence[str]) -> Iterator[int]:
    """Yield a port on which each of *hosts* serves the corpus, *seconds* after it was asked."""
    port = origin.free_port()
    command = [sys.executable, str(Path(__file__).with_name("slow_origin.py")), str(port), str(seconds)]
    with subprocess.Popen([*command, str(corpus.images()), *hosts]) as server:
        try:
            origin.wait_for_port(port, address=hosts[-1])
            yield port
        finally:
            server.terminate()


def written(folder: Path, name: str, urls: list[str]) -> UrlList:
    """Write a list into *folder*."""
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table({"url": urls}), path)
    return UrlList(path, len(urls))


def small_picture(folder: Path) -> Path:
    """Make a folder with one JPEG of less than a kilobyte."""
    pictures = folder / "small"
    pictures.mkdir()
    Image.linear_gradient("L").resize((32, 32)).save(pictures / "small.jpg", quality=75)
    return pictures


def _write_long_list(path: Path, rows: int, server: origin.Origin) -> None:
    numbers = range(min(rows, GROUP_ROWS))
    group = pa.table(
        {
            "url": [server.url(f"small.jpg?{number:09}", HOSTS[number % len(HOSTS)]) for number in numbers],
            "caption": [f"the caption of number {number}, as long as captions of the web are" for number in numbers],
        }
    )
    with pq.ParquetWriter(path, group.schema, use_dictionary=False) as writer:
        for start in range(0, rows, GROUP_ROWS):
            writer.write_table(group.slice(0, min(GROUP_ROWS, rows - start)))
