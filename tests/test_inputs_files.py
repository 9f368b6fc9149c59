"""Which files a list is: paths, folders, patterns, several of them, on disk and elsewhere."""

from __future__ import annotations

import gzip
import logging
import os
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import pytest

import origin as origin_server
from async_img2ds.errors import InputError, OptionsError
from lists import as_parquet, encoded, open_list, read, written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def urls(path: object, **options: object) -> list[str]:
    found: list[str] = read(path, **options).column("url").to_pylist()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of lists, with some files that are none."""
    found = tmp_path / "lists"
    (found / "c.txt").mkdir(parents=True)
    names = ["b.txt", "a.txt", "a[1].txt", ".hidden.txt", "_SUCCESS", "x.csv", "deeper/d.txt"]
    (found / "deeper").mkdir()
    for name in names:
        (found / name).write_text(f"{name}\n")
    return found


NAMES = {
    "folder": ("", ["a.txt", "a[1].txt", "b.txt"]),
    "file": ("b.txt", ["b.txt"]),
    "pattern": ("*.txt", ["a.txt", "a[1].txt", "b.txt"]),
    "pattern-of-one-letter": ("?.txt", ["a.txt", "b.txt"]),
    "pattern-of-letters": ("[ab].*", ["a.txt", "b.txt"]),
    "everything-but-marks": ("*", ["a.txt", "a[1].txt", "b.txt", "x.csv"]),
    "hidden-if-asked-for": (".*", [".hidden.txt"]),
    "any-depth": ("**/*.txt", ["a.txt", "a[1].txt", "b.txt", "deeper/d.txt"]),
    "a-file-of-that-name-wins": ("a[1].txt", ["a[1].txt"]),
}


@pytest.mark.parametrize(("said", "expected"), NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("prefix", ["", "file://"])
def test_path_folder_or_pattern_names_files_in_order(folder: Path, prefix: str, said: str, expected: list[str]) -> None:
    """A folder by its ending, a pattern by itself, both sorted; hidden files and marks only if they are asked for."""
    assert urls(f"{prefix}{folder}/{said}") == expected


def test_several_are_read_in_the_order_they_are_named(folder: Path) -> None:
    """Folders and patterns among them; shards are numbered through."""
    said = [folder / "x.csv", folder / "deeper", f"{folder}/[ab].txt"]
    shards = list(open_list(said, number_sample_per_shard=10).shards())

    assert [shard.id for shard in shards] == [0, 1, 2, 3]
    assert urls(said) == ["x.csv", "deeper/d.txt", "a.txt", "b.txt"]
    assert urls(str([str(path) for path in said])) == urls(said)


def test_file_that_is_named_twice_is_refused(folder: Path) -> None:
    """Its images would be fetched twice, and the shards of a pattern and a name overlap by mistake."""
    for said in (
        [folder / "a.txt", folder / "a.txt"],
        [f"{folder}/*.txt", folder / "b.txt"],
        [folder, f"file://{folder}"],
    ):
        with pytest.raises(InputError, match=rf"url_list names {folder}/[ab]\.txt twice"):
            open_list(said)


def test_nothing_to_read_is_refused(folder: Path) -> None:
    """Neither a path where nothing is, nor a pattern that fits nothing, nor a folder without lists begins a run."""
    refusals = {
        f"{folder}/nothing.txt": "nothing.txt does not exist",
        f"{folder}/*.none": "none that matches it as a pattern",
        "[a.txt,b.txt]": """a list of files is written '["a.txt","b.txt"]'""",
    }
    for said, words in refusals.items():
        with pytest.raises(InputError) as caught:
            open_list([folder, said])
        assert words in str(caught.value)
    with pytest.raises(InputError, match=r"no file ending in \.jsonl in the folder .* ending in \.csv, \.txt$"):
        open_list(folder, input_format="jsonl")
    with pytest.raises(OptionsError, match="nosuch"):
        open_list("nosuch://bucket/list")


@pytest.mark.parametrize("input_format", ["csv", "csv.gz", "jsonl.zst", "arrow", "feather"])
def test_ending_of_a_folder_is_the_whole_format(tmp_path: Path, input_format: str) -> None:
    """``csv`` leaves ``a.csv.gz`` out, and the other way round."""
    for name in ("csv", "csv.gz", "jsonl.zst", "arrow", "feather"):
        written(tmp_path / f"list.{name}", encoded([{"url": name}], name))

    assert urls(tmp_path, input_format=input_format) == [input_format]


def test_folder_as_spark_and_the_hugging_face_hub_leave_it(tmp_path: Path) -> None:
    """Marks, checksums and half-written files are no lists; links are."""
    content = encoded([{"url": "a"}], "parquet")
    for name in ("_SUCCESS", "_metadata", ".part-0.snappy.parquet.crc", "._COPYING_.parquet", "README.md"):
        written(tmp_path / name, b"")
    (tmp_path / "_temporary").mkdir()
    (tmp_path / "blobs").mkdir()
    written(tmp_path / "part-0.snappy.parquet", content)
    written(tmp_path / "blobs" / "1234", content)
    (tmp_path / "part-1.parquet").symlink_to("blobs/1234")

    assert urls(tmp_path, input_format="parquet") == ["a", "a"]
    assert urls(f"{tmp_path}/part-*", input_format="parquet") == ["a", "a"]
    assert open_list(tmp_path, input_format="parquet").files[1].size == len(content)


@pytest.mark.parametrize(
    ("name", "input_format", "warned"),
    [
        ("list.csv", "txt", "csv"),
        ("list.csv.gz", "txt", "csv.gz"),
        ("list.parquet", "arrow", "parquet"),
        ("list.json", "jsonl", "json"),
        ("list.csv.gz", "csv", None),
        ("list.csv", "csv.gz", None),
        ("list.feather", "arrow", None),
        ("list.data", "csv", None),
        ("csv", "txt", None),
    ],
)
def test_name_that_says_another_format_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, input_format: str, warned: str | None
) -> None:
    """It is read as the option says, which may be what is meant; compression is no other format."""
    content = encoded([{"url": "a"}], input_format)
    said = urls(written(tmp_path / name, content), input_format=input_format), caplog.messages

    assert said == (
        ["a"],
        []
        if warned is None
        else [
            f"url_list: {tmp_path / name} is read as {input_format}; "
            f"if it is what its name says, set --input_format {warned}"
        ],
    )


def test_many_names_of_another_format_are_one_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And a folder, whose files are chosen by their endings, is none."""
    open_list(folder)
    before = list(caplog.messages)
    open_list([folder / "a.txt", folder / "b.txt"], input_format="csv", url_col="a.txt")

    assert before == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_lists_may_lie_in_several_file_systems(tmp_path: Path) -> None:
    """Chained ones among them, with patterns in them; what is streamed from an archive is never unpacked to disk."""
    fsspec.filesystem("memory").pipe_file("/several/m.txt", b"m\n")
    with zipfile.ZipFile(tmp_path / "lists.zip", "w") as archive:
        for name, text in {"a.txt": "za\n", "b.txt": "zb\n", "in/c.txt": "zc\n"}.items():
            archive.writestr(name, text)
    written(tmp_path / "d.txt.gz", gzip.compress(b"d\n"))
    zipped = f"::file://{tmp_path}/lists.zip"

    said = [f"zip://in/c.txt{zipped}", "memory://several/m.txt", tmp_path / "d.txt.gz", f"zip://*.txt{zipped}"]

    assert urls(said) == ["zc", "m", "d", "za", "zb"]
    assert urls(f"zip://in{zipped}") == ["zc"]
    assert urls(f"zip://{zipped}") == ["za", "zb"]


