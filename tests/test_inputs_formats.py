"""Every input format, plain and compressed: the same rows, and clear words for what is none of it."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any
from unittest import mock

import orjson
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_img2ds.errors import InputError, OptionsError
from async_img2ds.inputs import arrow, csv
from async_img2ds.inputs import json as json_lists
from async_img2ds.inputs import lines as text_lines
from async_img2ds.inputs.streams import ADVICE, signature
from async_img2ds.options import INPUT_FORMATS
from async_img2ds.policy.shards import rows_of
from lists import (
    FORMATS_WITH_COLUMNS,
    as_arrow,
    as_parquet,
    as_stream,
    encoded,
    open_list,
    packed,
    read,
    written,
    zstd,
)

if TYPE_CHECKING:
    from pathlib import Path

ROWS: list[dict[str, Any]] = [
    {
        "url": f"http://h.test/{number},\u00e4.jpg",
        "text": f'a "quoted"\nline, {number}\t猫',
        "n": number,
        "f": number / 8,
    }
    for number in range(100)
]


def streamed_zstd(content: bytes) -> bytes:
    """Compress as a tool does that does not know how much will come."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


PACKED = [name for name in INPUT_FORMATS if "." in name]
every_format = pytest.mark.parametrize("input_format", INPUT_FORMATS)


@every_format
def test_every_format_yields_the_same_rows(tmp_path: Path, input_format: str) -> None:
    """Whatever format holds a list: its URLs, captions, types and their order are the same."""
    path = written(tmp_path / f"list.{input_format}", encoded(ROWS, input_format))
    columns = {} if input_format.startswith("txt") else {"caption_col": "text", "save_additional_columns": ["f", "n"]}

    table = read(path, input_format=input_format, number_sample_per_shard=7, **columns)

    assert table.column("url").to_pylist() == [row["url"] for row in ROWS]
    if columns:
        assert table.schema == pa.schema(
            [("f", pa.float64()), ("n", pa.int64()), ("caption", pa.string()), ("url", pa.string())]
        )
        assert table.column("caption").to_pylist() == [row["text"] for row in ROWS]
        assert table.column("n").to_pylist() == list(range(100))


@pytest.mark.parametrize("input_format", ["txt", "csv", "tsv", "json", "jsonl"])
@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_compressed_file_is_unpacked_whatever_it_is_called(tmp_path: Path, input_format: str, pack: Any) -> None:
    """Its first bytes say that it is compressed; neither its name nor the format need to."""
    path = written(tmp_path / "list", pack(encoded(ROWS, input_format)))

    assert read(path, input_format=input_format).column("url").to_pylist() == [row["url"] for row in ROWS]


@pytest.mark.parametrize(
    "pack",
    [
        lambda text: b"".join(gzip.compress(text[at : at + 50]) for at in range(0, len(text), 50)),
        lambda text: b"".join(zstd(text[at : at + 50]) for at in range(0, len(text), 50)),
        lambda text: gzip.compress(b"") + gzip.compress(text) + gzip.compress(b""),
        lambda text: subprocess.run(["gzip", "-c"], input=text, check=True, capture_output=True).stdout,
        streamed_zstd,
        lambda text: b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstd(text),
    ],
    ids=["gzip-members", "zstd-frames", "empty-members", "gzip-tool", "zstd-of-unknown-size", "skippable-frame"],
)
def test_compressed_file_is_read_to_its_end(tmp_path: Path, pack: Any) -> None:
    """Also one of many parts, as tools make that compress in parallel, and people who join files."""
    path = written(tmp_path / "list", pack(b"".join(b"http://h.test/%d\n" % number for number in range(500))))

    assert read(path).column("url").to_pylist() == [f"http://h.test/{number}" for number in range(500)]


