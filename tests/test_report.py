"""The page of a dataset: what it tells in each format, of how many rows, to whom, and that nothing in it is run."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import signal
import subprocess
import sys
import tarfile
import threading
from html.parser import HTMLParser
from http.client import HTTPConnection
from random import Random
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import samples
from async_img2ds import OptionsError, report, summary, verify
from async_img2ds.dataset.stats import StatsFile
from async_img2ds.errors import ErrorClass, Trace
from async_img2ds.existing import drop_manifest
from async_img2ds.options import ReportOptions
from async_img2ds.outputs.base import WRITERS
from async_img2ds.page.contents import BYTES_MAX, Page, page_of
from async_img2ds.page.gathering import Gathered, gather
from async_img2ds.page.looks import ROWS_MOST, SHARDS_MOST, Card, drawn_from, within_bounds
from async_img2ds.page.pictures import IMAGE_BYTES, members_in, picture_of
from async_img2ds.page.serving import Live, Server
from async_img2ds.policy.markers import Marker
from async_img2ds.policy.tar_index import BLOCK
from async_img2ds.records import Encoded, FileSum, Row, Sample, Status, Tally
from async_img2ds.storage import LEFTOVER_NAME, REPORT, LocalStore
from handmade import saved
from policy.test_markers import IMG2DATASETS
from test_cli import aimg2ds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = (
    "</bdi></code>\"'><script>alert(1)</script><img src=x onerror=alert(1)><a href=javascript:alert(1)>x</a>"
    "\u202e{{ 7*7 }}"
)
ROWS = 12
TABLE = pa.table(
    {
        "caption": [f"the picture {at}" for at in range(ROWS)],
        "url": [f"https://host{at % 3}.example/{at}.jpg" for at in range(ROWS)],
    }
)


class Seen(HTMLParser):
    """What a browser would make of a page: tags, their attributes, and texts."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self.text = ""
        self._open = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open in ("style", "script") and data.strip():
            self.inside[self._open] = data

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002  as the base class has it
        self._open = ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def cards(self) -> list[dict[str, str | None]]:
        return [attributes for attributes in self.all("li") if (attributes.get("class") or "").startswith("card")]


def picture(at: int) -> bytes:
    return saved(Image.new("RGB", (64 + at, 48), (20 * at, 90, 160)), "JPEG")


def dataset(folder: Path, output_format: str = "webdataset", listed: pa.Table = TABLE, **told: Any) -> Path:
    """Write twelve rows as shard 12: nine images, one that is gone, one that is none, one that is reserved."""
    made = [_success(at) for at in range(ROWS - 3)]
    reasons = (
        (Status.FAILED_TO_DOWNLOAD, ErrorClass.HTTP_STATUS_4XX),
        (Status.FAILED_TO_RESIZE, ErrorClass.NOT_IMAGE),
        (Status.FAILED_TO_DOWNLOAD, ErrorClass.OPTOUT_HEADER),
    )
    made += [
        Sample(_row(at), status, error_class=reason, error_message="so it is", http_status=404, attempts=1)
        for at, (status, reason) in enumerate(reasons, ROWS - 3)
    ]
    samples.write(output_format, folder, made, listed)
    tally = Tally(ROWS, ROWS - 3, 2, 1, 90_000, 30_000)
    tally.error_classes.update(str(reason) for _, reason in reasons)
    tally.latencies_ms.update({14: 8, 17: 4})
    tally.body_sizes.update({26: 9})
    made_with = {"output_format": output_format, "encode_format": "jpg", "image_size": 256}
    marker = Marker(tally, 1.79e9, 30.0, {}, "", made_with, 1).to_json()
    (folder / "00012_stats.json").write_text(json.dumps({**json.loads(marker), **told}))
    return folder


def _row(at: int) -> Row:
    return Row(at, f"00012{at:04d}", TABLE["url"][at].as_py())


