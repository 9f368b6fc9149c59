"""Removing images on request: what is meant is gone from every file, its rows say so, and all else is what it was."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import origin as origin_server
from async_img2ds import OptionsError, PurgeReport, download, purge, retry, verify
from async_img2ds.errors import StorageError
from async_img2ds.outputs.base import WRITERS
from async_img2ds.policy import urls
from async_img2ds.policy.removal import Removal
from async_img2ds.storage import RemoteStore
from test_cli import aimg2ds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from origin import Origin

FORMATS = sorted(set(WRITERS) - {"dummy"})
NET: dict[str, Any] = {"allow_net": "127.0.0.0/8", "retries": 0, "processes_count": 2, "progress": "none"}
# Whose images are to be removed, and whose are not.
THEIRS, OURS = "127.0.0.2", "127.0.0.1"


@pytest.fixture(scope="module")
def web(photographs: Path) -> Iterator[Origin]:
    """Nginx at two addresses, which are two hosts."""
    with origin_server.serve(photographs, addresses=[THEIRS]) as server:
        yield server


def listed(web: Origin) -> list[str]:
    """Thirty URLs: a third of one host, one of which is a 404; one of the others a redirect."""
    names = ["rocket.jpg", "coffee.png", "chelsea.webp"]
    urls = [web.url(f"{names[number // 3 % 3]}?{number}", THEIRS if number % 3 == 0 else OURS) for number in range(30)]
    urls[3] = web.url("gone.jpg", THEIRS)
    urls[4] = web.url("moved/rocket.jpg?4")
    return urls


def fetched(web: Origin, folder: Path, **options: Any) -> Path:
    (folder / "urls.txt").write_text("\n".join(listed(web)))
    out = folder / "out"
    report = download(folder / "urls.txt", output_folder=out, **{"number_sample_per_shard": 10, **NET, **options})
    assert report.successes == 29
    return out


def purged(out: Path | str, *, hosts: str = "", urls: str = "", **options: Any) -> PurgeReport:
    """Purge with files of these texts."""
    folder = Path(str(out).removeprefix("simplecache::file://")).parent
    given = {name: text for name, text in (("hosts", hosts), ("urls", urls)) if text}
    for name, text in given.items():
        (folder / name).write_text(text)
    files = {name: str(folder / name) for name in given}
    return purge(str(out), progress="none", **{"processes_count": 2, **files, **options})


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    tables = [pq.read_table(path).to_pylist() for path in sorted(folder.glob("*.parquet"))]
    return {row["key"]: row for table in tables for row in table}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def at(url: str) -> str:
    """Return the host of *url*."""
    return urls.parse(url).host


@pytest.mark.parametrize("output_format", FORMATS)
def test_images_of_a_host_are_gone(web: Origin, tmp_path: Path, output_format: str) -> None:
    """Their rows say why, the others are what they were, and the dataset is good; in every format."""
    out = fetched(web, tmp_path, output_format=output_format)
    before = rows(out)
    report = purged(out, hosts=f"# asked for in a letter\n\n{THEIRS}\r\n")
    after = rows(out)

    assert (report.rows, report.shards_done, report.complete) == (10, 3, True)
    for key, row in after.items():
        if at(row["url"]) == THEIRS:
            assert (row["status"], row["error_class"]) == ("failed_to_download", "optout_removed")
            assert (row["url"], row["optout"]) == (before[key]["url"], "purge of the dataset")
            made = ("width", "height", "exif", "sha256", "http_status", "final_url", *(["jpg"] if "jpg" in row else []))
            assert not any(row[name] for name in made)
        else:
            assert row == before[key]
    assert {at(row["url"]) for row in after.values() if row["status"] == "success"} == {OURS}
    ours = [row for row in after.values() if row["status"] == "success"]
    assert len(ours) == 20
    found = verify(str(out), deep=True, progress="none")
    assert (found.good, found.successes) == (True, 20)
    if output_format == "files":
        assert len(list(out.rglob("*.jpg"))) == 20


def test_bytes_of_what_is_removed_are_nowhere(web: Origin, tmp_path: Path, photographs: Path) -> None:
    """One host has a photograph that the other has not; no file of the dataset has a piece of it afterwards."""
    url = web.url("coffee.png", THEIRS)
    (tmp_path / "urls.txt").write_text("\n".join([url, web.url("rocket.jpg"), web.url("chelsea.webp")]))
    piece = (photographs / "coffee.png").read_bytes()[1000:1200]
    for output_format in FORMATS:
        out = tmp_path / output_format
        as_it_came = {"output_format": output_format, "disable_all_reencoding": True}
        download(tmp_path / "urls.txt", output_folder=out, **as_it_came, **NET)
        assert any(piece in content for content in files(out).values())
        purged(out, urls=url)
        assert not any(piece in content for content in files(out).values())
        assert [row["status"] for row in rows(out).values()].count("success") == 2


def test_removed_once(web: Origin, tmp_path: Path) -> None:
    """The second time there is nothing to do, no retry asks for it again, and no fetch either."""
    out = fetched(web, tmp_path)
    purged(out, hosts=THEIRS)
    after = files(out)
    assert purged(out, hosts=THEIRS).rows == 0
    assert retry(str(out), **NET).rows == 0
    download(tmp_path / "urls.txt", output_folder=out, number_sample_per_shard=10, **NET)

    assert files(out) == after


def test_shards_without_any_stay_as_they_are(web: Origin, tmp_path: Path) -> None:
    """What is not meant is not written anew."""
    out = fetched(web, tmp_path, output_format="webdataset")
    before = {path.name: path.stat().st_ino for path in out.iterdir()}
    report = purged(out, urls=f"{web.url('coffee.png?14')}\nhttp://elsewhere.example/x.jpg")
    touched = {path.name for path in out.iterdir() if path.stat().st_ino != before.get(path.name)} - {"_removed.txt"}

    assert (report.rows, report.shards_done) == (1, 1)
    assert report.not_found == ("http://elsewhere.example/x.jpg",)
    assert touched == {"00001.tar", "00001.parquet", "00001_stats.json"}
    assert [key for key, row in rows(out).items() if row["error_class"] == "optout_removed"] == ["000014"]


def test_where_a_redirect_led_counts(web: Origin, tmp_path: Path) -> None:
    """Whoever asks for removal knows the URL at which the image is."""
    out = fetched(web, tmp_path)
    report = purged(out, urls=web.url("rocket.jpg?4").replace("http://", "https://") + "#top")

    assert report.rows == 1
    assert rows(out)["000004"]["error_class"] == "optout_removed"


def test_failed_rows_are_meant_too(web: Origin, tmp_path: Path) -> None:
    """What failed may heal, and a retry would fetch it."""
    out = fetched(web, tmp_path)
    assert rows(out)["000003"]["error_class"] == "http_status_4xx"
    purged(out, urls=web.url("gone.jpg", THEIRS))

    assert rows(out)["000003"]["error_class"] == "optout_removed"
    assert retry(str(out), error_class="http_status_4xx", **NET).rows == 0


def test_hashes_that_the_list_had_hinder_nothing(web: Origin, tmp_path: Path) -> None:
    """A retry leaves shards made with verify_hash alone; nothing is fetched here."""
    out = fetched(web, tmp_path)
    known = [row for row in rows(out).values() if row["status"] == "success"]
    lines = "\n".join(json.dumps({"url": row["url"], "sha256": row["sha256"]}) for row in known)
    (tmp_path / "known.jsonl").write_text(lines)
    again = tmp_path / "again"
    options = {"input_format": "jsonl", "verify_hash": ["sha256", "sha256"], "compute_hash": "sha256"}
    download(tmp_path / "known.jsonl", output_folder=again, **{**NET, **options})
    report = purged(again, hosts=THEIRS)

    assert (report.rows, report.complete) == (9, True)
    assert verify(str(again), deep=True, progress="none").good


@pytest.mark.parametrize("uploads", range(4))
def test_an_upload_that_was_cut_off_is_done_again(
    web: Origin, tmp_path: Path, uploads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object store replaces files one by one: whichever was the last, the same command ends it."""
    out = fetched(web, tmp_path, number_sample_per_shard=30, output_format="webdataset")
    shutil.copytree(out, tmp_path / "before")
    purged(out, hosts=THEIRS)
    new = files(out)
    names = ["00000.tar", "00000.parquet", "00000_stats.json"]
    fs = fsspec.filesystem("dir", path=str(out), fs=fsspec.filesystem("local"))
    store = RemoteStore(fs, "", tmp_path / "staging")
    for name in names:
        store.stage(name).write_bytes(new[name])
    shutil.rmtree(out)
    shutil.move(tmp_path / "before", out)
    store.prepare()
    put: list[str] = []

    def cut(source: str, target: str) -> None:
        if len(put) == uploads:
            raise OSError("cut off")
        put.append(target)
        shutil.copy(source, str(out) + target)

    monkeypatch.setattr(fs, "put_file", cut)
    monkeypatch.setattr(fs, "rm_file", lambda _path: (_ for _ in ()).throw(OSError("cut off")))
    with pytest.raises(StorageError, match="until the same command has put that right"):
        store.replace(names)
    store.close()
    report = purged(f"simplecache::file://{out}", hosts=THEIRS)

    assert report.complete, report.shards_lost
    assert not list(out.glob("*.redo"))
    assert {key: row for key, row in rows(out).items() if row["status"] == "success"}.keys() == {
        f"00000{number:02}" for number in range(30) if number % 3
    }
    assert verify(str(out), deep=True, progress="none").good