@pytest.mark.parametrize("input_format", PACKED)
@pytest.mark.parametrize("cut", [1, 3, 0.5], ids=["last-byte", "last-bytes", "half"])
def test_truncated_file_is_refused_by_name(tmp_path: Path, input_format: str, cut: float) -> None:
    """What is left of an interrupted copy is not taken for the whole list."""
    content = encoded(ROWS, input_format)
    kept = content[: len(content) // 2] if cut == 0.5 else content[: -int(cut)]

    with pytest.raises(InputError, match=r"list\..* cannot be read as .*: Truncated compressed stream"):
        read(written(tmp_path / f"list.{input_format}", kept), input_format=input_format)


def test_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    """A checksum that is wrong is noticed; the shards before it are good."""
    content = bytearray(gzip.compress(b"".join(b"http://h.test/%d\n" % number for number in range(10**6))))
    content[-6] ^= 1
    shards = open_list(written(tmp_path / "list.gz", bytes(content)), number_sample_per_shard=1000).shards()
    first = next(shards)

    with pytest.raises(InputError, match=r"list\.gz cannot be read as txt: zlib inflate failed"):
        list(shards)
    assert rows_of(first).num_rows == 1000


@pytest.mark.parametrize("input_format", PACKED)
def test_format_that_names_a_compression_insists_on_it(tmp_path: Path, input_format: str) -> None:
    """A file that is not compressed as it was said to be is refused with what to type."""
    name, _, ending = input_format.partition(".")
    other = {"gz": "zst", "zst": "gz"}[ending]
    plain = written(tmp_path / "plain", encoded(ROWS, name))
    packed = written(tmp_path / "packed", encoded(ROWS, f"{name}.{other}"))
    empty = written(tmp_path / "empty", b"")

    for path, said in (
        (plain, "leave the last part of --input_format out"),
        (packed, rf"let --input_format end in \.{other}"),
        (empty, "it is empty"),
    ):
        with pytest.raises(InputError, match=rf"{path} cannot be read as {name}\.{ending}: .*{said}"):
            open_list(path, input_format=input_format)


def as_zip(text: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("urls.txt", text)
    return packed.getvalue()


TABLE = pa.Table.from_pylist(ROWS)
BINARIES = {
    "parquet": as_parquet(TABLE),
    "arrow": as_arrow(TABLE),
    "stream": as_stream(TABLE),
    "feather-1": b"FEA1" + b"\0" * 100,
    "zip": as_zip(b"http://h.test/\n"),
    "bzip2": bz2.compress(b"http://h.test/\n"),
    "xz": lzma.compress(b"http://h.test/\n"),
    "utf-16": "http://h.test/\n".encode("utf-16"),
}
ADVISED = {"stream": "arrow"}


@pytest.mark.parametrize("binary", BINARIES)
@pytest.mark.parametrize("input_format", ["txt", "csv", "tsv.gz", "json", "jsonl.zst", "parquet", "feather"])
def test_file_of_another_kind_is_refused_with_what_to_do(tmp_path: Path, input_format: str, binary: str) -> None:
    """A parquet file read as lines would be thousands of failed rows; its first bytes tell it before the start."""
    kind = ADVISED.get(binary, binary)
    if kind == {"feather": "arrow"}.get(input_format, input_format):
        return  # it is what it should be
    path = written(tmp_path / "list", packed(BINARIES[binary], input_format.partition(".")[2]))

    with pytest.raises(InputError) as caught:
        open_list(path, input_format=input_format)

    assert str(caught.value) == f"url_list: {path} cannot be read as {input_format}: {ADVICE[kind]}"


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_what_cannot_be_compressed_as_a_whole_is_refused(tmp_path: Path, pack: Any) -> None:
    """Parquet and Arrow files are read by position; text that is packed twice is not unpacked twice."""
    for input_format, said in (("parquet", "unpack it"), ("arrow", "unpack it"), ("csv", "compressed twice")):
        content = pack(pack(encoded(ROWS, input_format)) if input_format == "csv" else encoded(ROWS, input_format))

        with pytest.raises(InputError, match=said):
            open_list(written(tmp_path / "list", content), input_format=input_format)


@given(st.binary(max_size=20))
def test_any_first_bytes_are_told_or_taken_for_text(head: bytes) -> None:
    """What is told has an advice, and plain ASCII is never taken for anything but text."""
    found = signature(head)

    assert found is None or found in ADVICE
    assert not (found and head.isascii() and head.decode().isprintable()) or head[:4] in (b"PAR1", b"ARRO", b"FEA1")


@pytest.mark.parametrize("input_format", ["txt", "csv", "tsv", "json", "jsonl", "txt.gz", "csv.zst"])
def test_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, input_format: str) -> None:
    """Windows programs write one, also into what is compressed then."""
    name, _, ending = input_format.partition(".")
    content = b"\xef\xbb\xbf" + encoded(ROWS, name)
    path = written(tmp_path / "list", packed(content, ending))

    assert read(path, input_format=input_format).column("url").to_pylist() == [row["url"] for row in ROWS]


@pytest.mark.parametrize("input_format", ["txt", "csv", "tsv", "jsonl"])
def test_lines_may_end_as_windows_ends_them(tmp_path: Path, input_format: str) -> None:
    """The carriage return is no part of a value."""
    content = encoded([{"url": "http://h.test/1", "n": 1}, {"url": "http://h.test/2", "n": 2}], input_format)
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    assert read(written(tmp_path / "list", content), input_format=input_format).column("url").to_pylist() == [
        "http://h.test/1",
        "http://h.test/2",
    ]


@pytest.mark.parametrize("input_format", FORMATS_WITH_COLUMNS)
def test_column_that_has_the_name_of_another_in_the_dataset_is_left_alone(tmp_path: Path, input_format: str) -> None:
    """A list may have columns ``caption`` and ``url`` of its own while others are read as these."""
    rows = [{"url": "wrong", "caption": "wrong", "URL": "http://h.test/1", "TEXT": "right"}]
    path = written(tmp_path / "list", encoded(rows, input_format))
    table = read(path, input_format=input_format, url_col="URL", caption_col="TEXT")

    assert table.to_pylist() == [{"caption": "right", "url": "http://h.test/1"}]


@pytest.mark.parametrize("input_format", FORMATS_WITH_COLUMNS)
def test_column_may_be_wanted_twice(tmp_path: Path, input_format: str) -> None:
    """Once as the caption and once under its own name."""
    path = written(tmp_path / "list", encoded([{"url": "http://h.test/1", "n": 7}], input_format))
    table = read(path, input_format=input_format, caption_col="n", save_additional_columns=["n"])

    assert [str(value) for value in table.to_pylist()[0].values()] == ["7", "7", "http://h.test/1"]


@pytest.mark.parametrize("input_format", FORMATS_WITH_COLUMNS)
@pytest.mark.parametrize("flag", ["url_col", "caption_col", "save_additional_columns"])
def test_missing_column_is_refused_with_those_there_are(tmp_path: Path, input_format: str, flag: str) -> None:
    """Before anything is started, the message names the option, what it asked for, and the columns of the list."""
    path = written(tmp_path / "list", encoded([{"url": "a", "text": "b"}], input_format))

    with pytest.raises(OptionsError, match=f"^{flag}: the list has no column 'words'; it has url, text$"):
        open_list(path, input_format=input_format, **{flag: "words"})


@pytest.mark.parametrize("input_format", [name for name in FORMATS_WITH_COLUMNS if not name.startswith("jsonl")])
def test_later_file_without_the_column_is_refused_by_name(tmp_path: Path, input_format: str) -> None:
    """Each file is looked at as it is opened. In JSON Lines a row may lack what others have."""
    written(tmp_path / f"a.{input_format}", encoded([{"url": "a"}], input_format))
    written(tmp_path / f"b.{input_format}", encoded([{"link": "b"}], input_format))

    with pytest.raises(InputError, match=rf"/b\.{input_format} cannot be read .* has no column 'url'; it has link"):
        list(open_list(tmp_path, input_format=input_format).shards())


@pytest.mark.parametrize("input_format", FORMATS_WITH_COLUMNS)
def test_rows_without_a_url_are_rows(tmp_path: Path, input_format: str) -> None:
    """They fail one by one, as url_invalid; numbers and the like become text."""
    rows: list[dict[str, Any]] = [{"url": None, "n": 1}, {"url": "http://h.test/", "n": 2}]
    path = written(tmp_path / "list", encoded(rows, input_format))
    first, second = read(path, input_format=input_format).column("url").to_pylist()

    assert (first or None, second) == (None, "http://h.test/")
    assert read(path, input_format=input_format, url_col="n").column("url").to_pylist() == ["1", "2"]


@pytest.mark.parametrize(
    ("input_format", "content"),
    [
        ("txt", b""),
        ("txt.gz", gzip.compress(b"", mtime=0)),
        ("csv", b"url,text\n"),
        ("csv", b"url,text"),
        ("tsv.zst", zstd(b"url\ttext\r\n")),
        ("json", b"[]"),
        ("json", b"{}"),
        ("json", b'{"url": [], "text": []}'),
        ("jsonl", b""),
        ("jsonl.gz", gzip.compress(b"\n \n", mtime=0)),
        ("parquet", as_parquet(TABLE.slice(0, 0))),
        ("arrow", as_stream(TABLE.slice(0, 0))),
        ("feather", as_arrow(TABLE.slice(0, 0))),
    ],
)
def test_list_without_rows_has_no_shards(tmp_path: Path, input_format: str, content: bytes) -> None:
    """It is no error: a folder may have an empty file among others."""
    columns = {} if input_format.startswith("txt") else {"caption_col": "text"}
    found = open_list(written(tmp_path / "list", content), input_format=input_format, **columns)

    assert list(found.shards()) == []
    assert found.rows_expected() == 0


# ---- csv and tsv


@pytest.mark.parametrize(("input_format", "delimiter"), [("csv", ","), ("tsv", "\t")])
@pytest.mark.parametrize("tail", ["", "\n", "\nc{0}more\n"], ids=["no-line-end", "line-end", "another-row"])
def test_quotation_mark_that_is_never_closed_is_noticed(
    tmp_path: Path, input_format: str, delimiter: str, tail: str
) -> None:
    """Else all rows behind it would be a part of one caption, without a word."""
    text = f'url{delimiter}text\na{delimiter}"x ""y"" z"\nb{delimiter}"open{tail.format(delimiter)}'
    path = written(tmp_path / "list", text.encode())

    with pytest.raises(InputError, match=r"cannot be read as [ct]sv: .*quotation mark"):
        read(path, input_format=input_format, caption_col="text")


def test_record_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """It is told what may be wrong, not how the reader works."""
    path = written(tmp_path / "list", b'url,text\na,"' + b"x" * (21 * 2**20) + b'"\n')

    with pytest.raises(
        InputError, match=r"a record of more than 16 MiB, or a quotation mark that is never closed.*'a,"
    ):
        read(path, input_format="csv")


PIECES = st.lists(st.sampled_from(['"', ",", "\n", "\r\n", "\r", "a", " ", '""', '",', ',"', '"\n', "é"]), max_size=30)


@given(PIECES, st.integers(1, 12))
@settings(max_examples=300)
def test_csv_is_cut_where_arrow_would_cut_it(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], block_bytes: int
) -> None:
    """However odd its quotation marks are, a list read in blocks has the records that Arrow finds in the whole."""
    content = ("url,text\n\n" + "".join(pieces) + "\nlast,row\n").encode()
    path = written(tmp_path_factory.mktemp("odd") / "list", content)
    whole, refused = arrow_rows(content), ""
    try:
        with mock.patch.object(csv, "BLOCK_BYTES", block_bytes):
            table = read(path, input_format="csv", caption_col="text")
    except InputError as error:
        refused = str(error)

    if refused:
        assert whole is None or "never closed" in refused
    else:
        assert [(row["url"], row["caption"]) for row in table.to_pylist()] == whole


