"""URL lists in every format: what becomes a row, what ends the run, and how little is read ahead."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import threading
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING
from unittest import mock

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_img2ds.errors import InputError
from async_img2ds.inputs import csv, parquet
from async_img2ds.inputs import lines as text_lines
from async_img2ds.policy.shards import rows_of
from lists import as_arrow, as_parquet, as_stream, open_list, packed, read, written

if TYPE_CHECKING:
    from pathlib import Path

    from async_img2ds.records import Shard


def urls_of(shards: list[Shard]) -> list[str | None]:
    return [url for shard in shards for url in rows_of(shard).column("url").to_pylist()]


LINES_OF_TEXT = {
    "no-final-newline": (b"a\nb", ["a", "b"]),
    "crlf": (b"a\r\nb\r\n", ["a", "b"]),
    "bom": (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
    "commas": (b"http://h/a,b\n,\n", ["http://h/a,b", ","]),
    "quotes": (b'"a"\nb"c\n', ['"a"', 'b"c']),
    "blank-lines-are-rows": (b"a\n\n\nb\n", ["a", "", "", "b"]),
    "not-utf-8": (b"a\xff\nb\n", ["a\ufffd", "b"]),
    "nul": (b"a\0b\nc\n", ["a\0b", "c"]),
    "line-of-1-MiB": (b"x" * 2**20 + b"\nb\n", ["x" * 2**20, "b"]),
    "unicode": ("http://h/ä\n".encode(), ["http://h/ä"]),
}


@pytest.mark.parametrize(("content", "expected"), LINES_OF_TEXT.values(), ids=LINES_OF_TEXT)
def test_every_line_of_a_text_list_is_one_row(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    """Whatever a line of a txt list contains, it becomes one row."""
    assert read(written(tmp_path / "list.txt", content)).column("url").to_pylist() == expected


RECORDS = {
    "quoted-newline": (b'url,text\na,"two\nlines"\n', [("two\nlines", "a")]),
    "quoted-commas": (b'url,text\n"a,b","c,d"\n', [("c,d", "a,b")]),
    "empty-values": (b"url,text\n,none\na,\n", [("none", ""), ("", "a")]),
    "words-are-not-nulls": (b"url,text\nNULL,NA\n", [("NA", "NULL")]),
    "latin-1-caption": (b"url,text\na,caf\xe9\nb,tea\n", [("caf\ufffd", "a"), ("tea", "b")]),
    "latin-1-url": (b"url,text\na\xe9,tea\n", [("tea", "a\ufffd")]),
    "bom-and-crlf": (b"\xef\xbb\xbfurl,text\r\na,b\r\n", [("b", "a")]),
    "columns-in-another-order": (b"text,other,url\nb,1,a\n", [("b", "a")]),
}


@pytest.mark.parametrize(("content", "expected"), RECORDS.values(), ids=RECORDS)
def test_csv_becomes_captions_and_urls(tmp_path: Path, content: bytes, expected: list[tuple[str, str]]) -> None:
    """Each record of a csv list is one row, with its caption and its URL as they were written."""
    table = read(written(tmp_path / "list.csv", content), input_format="csv", caption_col="text")

    assert table.column_names == ["caption", "url"]
    assert list(zip(*table.to_pydict().values(), strict=True)) == expected


def test_latin_1_caption_far_down_does_not_end_the_run(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are met long after the types of the columns were chosen, and still become text."""
    path = written(tmp_path / "list.csv", b"url,text\n" + b"http://h/a,tea\n" * 1000 + b"http://h/b,caf\xe9\n")

    with mock.patch.object(csv, "BLOCK_BYTES", 1024):
        captions = read(path, input_format="csv", caption_col="text").column("caption").to_pylist()

    assert captions == ["tea"] * 1000 + ["caf\ufffd"]