def test_what_unfinished_shards_have_kept_goes(web: Origin, tmp_path: Path) -> None:
    """Nobody can say whose images are in a journal; and a fetch that goes on asks for them again, which is told."""
    out = fetched(web, tmp_path)
    journal = out / "00003.journal"
    journal.mkdir()
    (journal / "0").write_bytes(b"somebody's image")
    report = purged(out, hosts=THEIRS)

    assert report.unfinished == ("00003",)
    assert not journal.exists()


@pytest.mark.parametrize("output_format", FORMATS)
def test_what_a_killed_run_has_left_goes(web: Origin, tmp_path: Path, output_format: str) -> None:
    """A shard whose files are there, but not its stats file, is no finished one, and may have images of anybody."""
    out = fetched(web, tmp_path, output_format=output_format)
    (out / "00001_stats.json").unlink()
    (out / "00002_stats.json").write_bytes(b"")
    (out / "notes.txt").write_text("somebody else's")
    report = purged(out, hosts=THEIRS)
    left = {name for name in files(out) if name.startswith(("00001", "00002")) and not name.endswith("_stats.json")}

    assert report.unfinished == ("00001", "00002")
    assert left == set()
    assert (out / "notes.txt").exists()


def test_dataset_of_which_no_shard_is_finished(web: Origin, tmp_path: Path) -> None:
    """What there is of it goes, and its fetch goes on without what is removed; an empty folder is no dataset."""
    out = fetched(web, tmp_path, number_sample_per_shard=30)
    (out / "00000_stats.json").unlink()
    report = purged(out, hosts=THEIRS)
    fetched_again = download(tmp_path / "urls.txt", output_folder=out, number_sample_per_shard=30, **NET)

    assert (report.rows, report.unfinished, report.complete) == (0, ("00000",), True)
    assert fetched_again.error_classes == {"optout_removed": 10}
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionsError, match="there is no finished shard"):
        purged(tmp_path / "empty", hosts=THEIRS)
    assert not list((tmp_path / "empty").iterdir())