def _success(at: int) -> Sample:
    encoded = Encoded(picture(at), 64 + at, 48, 640, 480, "{}", "digest")
    trace = Trace("X-Robots-Tag: noindex") if at == 3 else Trace()
    return Sample(_row(at), Status.SUCCESS, encoded, None, None, 200, 1, 9, trace=trace)


def made(folder: Path, **options: Any) -> Seen:
    report(str(folder), progress="none", **options)
    return Seen((folder / REPORT).read_bytes())


@pytest.mark.parametrize("output_format", sorted(WRITERS))
def test_every_format_is_told_of(tmp_path: Path, output_format: str) -> None:
    """With its images, which are small pictures in the page itself, and their captions; a dummy has counts alone."""
    folder = dataset(tmp_path / "out", output_format)
    told = report(str(folder), progress="none")
    seen = Seen((folder / REPORT).read_bytes())
    is_dummy = output_format == "dummy"

    assert (told.shards, told.rows, told.successes) == (1, ROWS, 9)
    assert (told.rows_looked_at, told.thumbnails) == ((0, 0) if is_dummy else (ROWS, 9))
    assert told.bytes == (folder / REPORT).stat().st_size < BYTES_MAX
    assert len(seen.cards()) == (0 if is_dummy else ROWS)
    assert len({each["src"] for each in seen.all("img")}) == told.thumbnails
    assert "75 %" in seen.text
    assert "not there any more" in seen.text
    if not is_dummy:
        assert {each["alt"] for each in seen.all("img")} == {f"the picture {at}" for at in range(9)}
        assert "host1.example" in seen.text
        assert "X-Robots-Tag: noindex" in seen.text


def test_pictures_stand_with_the_words_of_their_row(tmp_path: Path) -> None:
    """Whatever the order of rows and images: sizes tell which is which."""
    seen = made(dataset(tmp_path / "out"))

    for each in seen.all("img"):
        at = int((each["alt"] or "").rpartition(" ")[2])
        content = base64.b64decode((each["src"] or "").partition(",")[2])
        assert Image.open(io.BytesIO(content)).size == (64 + at, 48)
        assert (each["width"], each["height"]) == (str(64 + at), "48")


def test_nothing_of_strangers_is_run_or_asked_for(tmp_path: Path) -> None:
    """Captions, URLs, reasons and options are text, and what a browser may do is the one script that is ours."""
    listed = pa.table({"caption": [HOSTILE] * ROWS, "url": [f"https://h/{HOSTILE}"] * ROWS})
    seen = made(dataset(tmp_path / "out", "files", listed, made_with={HOSTILE: HOSTILE}, error_classes={HOSTILE: 3}))
    everything = [attributes for _, attributes in seen.tags]

    assert "alert(1)" in seen.text
    assert "{{ 7*7 }}" in seen.text
    assert len(seen.all("script")) == len(seen.all("style")) == 1
    assert not [name for attributes in everything for name in attributes if name.startswith("on") or name == "style"]
    assert all((each["href"] or "").startswith("#") for each in seen.all("a"))
    assert all((each["src"] or "").startswith("data:image/") for each in seen.all("img"))
    assert {each["href"] for each in seen.all("link")} == {"data:,"}
    assert "\u202e" not in seen.text
    assert not {"iframe", "object", "form action", "base"} & {tag for tag, _ in seen.tags}