TYPED = pa.table(
    {
        "tags": pa.array([["a", "b"], [], None], pa.list_(pa.string())),
        "box": pa.array([{"x": 1}, None, {"x": None}], pa.struct([("x", pa.int32())])),
        "price": pa.array([Decimal("1.50"), None, Decimal("-0.01")], pa.decimal128(10, 2)),
        "day": pa.array([dt.date(2026, 1, 31), None, dt.date(1969, 12, 31)], pa.date32()),
        "score": pa.array([0.5, float("nan"), None], pa.float32()),
        "url": pa.array(["http://h/a", None, "http://h/b"], pa.large_string()),
        "unwanted": pa.array([1, 2, 3]),
    }
)


def test_parquet_columns_keep_their_types(tmp_path: Path) -> None:
    """Additional columns come through as they were typed, before the URL and in the order asked for."""
    written(tmp_path / "list.parquet", as_parquet(TYPED))
    wanted = ["day", "tags", "box", "price", "score"]

    table = read(tmp_path / "list.parquet", input_format="parquet", save_additional_columns=wanted)

    assert table.schema == pa.schema([TYPED.schema.field(name) for name in [*wanted, "url"]])
    assert str(table.to_pydict()) == str({name: TYPED.column(name).to_pylist() for name in [*wanted, "url"]})


TEXTS = {
    "large-string": pa.array(["a", None, "b"], pa.large_string()),
    "dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
    "dictionary-of-large-strings": pa.array(["a", None, "b"], pa.large_string()).dictionary_encode(),
    "binary": pa.array([b"a", None, b"b"]),
    "fixed-width": pa.array([b"a", None, b"b"], pa.binary(1)),
}


@pytest.mark.parametrize("column", TEXTS.values(), ids=TEXTS)
def test_urls_of_any_text_type_become_text(tmp_path: Path, column: pa.Array) -> None:
    """However a parquet file stores its URLs they can be read; a type of texts stays what it is, and a null one."""
    written(tmp_path / "list.parquet", as_parquet(pa.table({"url": column})))

    table = read(tmp_path / "list.parquet", input_format="parquet")

    # A dictionary of large strings is one of strings in a parquet file.
    types = {
        "large_string": "large_string",
        str(TEXTS["dictionary"].type): str(TEXTS["dictionary"].type),
        str(TEXTS["dictionary-of-large-strings"].type): str(TEXTS["dictionary"].type),
    }
    assert str(table.column("url").type) == types.get(str(column.type), "string")
    assert table.column("url").to_pylist() == ["a", None, "b"]


@pytest.mark.parametrize("role", ["url_col", "caption_col", "save_additional_columns"])
@pytest.mark.parametrize("large", [False, True], ids=["string", "large-string"])
def test_parquet_text_that_is_no_utf_8_does_not_end_the_run(tmp_path: Path, role: str, large: bool) -> None:  # noqa: FBT001
    """Other tools write any bytes into columns typed as text; such a value becomes readable, whatever it is for."""
    raw, text = (pa.large_binary(), pa.large_string()) if large else (pa.binary(), pa.string())
    table = pa.table({"url": ["http://h/a"], "odd": pa.array([b"caf\xe9"], raw).view(text)})
    path = written(tmp_path / "list.parquet", as_parquet(table))
    table = read(path, input_format="parquet", **{role: "odd"})

    assert "caf\ufffd" in table.to_pylist()[0].values()


BROKEN = {
    "truncated": ("parquet", as_parquet(TYPED)[:-20], "footer"),
    "two-columns-of-one-name": ("parquet", as_parquet(pa.table([["a"], ["b"]], ["url", "url"])), "url"),
    "no-parquet": ("parquet", b"no parquet at all", "footer"),
    "empty-parquet": ("parquet", b"", "size is 0"),
    "empty-csv": ("csv", b"", "Empty CSV"),
    "ragged-csv": ("csv", b"url,text\na,b\nc\n", "Expected 2 columns, got 1"),
    "no-line-ends": ("txt", b"x" * (20 * 2**20), "a line of more than"),
}