def test_no_fetch_into_the_folder_asks_again(web: Origin, tmp_path: Path) -> None:
    """However it comes to that: shards that are made anew, added, retried, or led there by a redirect."""
    out = fetched(web, tmp_path)
    purged(out, hosts=f"{THEIRS}\nelsewhere.example")
    (out / "00001_stats.json").unlink()
    again = {**NET, "number_sample_per_shard": 10}
    download(tmp_path / "urls.txt", output_folder=out, **again)
    (tmp_path / "more.txt").write_text("\n".join([web.url("rocket.jpg?new", THEIRS), web.url("away?host=127.0.0.2")]))
    download(tmp_path / "more.txt", output_folder=out, incremental_mode="extend", **again)
    purged(out, urls=web.url("coffee.png?14"))
    retry(str(out), error_class=["redirect_blocked", "http_status_4xx"], **NET)
    download(tmp_path / "urls.txt", output_folder=out, incremental_mode="overwrite", **again)
    table = rows(out)

    assert {at(row["url"]) for row in table.values() if row["status"] == "success"} == {OURS}
    assert [row["error_class"] for row in table.values()].count("optout_removed") == 11
    assert (out / "_removed.txt").read_text().splitlines()[1:] == [
        f"host {THEIRS}",
        "host elsewhere.example",
        f"url {web.url('coffee.png?14')}",
    ]