def arrow_rows(content: bytes) -> list[tuple[str, str]] | None:
    """Return what Arrow reads from a whole csv file, None if it refuses to."""
    convert = pa.csv.ConvertOptions(column_types={"url": pa.string(), "text": pa.string()})
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    try:
        table = pa.csv.read_csv(io.BytesIO(content), parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid:
        return None
    return list(zip(table.column("url").to_pylist(), table.column("text").to_pylist(), strict=True))


def test_record_that_is_wrong_is_told_by_its_number(tmp_path: Path) -> None:
    """However the file was read."""
    path = written(tmp_path / "list", b"url,text\n" + b'a,"b\nc"\n\n' * 1000 + b"lonely\n")
    with mock.patch.object(csv, "BLOCK_BYTES", 100), pytest.raises(InputError) as caught:
        read(path, input_format="csv")

    assert "Record 1001 below the header: Expected 2 columns, got 1: lonely" in str(caught.value)


CSV_VALUES = {
    "whole": (["1", "-2"], pa.int64(), [1, -2]),
    "hashes-of-64-bits": (["1", str(2**64 - 1)], pa.uint64(), [1, 2**64 - 1]),
    "names-of-many-digits": (["1", "1" * 30], pa.string(), ["1", "1" * 30]),
    "many-digits-before-fractions": (["1" * 18, "0.5"], pa.string(), ["1" * 18, "0.5"]),
    "fractions": (["1", "0.5", "NaN"], pa.float64(), [1.0, 0.5, None]),
    "truths": (["true", "FALSE", "tRUE"], pa.bool_(), [True, False, True]),
    "nothing": (["", "NULL"], pa.string(), [None, None]),
}


@pytest.mark.parametrize(("texts", "kind", "values"), CSV_VALUES.values(), ids=CSV_VALUES)
@pytest.mark.parametrize("block_bytes", [2**24, 110], ids=["one-block", "small-blocks"])
def test_csv_types_round_nothing(
    tmp_path: Path, texts: list[str], kind: pa.DataType, values: list[Any], block_bytes: int
) -> None:
    """A value comes out as it was written, wherever in the list it stands."""
    lines = ["x,url", *(f"{text},http://{'h' * 50}" for text in texts)]
    path = written(tmp_path / "list", "\n".join(lines).encode())
    with mock.patch.object(csv, "BLOCK_BYTES", block_bytes):
        column = read(path, input_format="csv", save_additional_columns=["x"]).column("x")

    assert (column.type, column.to_pylist()) == (kind, values)


CELLS = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=12)


