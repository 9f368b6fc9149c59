"""What owners say of their images, from the header to the row of the metadata."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

import origin as origin_server
from async_img2ds import download, verify
from async_img2ds.errors import ErrorClass
from async_img2ds.policy.schema import PROVENANCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from origin import Origin

QUIET: dict[str, Any] = {"allow_net": "127.0.0.0/8", "progress": "none", "processes_count": 1, "retries": 0}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The metadata in the order of the list."""
    return sorted(pq.read_table(folder / "00000.parquet").to_pylist(), key=lambda row: row["key"])


def fetched(tmp_path: Path, urls: list[str], **options: Any) -> list[dict[str, Any]]:
    """Fetch *urls* and return their metadata."""
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    download(url_list=tmp_path / "urls.txt", output_folder=tmp_path / "out", **{**QUIET, **options})
    return rows_of(tmp_path / "out")


@pytest.mark.parametrize("output_format", ["webdataset", "parquet", "files", "tfrecord"])
def test_reserved_image_is_kept_out_and_its_row_says_why(origin: Origin, tmp_path: Path, output_format: str) -> None:
    """What is said of an image that is kept is told, too."""
    urls = [origin.url("reserved/rocket.jpg"), origin.url("rocket.jpg"), origin.url("others/rocket.jpg")]
    reserved, free, others = fetched(tmp_path, urls, output_format=output_format)

    assert (reserved["error_class"], reserved["optout"]) == (
        "optout_header",
        "X-Robots-Tag: noai, X-Robots-Tag: noimageai",
    )
    assert reserved["error_message"] == "Use of image disallowed by X-Robots-Tag directive"
    assert [(row["status"], row["optout"]) for row in (free, others)] == [("success", None)] * 2
    assert verify(str(tmp_path / "out"), progress="none").good


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"optout": "none"}, "--optout none: reservations of owners keep no image out"),
        ({"disallowed_header_directives": []}, "X-Robots-Tag keeps no image out"),
    ],
)
def test_choice_to_obey_nobody_is_said_and_kept(
    origin: Origin, tmp_path: Path, caplog: pytest.LogCaptureFixture, chosen: dict[str, Any], said: str
) -> None:
    """At the start, and in each stats file; and the rows still say what the owners did."""
    caplog.set_level(logging.WARNING)
    [row] = fetched(tmp_path, [origin.url("reserved/rocket.jpg")], **chosen)

    assert (row["status"], row["optout"]) == ("success", "X-Robots-Tag: noai, X-Robots-Tag: noimageai")
    assert said in caplog.text
    made_with = json.loads((tmp_path / "out" / "00000_stats.json").read_bytes())["made_with"]
    assert all(made_with[name] == value for name, value in chosen.items())


def test_list_can_reserve_images(origin: Origin, tmp_path: Path) -> None:
    """What it reserves is not asked for; its column is carried."""
    lines = [f"{origin.url('rocket.jpg')}?{number},{said}" for number, said in enumerate(["yes", "no", "", "0", "x"])]
    (tmp_path / "urls.csv").write_text("\n".join(["url,reserved", *lines]))
    options = {"input_format": "csv", "optout_col": "reserved", "compute_hash": "md5"}
    report = download(url_list=tmp_path / "urls.csv", output_folder=tmp_path / "out", **QUIET, **options)
    rows = rows_of(tmp_path / "out")

    assert report.error_classes == {"optout_listed": 2}
    assert [row["status"] for row in rows] == ["failed_to_download", *["success"] * 3, "failed_to_download"]
    assert (rows[0]["attempts"], rows[0]["optout"], rows[0]["reserved"]) == (0, "reserved of the list", "yes")


def test_a_host_can_be_refused(photographs: Path, tmp_path: Path) -> None:
    """It is not asked for anything, its robots.txt included, and what redirects there is not followed."""
    with origin_server.serve(photographs, logged=True, addresses=["127.0.0.2"]) as web:
        (tmp_path / "hosts.toml").write_text('["127.0.0.2"]\nrefuse = true\n')
        urls = [web.url("rocket.jpg", "127.0.0.2"), web.url("chelsea.png"), web.url("away?host=127.0.0.2")]
        rows = fetched(tmp_path, urls, hosts_file=tmp_path / "hosts.toml", optout="strict")
        asked = web.requests()

    assert [row["error_class"] for row in rows] == ["optout_listed", None, "redirect_blocked"]
    assert rows[0]["error_message"] == "127.0.0.2 is refused by the hosts_file"
    sites = {"/robots.txt", "/.well-known/tdmrep.json"}
    assert sorted(set(asked) - sites) == ["/away?host=127.0.0.2", "/chelsea.png"]
    assert len(asked) == 4


def test_provenance_is_told_on_request(origin: Origin, tmp_path: Path) -> None:
    """When and from whom an image came, and what its server said of it; of what never came, nothing."""
    urls = [origin.url("rocket.jpg"), origin.url("no-such.jpg"), "http://127.0.0.1:2/refused.jpg"]
    image, missing, refused = fetched(tmp_path, urls, provenance=True, output_format="webdataset")

    assert image["content_type"] == "image/jpeg"
    assert image["address"] == missing["address"] == "127.0.0.1"
    assert image["etag"].startswith('"')
    assert image["last_modified"].endswith("GMT")
    assert image["fetched_at"].startswith("20")
    assert image["body_bytes"] > 10_000
    assert image["tls_verified"] is None
    assert missing["content_type"] == "text/html"
    assert [refused[name] for name in PROVENANCE] == [None] * len(PROVENANCE)
    assert refused["error_class"] == ErrorClass.CONNECT_REFUSED


Response = tuple[int, dict[str, str], bytes]