def test_the_policy_lets_nothing_else_in(tmp_path: Path) -> None:
    """The hashes are those of the style and the script that are there; nothing is loaded, framed, or sent."""
    seen = made(dataset(tmp_path / "out"))
    [policy] = [each["content"] for each in seen.all("meta") if each.get("http-equiv")]
    assert policy is not None

    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(seen.inside[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "connect-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_page_stays_small_whatever_strangers_write(tmp_path: Path) -> None:
    """Rows are left out rather than that it grows without end."""
    gathered = gather(ReportOptions(output_folder=str(dataset(tmp_path / "out"))), "none")
    long = Card("1" * 3000, "success", '"' * 3000, "'" * 3000, picture="data:image/webp;base64," + "A" * 9000)
    gathered.look.images = [long] * 1000
    gathered.look.failed = [Card("2", "failed_to_download", '"' * 3000, None, '"' * 3000, "&" * 3000)] * 1000
    page = page_of(gathered, ReportOptions(output_folder="out", thumbnails=1000))

    assert len(page.content) <= BYTES_MAX
    assert page.thumbnails > 100


def test_all_is_said_of_few_rows_and_samples_of_many(tmp_path: Path) -> None:
    """And which it is: how many of how many."""
    folder = dataset(tmp_path / "out")
    few = made(folder)
    for number in range(100, 900):
        tally = Tally(10_000, 9_000, 1_000, 0)
        (folder / f"{number:05d}_stats.json").write_bytes(
            Marker(tally, 1.79e9 + number, 60.0, {}, "", {"output_format": "dummy"}, 1).to_json()
        )
    many = made(folder, seed=next(seed for seed in range(1000) if 0 in drawn_from(801, seed)[:10]))

    assert "all 12 rows" in few.text
    assert "One shard tells no more than its mean" in few.text
    assert "8,000,012" in many.text
    assert "12 of 8,000,012 rows, in 1 of 801 shards drawn at random" in many.text
    assert "output_format dummy keeps no rows" in many.text


def test_what_is_read_is_bounded() -> None:
    """However many shards there are and however large: so many are drawn, once each, and rows, but one at the least."""

    def file(rows: int) -> StatsFile:
        return StatsFile(0, "0", Marker(Tally(rows), 1.0, 1.0), FileSum(0, ""))

    drawn = drawn_from(10**7, seed=3)

    assert len(set(drawn)) == SHARDS_MOST
    assert drawn == drawn_from(10**7, seed=3) != drawn_from(10**7, seed=4)
    assert sorted(drawn_from(5, seed=1)) == [0, 1, 2, 3, 4]
    assert len(within_bounds([file(10_000)] * 64, 10**7).files) == ROWS_MOST / 10_000
    assert len(within_bounds([file(10**9)] * 64, 10**7).files) == 1
    assert within_bounds([file(5)] * 3, 3).is_all
    assert not within_bounds([StatsFile(0, "0", None, FileSum(0, ""), "gone")], 1).files


def test_pieces_of_a_tar_have_only_what_it_has() -> None:
    """From whichever block they begin, and wherever they end: members that lie whole in it, name and content."""
    there, stored, chance = {}, io.BytesIO(), Random(1)  # noqa: S311  no key
    with tarfile.open(fileobj=stored, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for at in range(12):
            content = chance.randbytes(chance.randrange(3000))
            there[f"{at:05d}.jpg"] = content
            member = tarfile.TarInfo(f"{at:05d}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    whole = stored.getvalue()

    assert dict(members_in(whole)) == there
    for begin in range(0, len(whole), BLOCK):
        found = dict(members_in(whole[begin : begin + chance.randrange(9000)]))
        assert found.items() <= there.items()
    assert list(members_in(b"\xff" * 5000)) == list(members_in(b"ustar" * 2000)) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", picture(3)[:200], b"\x89PNG\r\n\x1a\n" + bytes(60), saved(Image.new("1", (9000, 9000)), "PNG")],
)
def test_what_cannot_be_shown_is_passed_over(content: bytes) -> None:
    """Broken, none at all, or too large to be looked at."""
    assert picture_of(content) is None
    assert IMAGE_BYTES < 2**24


def test_shards_of_img2dataset_are_told_of_with_what_they_lack(tmp_path: Path) -> None:
    """Neither classes nor latencies: that is said, and not taken for none."""
    (tmp_path / "00000_stats.json").write_text(json.dumps(IMG2DATASETS))
    seen = made(tmp_path)

    assert "made by img2dataset" in seen.text
    assert "untold" in seen.text
    assert "No shard here tells it" in seen.text


@pytest.mark.parametrize("output_format", sorted(set(WRITERS) - {"dummy"}))
def test_images_of_img2dataset_are_found_without_being_told_where(tmp_path: Path, output_format: str) -> None:
    """Its stats files name no format, and its tables have no reasons; messages do for these."""
    folder = dataset(tmp_path / "out", output_format)
    own = {"error_class", "http_status", "attempts", "final_url", "optout", "tls_verified"}
    table = pq.read_table(folder / "00012.parquet")
    pq.write_table(table.drop_columns([name for name in table.column_names if name in own]), folder / "00012.parquet")
    told = {**IMG2DATASETS, "count": ROWS, "successes": ROWS - 3, "failed_to_download": 2, "failed_to_resize": 1}
    (folder / "00012_stats.json").write_text(json.dumps(told))
    seen = made(folder)

    assert len(seen.all("img")) == ROWS - 3
    assert "untold" in seen.text
    assert "so it is" in seen.text


def test_damaged_and_missing_shards_are_named(tmp_path: Path) -> None:
    """On the page, by the value and by the status; whatever is in them."""
    folder = dataset(tmp_path / "out")
    (folder / "00014_stats.json").write_text("{}")
    (folder / "00015_stats.json").touch()
    done = aimg2ds("report", str(folder), "--progress", "none")
    seen = Seen((folder / REPORT).read_bytes())

    assert done.returncode == 1
    assert "DAMAGED: 00014_stats.json is " in done.stdout
    assert f"{folder / REPORT}  0." in done.stdout
    assert "9 of 12 images (75.0%)" in done.stdout
    assert "00014_stats.json is not the stats of a shard" in seen.text
    assert "13 shards below the highest number are not there" in seen.text


def test_damaged_tables_cost_their_samples_alone(tmp_path: Path) -> None:
    """Counts are there, and which shard was not looked at."""
    folder = dataset(tmp_path / "out")
    (folder / "00012.parquet").write_bytes(b"PAR1 no more")
    seen = made(folder)

    assert "shard 00012:" in seen.text
    assert "75 %" in seen.text
    assert not seen.cards()


def test_pictures_can_be_left_out(tmp_path: Path) -> None:
    """Where they should not be seen; failed rows are shown."""
    seen = made(dataset(tmp_path / "out"), thumbnails=0)

    assert not seen.all("img")
    assert len(seen.cards()) == 3
    assert "Pictures were left out" in seen.text


def test_readers_of_a_dataset_pass_over_the_page(tmp_path: Path) -> None:
    """It is no part of the dataset, and a change of shards removes it, as it may show what is removed."""
    folder = dataset(tmp_path / "out")
    before = summary(str(folder), progress="none"), verify(str(folder), progress="none", processes_count=1)
    report(str(folder), progress="none")
    after = summary(str(folder), progress="none"), verify(str(folder), progress="none", processes_count=1)

    assert (after[0].rows, after[0].damaged, after[1].unfinished) == (before[0].rows, {}, before[1].unfinished)
    assert after[1].defects == before[1].defects
    assert [path.name for path in folder.iterdir() if LEFTOVER_NAME.fullmatch(path.name)] == []
    drop_manifest(LocalStore(folder))
    assert not (folder / REPORT).exists()


def test_a_page_may_go_elsewhere(tmp_path: Path) -> None:
    """To any file system; what was there is replaced, and half a page is never there."""
    folder = dataset(tmp_path / "out")
    report(str(folder), output_file=str(tmp_path / "page.html"), progress="none")
    report(str(folder), output_file=str(tmp_path / "page.html"), progress="none")
    told = report(str(folder), output_file="memory://pages/page.html", progress="none")

    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["page.html"]
    assert not (folder / REPORT).exists()
    assert len(fsspec.filesystem("memory").cat_file("/pages/page.html")) == told.bytes
    assert LEFTOVER_NAME.fullmatch(f"{REPORT}.0123abcd.partial")
    with pytest.raises(OptionsError, match="choose another --output_file"):
        report(str(folder), output_file=str(tmp_path / "none" / "page.html"), progress="none")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"watch": True, "output_file": "page.html"}, "leave out output_file or watch"),
        ({"output_folder": "s3://bucket/out", "open": True}, "name a file on a disk with --output_file"),
        ({"output_folder": "hf://datasets/org/name"}, "--output_file FILE"),
        ({"thumbnails": 5000}, "at most 1000"),
    ],
)
def test_what_cannot_be_done_is_refused(options: dict[str, Any], words: str) -> None:
    """Before anything is read, with what to do instead."""
    with pytest.raises(OptionsError, match=re.escape(words)):
        ReportOptions(**{"output_folder": "out", **options})


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    """And nothing is written there."""
    with pytest.raises(OptionsError, match="there is no dataset"):
        report(str(tmp_path), progress="none")

    assert not list(tmp_path.iterdir())