@given(
    st.lists(st.fixed_dictionaries({"url": CELLS, "text": CELLS, "more": CELLS}), min_size=1, max_size=30),
    st.sampled_from(["csv", "tsv", "csv.gz", "tsv.zst", "json", "jsonl", "json.gz", "jsonl.zst"]),
    st.integers(1, 9),
)
@settings(deadline=None)
def test_any_text_survives(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], input_format: str, rows_per_shard: int
) -> None:
    """Quotes, delimiters, line breaks: what another library writes is what comes out, in order."""
    path = written(tmp_path_factory.mktemp("any") / "list", encoded(rows, input_format))
    with mock.patch.object(csv, "BLOCK_BYTES", 200), mock.patch.object(text_lines, "BLOCK_BYTES", 50):
        table = read(path, input_format=input_format, caption_col="text", number_sample_per_shard=rows_per_shard)

    assert table.to_pylist() == [{"caption": row["text"], "url": row["url"]} for row in rows]


# ---- json and jsonl

DOCUMENTS: dict[str, Any] = {
    "columns-by-row": {"url": {"0": "a", "1": "b"}, "n": {"0": 1, "1": None}},
    "rows-in-another-order": {"url": {"0": "a", "1": "b"}, "n": {"1": None, "0": 1}},
    "columns-that-lack-a-row": {"url": {"0": "a", "1": "b"}, "n": {"0": 1}},
    "columns": {"url": ["a", "b"], "n": [1, None]},
    "rows": [{"url": "a", "n": 1}, {"url": "b", "n": None}],
    "rows-that-lack-a-column": [{"n": 1, "url": "a"}, {"url": "b"}],
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_json_document_in_each_shape_that_pandas_reads(tmp_path: Path, document: Any) -> None:
    """Columns as lists or by row, or rows: the same list."""
    path = written(tmp_path / "list.json", json.dumps(document).encode())
    table = read(path, input_format="json", save_additional_columns=["n"])

    assert table.to_pylist() == [{"n": 1, "url": "a"}, {"n": None, "url": "b"}]
    assert table.schema.field("n").type == pa.int64()


@pytest.mark.parametrize("orient", ["columns", "records"])
def test_json_document_that_pandas_writes(tmp_path: Path, orient: Any) -> None:
    """Written by somebody else."""
    pd.DataFrame(ROWS).to_json(tmp_path / "list.json", orient=orient)
    table = read(tmp_path / "list.json", input_format="json", save_additional_columns=["n", "f"], caption_col="text")

    assert table.rename_columns({"caption": "text"}).to_pylist() == [
        {"n": row["n"], "f": row["f"], "text": row["text"], "url": row["url"]} for row in ROWS
    ]


NO_LISTS: dict[str, tuple[bytes, str]] = {
    "one-row": (b'{"url": "a"}', "it is neither columns"),
    "a-list-of-texts": (b'["a"]', "it is neither columns"),
    "a-text": (b'"a"', "it is neither columns"),
    "mixed-columns": (b'{"url": ["a"], "n": {"0": 1}}', "it is neither columns"),
    "ragged-columns": (b'{"url": ["a", "b"], "n": [1]}', "different lengths: url 2, n 1"),
    "truncated": (b'[{"url": "a"}, {"url"', "line 1 column"),
    "empty": (b"", "line 1 column 1"),
    "lines": (b'{"url": "a"}\n{"url": "b"}\n', "--input_format jsonl"),
    "too-deep": (b"[" * 10**6, "nested too deeply"),
}


@pytest.mark.parametrize(("content", "said"), NO_LISTS.values(), ids=NO_LISTS)
def test_json_document_that_is_no_list_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """With what it should be."""
    with pytest.raises(InputError, match=rf"list\.json cannot be read as json: .*{said}"):
        open_list(written(tmp_path / "list.json", content), input_format="json")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_large_json_document_is_refused_with_a_line_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Any
) -> None:
    """What counts is its size in memory. The line that the message has makes a list that can be read."""
    written(tmp_path / "urls.json", encoded(ROWS, "json"))
    monkeypatch.setattr(json_lists, "DOCUMENT_BYTES_MAX", 1000)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="make lines of it") as caught:
        open_list(written(tmp_path / "packed", pack(encoded(ROWS, "json"))), input_format="json")
    line = str(caught.value).splitlines()[-1].strip().replace("python", sys.executable, 1)
    subprocess.run(line, shell=True, check=True)  # noqa: S602  as the user would type it

    assert read("urls.jsonl", input_format="jsonl", caption_col="text").to_pylist() == [
        {"caption": row["text"], "url": row["url"]} for row in ROWS
    ]


