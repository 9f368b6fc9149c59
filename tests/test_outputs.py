"""Every output format: write a shard, read it back, and once more with other people's readers."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import json
import subprocess
import tarfile
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webdataset import tariterators

from async_img2ds.errors import ErrorClass
from async_img2ds.outputs import parquet
from async_img2ds.outputs.base import WRITERS, Output, open_writer
from async_img2ds.outputs.tar import member
from async_img2ds.policy.schema import Columns
from async_img2ds.records import Encoded, Row, Sample, Status
from async_img2ds.storage import Attempt, LocalStore

if TYPE_CHECKING:
    from pathlib import Path

CAPTIONS = ['猫 😀 "cat"', None, "", "two\nlines\0", "café"]
LISTED = pa.table(
    {
        "tags": pa.array([["a", "ä"], None, [], ["b"], ["c"]]),
        "box": pa.array([{"x": 1}, None, {"x": 3}, {"x": 4}, {"x": None}]),
        "price": pa.array([Decimal("1.50"), None, Decimal(0), Decimal(1), Decimal(2)], pa.decimal128(10, 2)),
        "day": pa.array([dt.date(2026, 1, 31), None, *[dt.date(1969, 12, 31)] * 3]),
        "at": pa.array([1, None, 2, 3, 4], pa.timestamp("ns", "Europe/Berlin")),
        "took": pa.array([1, None, 2, 3, 4], pa.duration("us")),
        "blob": pa.array([b"\xff\0", None, b"", b"x", b"y"]),
        "big": pa.array([2**64 - 1, None, 0, 1, 2], pa.uint64()),
        "score": pa.array([float("nan"), float("inf"), -float("inf"), 0.5, None]),
        "caption": pa.array(CAPTIONS),
        "url": pa.array(["http://h/0", "http://h/1", None, "http://h/3", "http://h/4"]),
    }
)
COLUMNS = Columns(exif=True, digest="sha256")


def success(index: int, image: bytes) -> Sample:
    encoded = Encoded(image, 256, 256, 640, 480, '{"Image Make": "ä"}', f"digest {index}")
    return Sample(
        Row(index, f"00012000{index}", LISTED["url"][index].as_py()), Status.SUCCESS, encoded, None, None, 200, 1, 9
    )


def failure(index: int, status: Status, error_class: ErrorClass, message: str) -> Sample:
    row = Row(index, f"00012000{index}", LISTED["url"][index].as_py())
    return Sample(row, status, error_class=error_class, error_message=message, http_status=404, attempts=1)


# In the order of their completion, which is not that of the list.
SAMPLES = [
    success(3, b"x" * 512),
    failure(2, Status.FAILED_TO_DOWNLOAD, ErrorClass.URL_INVALID, "no URL"),
    success(0, b"\xff\xd8" + b"y" * 1500),
    failure(4, Status.FAILED_TO_RESIZE, ErrorClass.TOO_SMALL, "image too small"),
    success(1, b"z"),
]
SUCCESSES = {sample.row.key: sample for sample in SAMPLES if sample.encoded}
IMAGES = {key: sample.encoded.image for key, sample in SUCCESSES.items() if sample.encoded}


def write(output_format: str, folder: Path, samples: list[Sample] = SAMPLES, listed: pa.Table = LISTED) -> Path:
    """Write *samples* as shard 12 into *folder*, all at once as a worker may, and commit them."""
    store = LocalStore(folder)
    store.prepare()

    async def run() -> None:
        async with Attempt.open(store) as attempt:
            output = Output(attempt, "00012", listed, COLUMNS, "jpg", captions="caption" in listed.column_names)
            writer = await open_writer(output_format, output)
            async with asyncio.TaskGroup() as tasks:
                for sample in samples:
                    tasks.create_task(writer.write(sample))
            await writer.finish()
            await attempt.commit("00012_stats.json", b"{}")

    asyncio.run(run())
    store.close()
    return folder


def images_of_files(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (folder / "00012").glob("*.jpg")}


def images_of_tar(folder: Path) -> dict[str, bytes]:
    return {name[:-4]: content for name, content in tar_members(folder).items() if name.endswith(".jpg")}


def images_of_parquet(folder: Path) -> dict[str, bytes]:
    table = pq.read_table(folder / "00012.parquet").to_pydict()
    return {key: image for key, image in zip(table["key"], table["jpg"], strict=True) if image is not None}


def tar_members(folder: Path) -> dict[str, bytes]:
    """Return the members of the shard's tar in order, read as a stream that cannot seek."""
    with tarfile.open(folder / "00012.tar", "r|") as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]  # regular files all