@pytest.mark.parametrize(("input_format", "content", "said"), BROKEN.values(), ids=BROKEN)
def test_broken_file_is_refused_by_name(tmp_path: Path, input_format: str, content: bytes, said: str) -> None:
    """A file that is not what it should be ends the run with its name and the reason, not with a library's error."""
    path = written(tmp_path / f"broken.{input_format}", content)

    with pytest.raises(InputError, match=rf"broken\.{input_format}.*{said}"):
        read(path, input_format=input_format)


@pytest.mark.parametrize("name", ["lists", "lists [1]"], ids=["plain", "with-brackets"])
def test_files_of_a_folder_are_read_in_order_of_their_names(tmp_path: Path, name: str) -> None:
    """A folder is cut file by file: sorted, a short last shard each, numbers running on, other endings left out."""
    folder = tmp_path / name
    folder.mkdir()
    for file, lines in {"b.txt": "4\n5\n", "a.txt": "1\n2\n3\n", "c.csv": "url\n9\n", "empty.txt": ""}.items():
        (folder / file).write_text(lines)

    shards = list(open_list(folder, number_sample_per_shard=2).shards())
    read_back = [(shard.id, shard.row_count, urls_of([shard])) for shard in shards]

    assert read_back == [(0, 2, ["1", "2"]), (1, 1, ["3"]), (2, 2, ["4", "5"])]


def test_finished_shards_are_skipped_and_counted(tmp_path: Path) -> None:
    """Shards of an earlier run are not yielded and keep their numbers; at the end the count of rows to do is exact."""
    found = open_list(written(tmp_path / "list.txt", b"a\n" * 10), number_sample_per_shard=3)
    before = found.rows_expected()
    shards = list(found.shards(finished={0, 2}))

    assert before is None
    assert [(shard.id, shard.row_count) for shard in shards] == [(1, 3), (3, 1)]
    assert (found.shards_skipped, found.rows_skipped) == (2, 6)
    assert (found.rows_read, found.rows_expected()) == (10, 4)


class CountingFiles:
    """A file system of one file that tells how many of its bytes were read, and by which threads."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.bytes_read = 0
        self.readers: set[int] = set()

    def open(self, *_: object) -> io.BytesIO:
        files = self

        class Counting(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                block = super().read(size)
                files.bytes_read += len(block)
                files.readers.add(threading.get_ident())
                return block

        return Counting(self.content)


DIGESTS = [hashlib.sha256(b"%d" % n).hexdigest() for n in range(100_000)]  # cannot be compressed away
TEXT = "\n".join(DIGESTS).encode()
OBJECTS = "".join(f'{{"url": "{digest}"}}\n' for digest in DIGESTS).encode()
BIG = {
    "txt": TEXT,
    "txt.gz": packed(TEXT, "gz"),
    "csv": b"url\n" + TEXT,
    "tsv.zst": packed(b"url\n" + TEXT, "zst"),
    "jsonl": OBJECTS,
    "jsonl.gz": packed(OBJECTS, "gz"),
    "parquet": as_parquet(pa.table({"url": DIGESTS}), use_dictionary=False),  # of one row group
    "arrow": as_stream(pa.table({"url": DIGESTS}), 1000),
    "feather": as_arrow(pa.table({"url": DIGESTS}), 1000),
}


@pytest.mark.parametrize(("input_format", "content"), BIG.items(), ids=BIG)
def test_first_shard_comes_before_the_list_is_read(tmp_path: Path, input_format: str, content: bytes) -> None:
    """Work begins after a small part of a big list was read, and the row count is estimated from that part."""
    path = written(tmp_path / "list", content)
    found = open_list(path, input_format=input_format, number_sample_per_shard=100)
    fs = CountingFiles(content)
    found.files = [replace(found.files[0], fs=fs)]

    with (
        mock.patch.object(text_lines, "BLOCK_BYTES", 2**14),
        mock.patch.object(csv, "BLOCK_BYTES", 2**14),
        mock.patch.object(parquet, "BUFFER_BYTES", 2**14),
    ):
        shards = found.shards()
        first = next(shards)
        read_then, expected_then = fs.bytes_read, found.rows_expected()

    assert first.row_count == 100
    assert read_then < len(content) / 4
    assert expected_then is not None
    assert found.rows_read == 100


# An IPC file is read by other threads, but each read is waited for.
@pytest.mark.parametrize("input_format", [name for name in BIG if name != "feather"])
def test_list_is_read_by_nobody_but_who_asks_for_its_shards(tmp_path: Path, input_format: str) -> None:
    """A thread of Arrow's that still reads when the interpreter ends would abort it, or keep it from ending."""
    content = BIG[input_format]
    found = open_list(written(tmp_path / "list", content), input_format=input_format)
    fs = CountingFiles(content)
    found.files = [replace(found.files[0], fs=fs)]
    rows = sum(shard.row_count for shard in found.shards())

    assert rows == len(DIGESTS)
    assert fs.readers == {threading.get_ident()}