@dataclass
class Site:
    """A web site: what it answers at each path, as status, headers and body, and how often it was asked for what."""

    answers: dict[str, Response]
    asked: Counter[str] = field(default_factory=Counter)
    port: int = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@contextmanager
def serving(image: bytes, answers: dict[str, Response]) -> Iterator[Site]:
    """Serve *answers*, *image* at any other path but those of the two files that are asked for."""
    site = Site(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            site.asked[path] += 1
            missing: Response = (
                (404, {}, b"") if path in ("/robots.txt", "/.well-known/tdmrep.json") else (200, {}, image)
            )
            status, headers, body = site.answers.get(path, missing)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


ALL_FORBIDDEN: Response = (200, {}, b"User-agent: *\nDisallow: /")
NO_TRAINING: Response = (200, {}, b"User-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /")
NO_MINING: Response = (200, {}, b'[{"location": "/", "tdm-reservation": 1}]')


def moved(to: str) -> Response:
    return 301, {"Location": to}, b""


@pytest.fixture
def image(photographs: Path) -> bytes:
    return (photographs / "rocket.jpg").read_bytes()


@pytest.mark.parametrize(
    ("answers", "error_class", "optout", "images_asked"),
    [
        ({}, None, None, 3),
        ({"/robots.txt": ALL_FORBIDDEN}, "optout_robots", "robots.txt: disallow", 0),
        ({"/robots.txt": NO_TRAINING}, "optout_robots", "robots.txt: Content-Signal ai-train=no", 0),
        ({"/robots.txt": (403, {}, b"User-agent: *\nDisallow: /")}, None, None, 3),
        ({"/robots.txt": (503, {}, b"")}, "robots_unreachable", None, 0),
        ({"/robots.txt": (429, {}, b"")}, "robots_unreachable", None, 0),
        (
            {"/robots.txt": (301, {"Location": "/r"}, b""), "/r": ALL_FORBIDDEN},
            "optout_robots",
            "robots.txt: disallow",
            0,
        ),
        ({"/robots.txt": moved("/robots.txt")}, None, None, 3),
        ({"/robots.txt": moved("http://10.0.0.1/")}, None, None, 3),
        ({"/.well-known/tdmrep.json": NO_MINING}, "optout_tdm", "tdmrep.json: 1", 3),
        ({"/.well-known/tdmrep.json": (500, {}, b"")}, None, None, 3),
    ],
)
def test_site_is_asked_once_what_it_says_of_all_that_it_has(
    tmp_path: Path,
    image: bytes,
    answers: dict[str, Response],
    error_class: str | None,
    optout: str | None,
    images_asked: int,
) -> None:
    """What its robots.txt forbids is not asked for; what cannot be asked is not allowed."""
    with serving(image, answers) as site:
        rows = fetched(tmp_path, [site.url(f"/{number}.jpg") for number in range(3)], optout="strict")

    assert [(row["error_class"], row["optout"]) for row in rows] == [(error_class, optout)] * 3
    assert sum(count for path, count in site.asked.items() if path.endswith(".jpg")) == images_asked
    assert site.asked["/robots.txt"] == (
        6 if answers.get("/robots.txt", (0, {}))[1].get("Location") == "/robots.txt" else 1
    )


def test_only_strict_asks_sites(tmp_path: Path, image: bytes) -> None:
    """It costs each host two requests."""
    with serving(image, {"/robots.txt": ALL_FORBIDDEN}) as site:
        [row] = fetched(tmp_path, [site.url("/a.jpg")])

    assert row["status"] == "success"
    assert site.asked == {"/a.jpg": 1}


def test_header_of_an_answer_counts_more_than_the_file_of_its_site(tmp_path: Path, image: bytes) -> None:
    """As the protocol has it."""
    answers = {"/.well-known/tdmrep.json": NO_MINING, "/a.jpg": (200, {"TDM-Reservation": "0"}, image)}
    with serving(image, answers) as site:
        allowed, reserved = fetched(tmp_path, [site.url("/a.jpg"), site.url("/b.jpg")], optout="strict")

    assert (allowed["status"], reserved["error_class"]) == ("success", "optout_tdm")


def test_each_site_on_the_way_is_asked(tmp_path: Path, image: bytes) -> None:
    """A redirect leads to another's images, and to another's rules."""
    with serving(image, {"/robots.txt": ALL_FORBIDDEN}) as there:
        away = (302, {"Location": there.url("/b.jpg")}, b"")
        with serving(image, {"/a.jpg": away}) as here:
            [row] = fetched(tmp_path, [here.url("/a.jpg")], optout="strict")

    assert (row["error_class"], row["final_url"]) == ("optout_robots", there.url("/b.jpg"))
    assert there.asked == {"/robots.txt": 1, "/.well-known/tdmrep.json": 1}


def test_image_may_say_itself_that_it_is_reserved(tmp_path: Path, image: bytes) -> None:
    """In its XMP, which is read as text; it has come by then, and is not kept."""
    xmp = b"<plus:DataMining>http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-AIMLTRAINING</plus:DataMining>"
    segment = b"http://ns.adobe.com/xap/1.0/\0" + xmp
    marked = image[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + image[2:]
    with serving(marked, {}) as site:
        [row] = fetched(tmp_path, [site.url("/a.jpg")], optout="strict", output_format="webdataset")
        (tmp_path / "again").mkdir()
        [kept] = fetched(tmp_path / "again", [site.url("/a.jpg")])

    assert (row["error_class"], row["optout"]) == (
        "optout_metadata",
        "plus:DataMining: DMI-PROHIBITED-AIMLTRAINING",
    )
    assert (row["http_status"], kept["status"]) == (200, "success")