NO_ROWS: dict[str, tuple[bytes, str]] = {
    "text": (b'{"url": "a"}\n\nnonsense\n', "line 3 is no JSON object .*: Expecting value"),
    "a-list": (b'{"url": "a"}\n["b"]\n', r"line 2 is no JSON object .*: it is b'\[\"b\"\]'"),
    "truncated": (b'{"url": "a"}\n{"url": "b', "line 2 is no JSON object .*: Unterminated string"),
    "a-document": (b'[\n{"url": "a"}\n]\n', "line 1 is no JSON object .*--input_format json$"),
    "rows-of-a-document": (b'[{"url": "a"}]\n', "line 1 is no JSON object .*--input_format json$"),
    "pretty": (b'{\n "url": ["a"]\n}\n', "line 1 is no JSON object .*--input_format json$"),
    "too-deep": (b'{"url": "a"}\n' + b"[" * 10**6, "line 2 is no JSON object .*: it is nested too deeply"),
    "endless": (b'{"url": "a"}\n' + b" " * (17 * 2**20), "a line of more than"),
}


@pytest.mark.parametrize(("content", "said"), NO_ROWS.values(), ids=NO_ROWS)
def test_line_that_is_no_object_is_refused_by_its_number(tmp_path: Path, content: bytes, said: str) -> None:
    """With the name of the file."""
    with pytest.raises(InputError, match=rf"list\.jsonl cannot be read as jsonl: {said}"):
        read(written(tmp_path / "list.jsonl", content), input_format="jsonl")