# What may stand in a line: anything but line ends. A first character U+FEFF would be a byte order mark.
CHARACTERS = st.characters(exclude_characters="\n\r\ufeff", exclude_categories=["Cs"])
LINES = st.lists(st.text(CHARACTERS, max_size=12), max_size=60)


@given(LINES, st.integers(1, 70), st.integers(1, 64), st.sampled_from(["\n", "\r\n"]))
@settings(deadline=None)
def test_text_shards_hold_every_row_once(lines: list[str], rows_per_shard: int, block_bytes: int, end: str) -> None:
    """Wherever blocks and shards are cut, the rows of all shards in order are the lines of the list."""
    fsspec.filesystem("memory").pipe_file("/test_inputs/list.txt", "".join(line + end for line in lines).encode())

    with mock.patch.object(text_lines, "BLOCK_BYTES", block_bytes):
        shards = list(open_list("memory://test_inputs/list.txt", number_sample_per_shard=rows_per_shard).shards())

    assert urls_of(shards) == lines
    assert [shard.id for shard in shards] == list(range(len(shards)))
    assert all(shard.row_count == rows_per_shard for shard in shards[:-1])


@given(st.integers(0, 120), st.integers(1, 130), st.integers(1, 50), st.integers(1, 40))
@settings(deadline=None)
def test_parquet_shards_hold_every_row_once(rows: int, rows_per_shard: int, group_rows: int, batch_rows: int) -> None:
    """Wherever row groups, batches and shards are cut, the rows of all shards in order are those of the list."""
    path = "memory://test_inputs/list.parquet"
    table = pa.table({"url": [f"u{n}" for n in range(rows)]}, pa.schema([("url", pa.string())]))
    fsspec.filesystem("memory").pipe_file("/test_inputs/list.parquet", as_parquet(table, row_group_size=group_rows))

    with mock.patch.object(parquet, "BATCH_ROWS", batch_rows):
        found = open_list(path, input_format="parquet", number_sample_per_shard=rows_per_shard)
        shards = list(found.shards())
    counts = [min(rows_per_shard, rows - start) for start in range(0, rows, rows_per_shard)]

    assert urls_of(shards) == [f"u{n}" for n in range(rows)]
    assert [shard.row_count for shard in shards] == counts
    assert found.rows_expected() == rows


