"""What lies in a folder is told whole, on however many pages the server tells it."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from async_img2ds.storage import listing, open_store
from stores.program import Program

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from origin import Origin
    from stores.servers import Place


def test_every_file_and_folder_is_told_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With sizes; not what lies in folders whose names begin alike; and nothing of one that is not there."""
    monkeypatch.setattr(listing, "PAGE", 3)
    root = f"{place.root}/listed"
    files = {f"{number:05d}.tar": b"x" * number for number in range(8)} | {"Grüße 1+1=2%.txt": b"hello"}
    folders = [f"{number:05d}" for number in range(4)]
    for name, content in files.items():
        place.write(f"{root}/{name}", content)
    for name in folders:
        place.write(f"{root}/{name}/000000001.jpg", b"image")
        place.write(f"{root}/{name}/000000002.jpg", b"image")
    place.write(f"{root}-more/00009.tar", b"another's")
    store = open_store(f"{root}//")
    place.write(f"{root}/empty.txt", b"")  # behind the store's first look, if it remembers anything
    first = sorted(store.names())
    place.write(f"{root}/later.txt", b"!")

    assert first == sorted([*((name, len(content)) for name, content in files.items()), ("empty.txt", 0)])
    assert sorted(store.names()) == sorted([*first, ("later.txt", 1)])
    assert sorted(name for name, size in store.entries() if size is None) == folders
    assert sorted(store.names("00001")) == [("000000001.jpg", 5), ("000000002.jpg", 5)]
    assert list(open_store(f"{place.root}/none-such").names()) == []


def test_files_are_removed_and_those_that_are_gone_are_no_fault(place: Place) -> None:
    """Also a thousand and more, of which some are not there; folders go with their last file."""
    root = f"{place.root}/removed"
    names = [f"00000/{number:09d}.jpg" for number in range(20)]
    for name in ["00000.tar", "00001.tar", *names]:
        place.write(f"{root}/{name}", b"image")
    store = open_store(root)
    store.remove([*names, "00000.tar", "00002.tar", *(f"00000/{number:09d}.jpg" for number in range(20, 1100))])

    assert place.files(root) == {"00001.tar": 5}
    assert list(store.entries()) == [("00001.tar", 5)]


def test_uploads_that_were_begun_are_found(s3: Place) -> None:
    """Also several of one name; those of other names are left out."""
    names = [f"begun/{number}.tar" for number in (0, 1, 1, 1, 2, 3)]
    for name in [*names, "begin/4.tar"]:
        s3.fs.call_s3("create_multipart_upload", Bucket="datasets", Key=name)
    found = sorted(upload["Key"] for upload in listing.uploads_below(s3.fs, "datasets/begun/"))
    for upload in [*listing.uploads_below(s3.fs, "datasets/beg")]:
        s3.fs.abort_mpu("datasets", upload["Key"], upload["UploadId"])

    assert found == names
    assert s3.pending() == []


class Recorded:
    """What is asked of moto's server, as it records it itself."""

    def __init__(self, place: Place) -> None:
        """Begin to record."""
        self._url = f"http://127.0.0.1:{place.port}/moto-api/recorder"
        self._asked("reset-recording")
        self._asked("start-recording")

    def _asked(self, what: str) -> str:
        method = "GET" if what.startswith("download") else "POST"
        with urllib.request.urlopen(urllib.request.Request(f"{self._url}/{what}", method=method)) as answer:
            return str(answer.read().decode())

    def listings(self, folder: str) -> list[dict[str, list[str]]]:
        """Return the listings that had all of *folder* in them, and begin anew."""
        lines = self._asked("download-recording").splitlines()
        self._asked("reset-recording")
        queries = [parse_qs(urlsplit(json.loads(line)["url"]).query) for line in lines]
        listings = [query for query in queries if "list-type" in query]
        return [query for query in listings if f"{folder}/".startswith(query.get("prefix", [""])[0])]


def test_a_dataset_is_listed_once_by_each_command(s3: Place, web: Origin, tmp_path: Path) -> None:
    """It may have millions of files, a thousand a page; neither a folder that is not there nor a look is a reason."""
    program, out = Program(s3, tmp_path), f"{s3.root}/listed-once"
    (tmp_path / "urls.txt").write_text("".join(f"{web.url('rocket.jpg')}?{number}\n" for number in range(20)))
    program.fetch(str(tmp_path / "urls.txt"), out, output_format="webdataset")
    recorded = Recorded(s3)
    commands = [["summary", out], ["manifest", out], ["verify", out], ["retry", out, "--class=http_status_5xx"]]
    found = {}
    for command in commands:
        program.run(*command)
        found[command[0]] = recorded.listings("listed-once")
    program.fetch(str(tmp_path / "urls.txt"), out, output_format="webdataset")
    found["fetch"] = recorded.listings("listed-once")

    assert {name: len(listings) for name, listings in found.items()} == dict.fromkeys(found, 1), found
    assert {"".join(query["delimiter"]) for listings in found.values() for query in listings} == {"/"}