def test_shards_of_img2dataset_are_named_if_they_are_meant(web: Origin, tmp_path: Path) -> None:
    """They do not say how they were made, so they cannot be written anew; no silence about it."""
    out = fetched(web, tmp_path)
    path = out / "00000_stats.json"
    told = json.loads(path.read_bytes())
    path.write_text(json.dumps({name: value for name, value in told.items() if name not in ("made_with", "files")}))
    report = purged(out, hosts=THEIRS)
    others = purged(out, hosts="elsewhere.example")

    assert (report.rows, report.complete) == (6, False)
    assert "4 rows of it are meant" in report.shards_lost[0]
    assert "img2dataset" in report.shards_lost[0]
    assert others.complete


def test_command_line(web: Origin, tmp_path: Path) -> None:
    """The end is told in words; a file that says nothing usable is refused before anything is done."""
    out = fetched(web, tmp_path)
    before = files(out)
    (tmp_path / "hosts").write_text(f"{THEIRS}\n")
    (tmp_path / "bad").write_text("example.org\nhttps://example.org/\n")
    (tmp_path / "bad-urls").write_text("\nexample.org/a.jpg\n")
    (tmp_path / "remark").write_text("http://h.example/a # a letter\n")
    (tmp_path / "secret").write_text("user:secret@h.example\n")
    (tmp_path / "none").write_text("# nothing\n\n")
    for words, said in (
        ([], "nothing is named that should be removed"),
        (["--hosts", tmp_path / "bad"], "hosts: line 2, 'https://example.org/', is no host name"),
        (["--urls", tmp_path / "bad-urls"], "urls: line 2, 'example.org/a.jpg', is no http or https URL"),
        (["--urls", tmp_path / "remark"], "urls: line 1, 'http://h.example/a # a letter', is no http or https URL"),
        (["--hosts", tmp_path / "secret"], "hosts: line 1, '…@h.example', is no host name"),
        (["--hosts", tmp_path / "none"], "name nothing to remove"),
        (["--hosts", tmp_path / "missing"], "hosts: "),
    ):
        refused = aimg2ds("purge", str(out), *map(str, words))
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
    assert files(out) == before
    done = aimg2ds("purge", str(out), "--hosts", str(tmp_path / "hosts"), "--processes_count", "1")

    assert done.returncode == 0, done.stderr
    assert "10 rows removed" in done.stdout
    assert "shards: 3 replaced" in done.stdout


