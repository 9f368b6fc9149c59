"""URL lists in every format: what becomes a row, what ends the run, and how little is read ahead."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest import mock

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_img2ds import inputs
from async_img2ds.errors import InputError, OptionsError
from async_img2ds.inputs import UrlList, rows_of
from async_img2ds.options import InputOptions

if TYPE_CHECKING:
    from pathlib import Path

    from async_img2ds.records import Shard


def open_list(path: object, **options: object) -> UrlList:
    return UrlList.open(InputOptions(url_list=str(path), **options))  # type: ignore[arg-type]  # checked when constructed


def read(path: object, **options: object) -> pa.Table:
    """Return the rows of all shards of a list, joined."""
    return pa.concat_tables(rows_of(shard) for shard in open_list(path, **options).shards())


def urls_of(shards: list[Shard]) -> list[str | None]:
    return [url for shard in shards for url in rows_of(shard).column("url").to_pylist()]


def as_parquet(table: pa.Table, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue())


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


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

    with mock.patch.object(inputs, "BLOCK_BYTES", 1024):
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

    assert table.schema == pa.schema([*(TYPED.schema.field(name) for name in wanted), ("url", pa.string())])
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
    """However a parquet file stores its URLs they arrive as strings, and a null stays one."""
    written(tmp_path / "list.parquet", as_parquet(pa.table({"url": column})))

    table = read(tmp_path / "list.parquet", input_format="parquet")

    assert table.column("url").type == pa.string()
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


@pytest.mark.parametrize("flag", ["url_col", "caption_col", "bbox_col", "save_additional_columns"])
@pytest.mark.parametrize("input_format", ["csv", "parquet"])
def test_missing_column_is_refused_with_those_there_are(tmp_path: Path, input_format: str, flag: str) -> None:
    """Before anything is started, the message names the option, what it asked for, and the columns of the list."""
    content = {"csv": b"url,text\na,b\n", "parquet": as_parquet(pa.table({"url": ["a"], "text": ["b"]}))}[input_format]
    path = written(tmp_path / "list", content)

    with pytest.raises(OptionsError, match=f"{flag}: the list has no column 'words'; it has url, text"):
        open_list(path, input_format=input_format, **{flag: "words"})


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    """Neither a path where nothing is nor a folder without lists begins a run."""
    with pytest.raises(InputError, match=r"nothing\.txt does not exist"):
        open_list(tmp_path / "nothing.txt")
    with pytest.raises(InputError, match=r"no file ending in \.csv in the folder"):
        open_list(tmp_path, input_format="csv")


def test_finished_shards_are_skipped_and_counted(tmp_path: Path) -> None:
    """Shards of an earlier run are not yielded and keep their numbers; at the end the count of rows to do is exact."""
    found = open_list(written(tmp_path / "list.txt", b"a\n" * 10), number_sample_per_shard=3)
    before = found.rows_expected()
    shards = list(found.shards(finished={0, 2}))

    assert before is None
    assert [(shard.id, shard.row_count) for shard in shards] == [(1, 3), (3, 1)]
    assert (found.shards_skipped, found.rows_skipped) == (2, 6)
    assert (found.rows_read, found.rows_expected()) == (10, 4)


class CountingStream(io.BytesIO):
    """A file that tells how many of its bytes were read."""

    bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        self.bytes_read += len(block)
        return block


DIGESTS = [hashlib.sha256(b"%d" % n).hexdigest() for n in range(100_000)]  # cannot be compressed away
BIG = {
    "txt": b"http://example.org/a\n" * 500_000,
    "csv": b"url,n\n" + b"http://example.org/a,1\n" * 500_000,
    "parquet": as_parquet(pa.table({"url": DIGESTS}), use_dictionary=False),  # of one row group
}


@pytest.mark.parametrize(("input_format", "content"), BIG.items(), ids=BIG)
def test_first_shard_comes_before_the_list_is_read(tmp_path: Path, input_format: str, content: bytes) -> None:
    """Work begins after a small part of a big list was read, and the row count is estimated from that part."""
    path = written(tmp_path / "list", content)
    found = open_list(path, input_format=input_format, number_sample_per_shard=100)
    stream = CountingStream(content)
    found.fs = SimpleNamespace(open=lambda *_: stream)

    with (
        mock.patch.object(inputs, "BLOCK_BYTES", 2**14),
        mock.patch.object(inputs, "CSV_BLOCK_BYTES", 2**14),
        mock.patch.object(inputs, "PARQUET_BUFFER_BYTES", 2**14),
    ):
        shards = found.shards()
        first = next(shards)
        read_then, expected_then = stream.bytes_read, found.rows_expected()

    assert first.row_count == 100
    assert read_then < len(content) / 4
    assert expected_then is not None
    assert found.rows_read == 100


# What may stand in a line: anything but line ends. A first character U+FEFF would be a byte order mark.
CHARACTERS = st.characters(exclude_characters="\n\r\ufeff", exclude_categories=["Cs"])
LINES = st.lists(st.text(CHARACTERS, max_size=12), max_size=60)


@given(LINES, st.integers(1, 70), st.integers(1, 64), st.sampled_from(["\n", "\r\n"]))
@settings(deadline=None)
def test_text_shards_hold_every_row_once(lines: list[str], rows_per_shard: int, block_bytes: int, end: str) -> None:
    """Wherever blocks and shards are cut, the rows of all shards in order are the lines of the list."""
    fsspec.filesystem("memory").pipe_file("/test_inputs/list.txt", "".join(line + end for line in lines).encode())

    with mock.patch.object(inputs, "BLOCK_BYTES", block_bytes):
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

    with mock.patch.object(inputs, "PARQUET_BATCH_ROWS", batch_rows):
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
    ],
    ids=str,
)
def test_csv_column_is_of_the_narrowest_type_that_holds_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[str], kind: pa.DataType
) -> None:
    """Its first rows do not decide, however long the list: a type that a later value contradicts is not taken."""
    monkeypatch.setattr(inputs, "CSV_BLOCK_BYTES", 1000)
    rows = [f"http://h.test/{number},{values[number // 200]}" for number in range(200 * len(values))]
    (tmp_path / "urls.csv").write_text("\n".join(["url,extra", *rows]) + "\n")
    table = read(tmp_path / "urls.csv", input_format="csv", save_additional_columns=("extra",))

    assert table.num_rows == len(rows)
    assert table.schema.field("extra").type == kind