def test_line_number_counts_on_from_block_to_block(tmp_path: Path) -> None:
    """However the file was read."""
    path = written(tmp_path / "list", b'{"url": "a"}\n' * 1000 + b"nonsense\n")
    with mock.patch.object(text_lines, "BLOCK_BYTES", 100), pytest.raises(InputError, match="line 1001 is no"):
        read(path, input_format="jsonl")


def test_what_is_no_strict_json_but_common_is_read(tmp_path: Path) -> None:
    """Python writes NaN, and half a character; others write Latin-1."""
    lines = [
        b'{"url": "http://h/1", "x": NaN, "text": "tea"}',
        b'{"url": "http://h/2", "x": Infinity, "text": "caf\xe9"}',
        b'{"url": "http://h/3", "x": 0.5, "text": "cat \\ud83d"}',
        b'{"url": "http://h/4", "x": null, "text": NaN}',
    ]
    path = written(tmp_path / "list", b"\n".join(lines))
    table = read(path, input_format="jsonl", save_additional_columns=["x"], caption_col="text")

    assert str(table.column("x").to_pylist()) == "[nan, inf, 0.5, None]"
    assert table.column("caption").to_pylist()[:2] == ["tea", "caf\ufffd"]
    assert table.column("caption").to_pylist()[2].startswith("cat \ufffd")
    assert table.column("caption").to_pylist()[3] is None