@pytest.mark.parametrize(
    ("hosts", "url", "meant"),
    [
        ("example.org", "http://example.org/a.jpg", True),
        ("example.org", "https://user:secret@EXAMPLE.org.:8443/a.jpg", True),
        ("example.org", "http://cdn.images.example.org/a.jpg", True),
        ("example.org", "http://notexample.org/a.jpg", False),
        ("example.org", "http://example.org.evil.test/a.jpg", False),
        ("example.org", "http://other.test/?http://example.org/", False),
        ("cdn.example.org.", "http://example.org/a.jpg", False),
        ("münchen.example", "http://xn--mnchen-3ya.example/a.jpg", True),
        ("xn--mnchen-3ya.example", "http://MÜNCHEN.example/a.jpg", True),
        ("192.0.2.1", "http://192.0.2.1/a.jpg", True),
        ("2.1", "http://192.0.2.1/a.jpg", False),
        ("2001:DB8::1", "http://[2001:db8:0::1]/a.jpg", True),
        ("[2001:db8::1]", "http://[2001:db8::1]:81/a.jpg", True),
        ("example.org", "  http://example.org/a.jpg ", True),
        ("example.org", "ftp://example.org/a.jpg", False),
        ("example.org", None, False),
        ("example.org", "", False),
    ],
)
def test_hosts(hosts: str, url: str | None, *, meant: bool) -> None:
    """A name stands for itself and for all below it, however either is written."""
    try:
        removal = Removal.parse(hosts=[hosts], urls=[])
    except OptionsError:
        assert hosts == "2.1"  # a piece of an address, which is no host
        return
    assert (removal.match(url) is not None) is meant


@pytest.mark.parametrize(
    ("named", "url", "meant"),
    [
        ("http://h.example/a.jpg", "http://h.example/a.jpg", True),
        ("http://h.example/a.jpg", "https://H.example:443/a.jpg#top", True),
        ("http://h.example/a.jpg", "http://h.example:8080/a.jpg", False),
        ("http://h.example/a.jpg", "http://h.example/a.jpg?w=100", False),
        ("http://h.example/a.jpg?w=100", "http://h.example/a.jpg?w=100", True),
        ("http://h.example/%7euser/ä.jpg", "http://h.example/~user/%C3%A4.jpg", True),
        ("http://h.example/%c3%a4.jpg", "http://h.example/ä.jpg", True),
        (
            "http://h.example/photo%281%29%2C%21%40%3A%27.jpg?a=%5B1%5D",
            "http://h.example/photo(1),!@:'.jpg?a=[1]",
            True,
        ),
        ("http://h.example/a%2Fb.jpg", "http://h.example/a/b.jpg", True),
        ("http://h.example", "http://h.example/", True),
        ("http://h.example/A.jpg", "http://h.example/a.jpg", False),
    ],
)
def test_urls(named: str, url: str, *, meant: bool) -> None:
    """A URL stands for itself, however it is quoted."""
    assert (Removal.parse(hosts=[], urls=[named]).match(url) is not None) is meant


LABELS = st.sampled_from(["a", "b", "cc", "example", "org", "xn--mnchen-3ya", "ü"])
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)


@given(named=st.lists(HOSTS, min_size=1, max_size=3), host=HOSTS, rest=st.text(max_size=20))
def test_a_name_means_what_ends_in_its_labels(named: list[str], host: str, rest: str) -> None:
    """Whatever stands behind the host, even what makes no URL of it."""
    removal = Removal.parse(hosts=named, urls=[])
    labels = urls.host_named(host).split(".")
    expected = any(labels[-len(one) :] == one for one in (urls.host_named(name).split(".") for name in named))
    assert (removal.match(f"http://{host}/{rest}") is not None) is expected


@given(st.text(max_size=60))
def test_no_text_fails(text: str) -> None:
    """A line is refused in words or taken, and what was taken is meant."""
    removals = []
    for line in (text, f"http://{text}", f"http://h.example/{text}"):
        with suppress(OptionsError):
            removals.append((line, Removal.parse(hosts=[], urls=[line])))
        with suppress(OptionsError):
            Removal.parse(hosts=[line], urls=[])
    for line, removal in removals:
        assert removal.match(line.strip()) is not None