def test_list_in_an_archive_within_another_file_system() -> None:
    """A chain may lead through any of them."""
    memory = fsspec.filesystem("memory")
    with memory.open("/chain/lists.zip", "wb") as target, zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a.parquet", encoded([{"url": "a"}], "parquet"))

    assert urls("zip://*.parquet::memory://chain/lists.zip", input_format="parquet") == ["a"]


class Broken:
    """A file that fails as libraries behind fsspec do, with errors of their own."""

    closed = False

    def read(self, size: int = -1) -> bytes:
        raise RuntimeError(f"payload is not completed ({size > 0})")

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("input_format", ["txt", "csv", "json", "jsonl", "parquet", "arrow"])
def test_error_of_a_file_system_names_the_file(tmp_path: Path, input_format: str) -> None:
    """Whatever kind of error it is, the list cannot be read."""
    found = open_list(written(tmp_path / "list", encoded([{"url": "a"}], input_format)), input_format=input_format)
    broken: list[Any] = [
        SimpleNamespace(open=lambda *_: Broken()),
        SimpleNamespace(open=lambda *_: Broken().read()),
    ]
    for fs in broken:
        found.files = [replace(found.files[0], fs=fs)]

        with pytest.raises(InputError, match=r"/list cannot be read as .*RuntimeError: payload is not completed"):
            list(found.shards())


def test_error_while_looking_for_files_names_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """No permission, no credentials, no network: each library has its own word for it."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no credentials")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", refuse)

    with pytest.raises(InputError, match="url_list: memory://secret cannot be read: no credentials"):
        open_list("memory://secret")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve the folder of the test by Python's own server, which lists folders and knows no ranges."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_list_over_http_is_streamed(tmp_path: Path, server: str) -> None:
    """From a server without ranges, too. A folder is one that is listed, and whose address ends in a slash."""
    written(tmp_path / "a.txt", b"a\n")
    written(tmp_path / "b.txt", b"b\n" * 300_000)
    written(tmp_path / "c.csv.gz", encoded([{"url": "c", "n": 1}], "csv.gz"))

    assert urls([f"{server}/b.txt", f"{server}/a.txt"]) == ["b"] * 300_000 + ["a"]
    assert urls(f"{server}/") == ["a"] + ["b"] * 300_000
    assert urls(f"{server}/c.csv.gz", input_format="csv.gz", save_additional_columns=["n"]) == ["c"]
    with pytest.raises(InputError, match=r"none\.txt does not exist"):
        open_list(f"{server}/none.txt")


def test_password_of_a_list_is_not_told(tmp_path: Path, server: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not where a file is called by its URL, as in the warning of one that is named otherwise than it is read."""
    written(tmp_path / "list.csv", b"a\n")
    found = open_list(f"{server.replace('//', '//me:secret@')}/list.csv", input_format="txt")

    assert "list.csv is read as txt" in caplog.text
    assert "secret" not in caplog.text
    assert [file.name for file in found.files] == [f"{server}/list.csv"]


def test_parquet_over_http_is_read_by_position(tmp_path: Path) -> None:
    """Of a file that a server has, only what is needed."""
    table = pa.table({"url": [f"http://h.test/{n}" for n in range(1000)], "unwanted": [os.urandom(20_000)] * 1000})
    folder = tmp_path / "lists"
    folder.mkdir()
    written(folder / "list.parquet", as_parquet(table, use_dictionary=False, compression="none"))
    with origin_server.serve(folder) as server:
        found = urls(server.url("list.parquet"), input_format="parquet")

    assert found == table.column("url").to_pylist()