# A format → what reads its images back, and the files it makes beside the marker.
READERS = {
    "files": (images_of_files, ["00012", "00012.parquet"]),
    "webdataset": (images_of_tar, ["00012.parquet", "00012.tar"]),
    "parquet": (images_of_parquet, ["00012.parquet"]),
    "dummy": (lambda _folder: IMAGES, []),
}


@pytest.mark.parametrize("output_format", WRITERS)
def test_every_format_keeps_every_sample(tmp_path: Path, output_format: str) -> None:
    """Each image can be read back under its key, and each row, failed ones included, is in the table."""
    read_images, files = READERS[output_format]
    write(output_format, tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == [*files, "00012_stats.json"]
    assert read_images(tmp_path) == IMAGES
    if "00012.parquet" in files:
        table = pq.read_table(tmp_path / "00012.parquet")
        order = [sample.row.index for sample in SAMPLES]
        assert str(table.select(LISTED.column_names).to_pydict()) == str(LISTED.take(order).to_pydict())
        assert table["key"].to_pylist() == [sample.row.key for sample in SAMPLES]
        assert table["status"].to_pylist() == [str(sample.status) for sample in SAMPLES]
        assert table["error_message"].to_pylist() == [None, "no URL", None, "image too small", None]
        assert table["error_class"].to_pylist() == [None, "url_invalid", None, "too_small", None]
        assert table["width"].to_pylist() == [256, None, 256, None, 256]
        assert table["sha256"].to_pylist() == ["digest 3", None, "digest 0", None, "digest 1"]


@pytest.mark.parametrize("output_format", WRITERS)
@pytest.mark.parametrize("samples", [[], [SAMPLES[1]]], ids=["no-rows", "only-failures"])
def test_every_format_keeps_a_shard_without_images(tmp_path: Path, output_format: str, samples: list[Sample]) -> None:
    """A shard of which no image was received is a shard like any other, with files that can be read."""
    read_images, files = READERS[output_format]
    write(output_format, tmp_path, samples, LISTED.drop_columns("caption"))

    assert sorted(path.name for path in tmp_path.iterdir()) == [*files, "00012_stats.json"]
    assert output_format == "dummy" or read_images(tmp_path) == {}


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
def test_tables_have_the_columns_in_order_and_by_type(tmp_path: Path, output_format: str) -> None:
    """First the list's columns as they were typed, then those of img2dataset, then our own."""
    schema = pq.read_schema(write(output_format, tmp_path) / "00012.parquet")
    image = [pa.field("jpg", pa.binary())] if output_format == "parquet" else []
    text, whole = pa.string(), pa.int32()

    assert list(schema)[: len(LISTED.schema)] == list(LISTED.schema)
    assert list(schema)[len(LISTED.schema) :] == [
        *(pa.field(name, text) for name in ("key", "status", "error_message")),
        *(pa.field(name, whole) for name in ("width", "height", "original_width", "original_height")),
        *(pa.field(name, text) for name in ("exif", "sha256")),
        *image,
        pa.field("error_class", text),
        *(pa.field(name, whole) for name in ("http_status", "attempts")),
    ]


def test_pandas_reads_the_parquet_format(tmp_path: Path) -> None:
    """Image and metadata of a sample are one row of a data frame."""
    frame = pd.read_parquet(write("parquet", tmp_path) / "00012.parquet").set_index("key")

    assert frame["jpg"].dropna().to_dict() == IMAGES
    assert frame["url"].dropna().to_dict() == {sample.row.key: sample.row.url for sample in SAMPLES if sample.row.url}


def test_row_groups_of_images_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the images of a shard are together, a reader need not hold more than a row group of them."""
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1000)
    file = pq.ParquetFile(write("parquet", tmp_path) / "00012.parquet")

    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [3, 2]
    assert images_of_parquet(tmp_path) == IMAGES


def metadata(output_format: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Return the JSON of each success, refusing what strict JSON does not know."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    if output_format == "files":
        texts = {path.stem: path.read_bytes() for path in (folder / "00012").glob("*.json")}
    else:
        texts = {
            name.removesuffix(".json"): content
            for name, content in tar_members(folder).items()
            if name.endswith(".json")
        }
    return {key: json.loads(text, parse_constant=refuse) for key, text in texts.items()}


@pytest.mark.parametrize("output_format", ["files", "webdataset"])
def test_json_of_a_sample_is_strict_and_whole(tmp_path: Path, output_format: str) -> None:
    """Every column is there in order; not-a-number is null, and a value unknown to JSON is no lost sample."""
    records = metadata(output_format, write(output_format, tmp_path))
    first, second = records["000120000"], records["000120001"]

    assert records.keys() == IMAGES.keys()
    assert list(first) == [*LISTED.column_names, *(field.name for field in COLUMNS.fields())]
    assert (first["score"], second["score"]) == (None, None)
    assert (first["tags"], first["box"], first["price"], first["day"]) == (["a", "ä"], {"x": 1}, "1.50", "2026-01-31")
    assert (first["caption"], second["caption"], first["exif"]) == (CAPTIONS[0], None, '{"Image Make": "ä"}')
    assert (first["key"], first["status"], first["width"], first["big"]) == ("000120000", "success", 256, 2**64 - 1)
    assert (first["at"], first["took"]) == ("1970-01-01T00:00:00.000000001+00:00", 1e-6)
    assert (first["blob"], second["blob"]) == ("/wA=", None)


def test_captions_are_written_as_text(tmp_path: Path) -> None:
    """A caption is stored in UTF-8 beside its image, an absent one as an empty file; without captions there is none."""
    members = tar_members(write("webdataset", tmp_path))
    write("files", tmp_path)
    without = tar_members(write("webdataset", tmp_path, listed=LISTED.drop_columns("caption")))
    expected = {f"{sample.row.key}.txt": (CAPTIONS[sample.row.index] or "").encode() for sample in SUCCESSES.values()}

    assert {name: content for name, content in members.items() if name.endswith(".txt")} == expected
    assert {path.name: path.read_bytes() for path in (tmp_path / "00012").glob("*.txt")} == expected
    assert not [name for name in without if name.endswith(".txt")]


def test_tar_holds_each_sample_side_by_side(tmp_path: Path) -> None:
    """Members come sample by sample, sorted by extension, read-only and timeless, in plain USTAR with its end."""
    content = (write("webdataset", tmp_path) / "00012.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = archive.getmembers()

    assert [info.name for info in members] == [
        f"{key}.{extension}" for key in SUCCESSES for extension in ("jpg", "json", "txt")
    ]
    assert {(info.mode, info.mtime, info.uname, info.uid) for info in members} == {(0o444, 0, "bigdata", 0)}
    assert not any(info.pax_headers for info in members)
    assert len(content) % 512 == 0
    assert content.endswith(bytes(1024))


def test_same_samples_make_the_same_tar(tmp_path: Path) -> None:
    """Nothing of the time or the machine gets into an archive."""
    first, second = (write("webdataset", tmp_path / name) / "00012.tar" for name in ("first", "second"))

    assert first.read_bytes() == second.read_bytes()


@given(st.from_regex(r"\A[0-9]{1,24}\Z"), st.sampled_from(["jpg", "json", "txt", "webp"]), st.integers(0, 2000))
@settings(deadline=None)
def test_tar_header_is_what_the_standard_library_writes(key: str, extension: str, size: int) -> None:
    """But for the device numbers, which Python leaves out, a header is the same to the byte; its checksum is right."""
    info = tarfile.TarInfo(f"{key}.{extension}")
    info.size, info.mode, info.uname, info.gname = size, 0o444, "bigdata", "bigdata"
    theirs = info.tobuf(tarfile.USTAR_FORMAT)

    ours, content, padding = member(info.name, bytes(size))
    read_back = {**tarfile.TarInfo.frombuf(ours, "ascii", "strict").get_info(), "chksum": 0}  # refused if it were wrong

    assert (ours[:148], ours[156:329], ours[345:]) == (theirs[:148], theirs[156:329], theirs[345:])
    assert read_back == info.get_info()
    assert len(content + padding) % 512 == 0


def test_gnu_tar_lists_and_extracts_the_archive(tmp_path: Path) -> None:
    """The archive is sound to the most common reader, which has nothing to complain about."""
    write("webdataset", tmp_path)
    listed = subprocess.run(["tar", "tf", "00012.tar"], cwd=tmp_path, check=True, capture_output=True)
    extracted = subprocess.run(["tar", "xOf", "00012.tar"], cwd=tmp_path, check=True, capture_output=True)
    members = tar_members(tmp_path)

    assert listed.stderr + extracted.stderr == b""
    assert listed.stdout.decode().split() == list(members)
    assert extracted.stdout == b"".join(members.values())


def test_webdataset_reads_the_archive(tmp_path: Path) -> None:
    """The library that the format is named after finds each sample as one."""
    archive = write("webdataset", tmp_path) / "00012.tar"

    with archive.open("rb") as stream:
        samples = list(
            tariterators.group_by_keys(tariterators.tar_file_expander([{"url": "a shard", "stream": stream}]))
        )

    assert [sample["__key__"] for sample in samples] == list(SUCCESSES)
    assert {sample["__key__"]: sample["jpg"] for sample in samples} == IMAGES
    assert {sample["__key__"]: json.loads(sample["json"])["url"] for sample in samples} == {
        key: sample.row.url for key, sample in SUCCESSES.items()
    }