@pytest.mark.parametrize("input_format", ["txt", "csv", "parquet"])
def test_rows_expected_can_be_asked_for_at_any_moment(tmp_path: Path, input_format: str) -> None:
    """Between files, and when the last file is closed but its last shard is not yet taken, it is a number as before."""
    for name in ("a", "b"):
        table = pa.table({"url": [f"http://h.test/{number}" for number in range(25)]})
        if input_format == "parquet":
            pq.write_table(table, tmp_path / f"{name}.parquet")
        else:
            head = ["url"] if input_format == "csv" else []
            lines = "".join(f"{line}\n" for line in head + table.column("url").to_pylist())
            (tmp_path / f"{name}.{input_format}").write_text(lines)
    found = open_list(tmp_path, input_format=input_format, number_sample_per_shard=10)
    expected = [found.rows_expected() for _ in found.shards()]

    assert len(expected) == 6
    assert all(rows is not None and 10 <= rows <= 50 for rows in expected)
    assert found.rows_expected() == 50


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2", ""], pa.int64()),
        (["1", "2", "0.5"], pa.float64()),
        (["1", "2", "text"], pa.string()),
        (["", "", "text"], pa.string()),
        (["", "", ""], pa.string()),
        (["true", "false", ""], pa.bool_()),
        (["2026-01-31", "", "1999-12-31"], pa.date32()),
        (["2026-01-31 12:30:00", "2026-01-31"], pa.timestamp("s")),
        (["2026-01-31 12:30:00", "2026-01-31 12:30:00.5"], pa.timestamp("ns")),
        (["2026-01-31T12:30:00Z", ""], pa.timestamp("ns", "UTC")),
    ],
    ids=str,
)
def test_csv_column_is_of_the_narrowest_type_that_holds_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[str], kind: pa.DataType
) -> None:
    """Its first rows do not decide, however long the list: a type that a later value contradicts is not taken."""
    monkeypatch.setattr(csv, "BLOCK_BYTES", 1000)
    rows = [f"http://h.test/{number},{values[number // 200]}" for number in range(200 * len(values))]
    (tmp_path / "urls.csv").write_text("\n".join(["url,extra", *rows]) + "\n")
    table = read(tmp_path / "urls.csv", input_format="csv", save_additional_columns=("extra",))

    assert table.num_rows == len(rows)
    assert table.schema.field("extra").type == kind


ACROSS = {
    "whole-and-fractions": (["1", "2"], ["0.5"], pa.float64(), [1.0, 2.0, 0.5]),
    "fractions-and-whole": (["0.5"], ["1", "2"], pa.float64(), [0.5, 1.0, 2.0]),
    "nothing-first": (["", ""], ["1"], pa.int64(), [None, None, 1]),
    "nothing-last": (["1"], ["", ""], pa.int64(), [1, None, None]),
    "nothing-at-all": ([""], [""], pa.string(), [None, None]),
}


@pytest.mark.parametrize(("first", "second", "kind", "values"), ACROSS.values(), ids=ACROSS)
def test_types_of_files_are_joined_in_a_shard_of_both(
    tmp_path: Path, first: list[str], second: list[str], kind: pa.DataType, values: list[object]
) -> None:
    """Where all files are cut as one, a column has the wider type, and one without a value any."""
    for name, texts in (("a", first), ("b", second)):
        (tmp_path / f"{name}.csv").write_text("url,x\n" + "".join(f"u,{text}\n" for text in texts))
    columns = {"save_additional_columns": ["x"], "shard_across_files": True}
    [shard] = open_list(tmp_path, input_format="csv", **columns).shards()
    column = rows_of(shard).column("x")

    assert (column.type, column.to_pylist()) == (kind, values)


def test_types_only_widen_from_file_to_file(tmp_path: Path) -> None:
    """A file of whole numbers behind one of fractions is read as fractions, also in shards of its own rows."""
    for name, values in (("a", [1, 2]), ("b", [0.5]), ("c", [3, 4, 5])):
        written(tmp_path / f"{name}.parquet", as_parquet(pa.table({"url": ["u"] * len(values), "x": values})))
    columns = {"save_additional_columns": ["x"], "shard_across_files": True}
    shards = list(open_list(tmp_path, input_format="parquet", number_sample_per_shard=2, **columns).shards())

    assert [rows_of(shard).schema.field("x").type for shard in shards] == [pa.int64(), pa.float64(), pa.float64()]
    assert [value for shard in shards for value in rows_of(shard).column("x").to_pylist()] == [1, 2, 0.5, 3, 4, 5]