def test_line_of_a_mebibyte_is_a_row(tmp_path: Path) -> None:
    """Only what is longer than any list has is refused."""
    content = orjson.dumps({"url": "http://h/", "text": "x" * 2**20}) + b"\n"

    assert read(written(tmp_path / "list", content), input_format="jsonl").num_rows == 1


def test_column_of_jsonl_may_begin_late(tmp_path: Path) -> None:
    """A row has what it has; a column that any row has is there, and only one that none has is refused."""
    content = b'{"url": "a"}\n' * 1000 + b'{"url": "b", "late": 1}\n'
    path = written(tmp_path / "list", content)
    with mock.patch.object(text_lines, "BLOCK_BYTES", 100):
        late = read(path, input_format="jsonl", caption_col="late").column("caption").to_pylist()
        with pytest.raises(OptionsError, match="caption_col: the list has no column 'never'; it has url, late"):
            open_list(path, input_format="jsonl", caption_col="never")

    assert late == [None] * 1000 + ["1"]


def test_where_many_rows_have_no_url_it_is_called_otherwise(tmp_path: Path) -> None:
    """That is noticed from the first block, not at the end of a long list."""
    path = written(tmp_path / "list", b'{"URL": "a"}\n' * 1000 + b'{"url": "b"}\n')
    refused = pytest.raises(OptionsError, match="url_col: the list has no column 'url'; it has URL")
    with mock.patch.object(text_lines, "BLOCK_BYTES", 100), refused:
        open_list(path, input_format="jsonl")