@pytest.fixture
def server() -> Iterator[Server]:
    """A page that is another one each time it is made."""
    versions = iter(range(2, 100))
    live = Live(lambda: Page(b"page %d" % next(versions), Gathered("out"), 0), 0.0, Page(b"page 1", Gathered("out"), 0))
    with Server(0, live) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def asked(server: Server, path: str, host: str | None = None, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    said = answer.status, answer.read().decode(), dict(answer.getheaders())
    connection.close()
    return said


def test_a_page_is_served_to_this_machine_alone(server: Server) -> None:
    """At loopback, to requests that name it so and know its address: no site can have a browser read it."""
    port = server.server_address[1]

    assert server.server_address[0] == "127.0.0.1"
    assert asked(server, server.path)[:2] == (200, "page 1")
    assert asked(server, server.path, f"localhost:{port}")[0] == 200
    assert asked(server, server.path, "localhost:9999")[0] == 200  # through a tunnel
    for host in (f"evil.example:{port}", "evil.example", "", "127.0.0.1.evil.example", "[::]:80", f"0.0.0.0:{port}"):
        assert asked(server, server.path, host)[0] == 403
    for path in ("/", "/version", "/../../etc/passwd", f"{server.path}x"):
        assert asked(server, path)[0] == 404
    assert asked(server, server.path, method="POST")[0] == 501
    assert asked(server, server.path, method="HEAD")[:2] == (200, "")


def test_a_served_page_says_what_may_be_done_with_it(server: Server) -> None:
    """No framing, no sniffing, no cache, no referrer; it asks its own server and nobody else."""
    headers = asked(server, server.path)[2]

    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_page_is_made_anew_while_somebody_looks(server: Server) -> None:
    """Not before it is asked whether there is another."""
    assert asked(server, server.path)[1] == asked(server, server.path)[1] == "page 1"
    while int(asked(server, f"{server.path}version")[1]) == 1:
        pass
    assert asked(server, server.path)[1] != "page 1"


def test_it_rests_between_two_pages() -> None:
    """For the seconds that were said, and for four times as long as the last took."""
    live = Live(lambda: pytest.fail("made too soon"), 0.0, Page(b"", Gathered("out"), 0), took_s=1000.0)
    patient = Live(lambda: pytest.fail("made too soon"), 1000.0, Page(b"", Gathered("out"), 0))

    assert live.refresh() == patient.refresh() == 1


def test_watching_begins_before_there_is_a_shard_and_ends_by_ctrl_c(tmp_path: Path) -> None:
    """With the address in the first line, and status 0."""
    command = [sys.executable, "-m", "async_img2ds", "report", str(tmp_path), "--watch", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().split()[0]
        port, path = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/.+/)", address).groups()  # type: ignore[union-attr]
        connection = HTTPConnection("127.0.0.1", int(port), timeout=10)
        connection.request("GET", path)
        page = connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)

    assert b"No shard is finished yet" in page
    assert (process.returncode, out) == (0, "ended\n")
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