def test_types_that_cannot_be_joined_are_refused_by_name(tmp_path: Path) -> None:
    """The message has both files, the column, its types and the way out, which is to cut file by file."""
    for name, values in (("a", [1]), ("b", [2]), ("c", ["text"])):
        written(tmp_path / f"{name}.parquet", as_parquet(pa.table({"url": ["u"], "x": values})))
    options = {"input_format": "parquet", "save_additional_columns": ["x"]}
    shards = open_list(tmp_path, **options, shard_across_files=True, number_sample_per_shard=1).shards()
    before = [next(shards), next(shards)]

    with pytest.raises(InputError) as caught:
        next(shards)
    assert str(caught.value) == (
        f"url_list: column 'x' is of type int64 in {tmp_path}/a.parquet and of type string in {tmp_path}/c.parquet, "
        "which have no type in common; make the files agree, or leave out shard_across_files"
    )
    assert [shard.id for shard in before] == [0, 1]
    assert len(list(open_list(tmp_path, **options).shards())) == 3


@pytest.mark.parametrize("rows", [1, 10], ids=["in-shards-of-their-own", "in-one-shard"])
def test_values_that_the_joined_type_would_round_are_refused(tmp_path: Path, rows: int) -> None:
    """A whole number that no fraction can hold is not rounded because another file has fractions."""
    for name, values in (("a", [2**53 + 1]), ("b", [0.5]), ("c", [2**53 + 1])):
        written(tmp_path / f"{name}.parquet", as_parquet(pa.table({"url": ["u"], "x": values})))
    columns = {"save_additional_columns": ["x"], "shard_across_files": True, "number_sample_per_shard": rows}

    with pytest.raises(InputError, match=r"(?s)Integer value 9007199254740993 .*leave out shard_across_files"):
        list(open_list(tmp_path, input_format="parquet", **columns).shards())


@given(st.lists(st.lists(st.sampled_from(["a", "b", ""]), max_size=9), min_size=1, max_size=6), st.integers(1, 12))
def test_shards_across_files_hold_every_row_once(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[str]], rows_per_shard: int
) -> None:
    """All but the very last are full, and the rows are those of the files in order."""
    folder = tmp_path_factory.mktemp("across")
    for number, lines in enumerate(files):
        (folder / f"{number}.txt").write_text("".join(f"{line}\n" for line in lines))
    found = open_list(folder, shard_across_files=True, number_sample_per_shard=rows_per_shard)
    shards = list(found.shards(finished={1}))

    assert found.rows_read == sum(map(len, files))
    assert all(shard.row_count == rows_per_shard for shard in shards[:-1])
    assert [shard.id for shard in shards] == [
        number for number in range(found.shards_skipped + len(shards)) if number != 1
    ]
    assert urls_of(shards) == [
        line for place, line in enumerate(line for lines in files for line in lines) if place // rows_per_shard != 1
    ]
    assert found.rows_expected() == sum(shard.row_count for shard in shards)


def test_names_and_passwords_in_urls_are_not_read(tmp_path: Path) -> None:
    """They are never sent, so they are neither kept nor shown."""
    urls = ["http://user:pass@h/x?a@b", "HTTPS://u%40@h@i/", "http://h/@x", "ftp://a:b@h", "user@h", "http://h?u@x"]
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    [shard] = open_list(tmp_path / "urls.txt").shards()

    assert rows_of(shard).column("url").to_pylist() == [
        *("http://h/x?a@b", "HTTPS://i/", "http://h/@x", "ftp://h", "user@h", "http://h?u@x")
    ]