def test_objects_whose_names_are_data_do_not_pile_up(tmp_path: Path) -> None:
    """The names of a column that is asked for in vain are not all remembered."""
    lines = b"".join(b'{"url": "a", "n%d": 1}\n' % number for number in range(5000))
    with pytest.raises(OptionsError) as caught:
        open_list(written(tmp_path / "list", lines), input_format="jsonl", caption_col="x")

    assert len(str(caught.value)) < 1000


# ---- arrow and feather


@pytest.mark.parametrize("encode", [as_arrow, as_stream], ids=["file", "stream"])
@pytest.mark.parametrize("rows", [None, 1, 30], ids=["one-batch", "a-batch-a-row", "batches"])
def test_arrow_file_and_stream_are_read_in_small_pieces(tmp_path: Path, encode: Any, rows: int | None) -> None:
    """Either layout of the IPC format, whatever its batches; the share that was read is known as it goes."""
    path = written(tmp_path / "list", encode(TABLE, rows))
    with mock.patch.object(arrow, "BATCH_ROWS", 9):
        found = open_list(path, input_format="arrow", caption_col="text", number_sample_per_shard=20)
        shards = found.shards()
        tables = [rows_of(next(shards))]
        expected = found.rows_expected()
        tables += [rows_of(shard) for shard in shards]

    assert pa.concat_tables(tables).to_pylist() == [{"caption": row["text"], "url": row["url"]} for row in ROWS]
    assert expected is not None
    assert 20 <= expected <= 120  # of 100: what frames the rows of so few counts, too


@pytest.mark.parametrize("codec", ["lz4", "zstd", "uncompressed"])
def test_feather_file_that_pandas_writes(tmp_path: Path, codec: Any) -> None:
    """Written by somebody else, compressed or not."""
    pd.DataFrame(ROWS).to_feather(tmp_path / "list.feather", compression=codec)

    assert read(tmp_path / "list.feather", input_format="feather").column("url").to_pylist() == [
        row["url"] for row in ROWS
    ]


BROKEN_ARROW = {
    "empty": (b"", "it is empty"),
    "text": (b"http://h.test/\n", "it is no Arrow file"),
    "file-without-its-end": (as_arrow(TABLE)[:-20], "."),
    "stream-cut-off": (as_stream(TABLE)[:-1000], "."),
}


@pytest.mark.parametrize(("content", "said"), BROKEN_ARROW.values(), ids=BROKEN_ARROW)
def test_broken_arrow_file_is_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    """Not with an error of the library, and not as a shorter list."""
    with pytest.raises(InputError, match=rf"list\.arrow cannot be read as arrow: .*{said}"):
        read(written(tmp_path / "list.arrow", content), input_format="arrow")


@pytest.mark.parametrize("offset", [2_000_000_000, -1, 4096])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_arrow_file_whose_offsets_lead_elsewhere_is_refused(tmp_path: Path, offset: int, kind: pa.DataType) -> None:
    """Arrow does not look where offsets lead; a list from elsewhere must not have it read outside of its own bytes."""
    texts = pa.array(["http://h.test/1", "http://h.test/2"], kind)
    width = 8 if pa.types.is_large_string(kind) else 4
    good = texts.buffers()[1].to_pybytes()[: 3 * width]
    bad = good[: 2 * width] + offset.to_bytes(width, "little", signed=True)
    content = as_arrow(pa.table({"url": texts}))
    assert content.count(good) == 1
    path = written(tmp_path / "list.arrow", content.replace(good, bad))

    with pytest.raises(InputError, match=r"list\.arrow cannot be read as arrow: "):
        list(open_list(path, input_format="arrow").shards())
