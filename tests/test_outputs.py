"""Every output format: write a shard, read it back, and once more with other people's readers."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tfrecord.reader import tfrecord_loader
from webdataset import tariterators

from async_img2ds.outputs import parquet
from async_img2ds.outputs.base import WRITERS, Output
from async_img2ds.outputs.tar import member
from async_img2ds.storage import RemoteStore
from samples import CAPTIONS, COLUMNS, IMAGES, LISTED, SAMPLES, SUCCESSES, success, write

if TYPE_CHECKING:
    from pathlib import Path

    from async_img2ds.records import Sample


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


def images_of_tfrecord(folder: Path) -> dict[str, bytes]:
    records = tfrecord_loader(str(folder / "00012.tfrecord"), None)
    return {features["key"].decode(): features["jpg"] for features in records}


# A format → what reads its images back, and the files it makes beside the marker.
READERS = {
    "files": (images_of_files, ["00012", "00012.parquet"]),
    "webdataset": (images_of_tar, ["00012.parquet", "00012.tar"]),
    "parquet": (images_of_parquet, ["00012.parquet"]),
    "tfrecord": (images_of_tfrecord, ["00012.parquet", "00012.tfrecord"]),
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
def test_remote_stores_get_the_same_files(tmp_path: Path, output_format: str) -> None:
    """Every format goes through the store, so a dataset elsewhere equals one on disk to the byte."""
    local, fs = write(output_format, tmp_path / "local"), fsspec.filesystem("memory")
    remote = f"/test_outputs{tmp_path}"
    write(output_format, tmp_path, store=RemoteStore(fs, remote, tmp_path / "staging"))

    assert {path.removeprefix(f"{remote}/"): fs.cat_file(path) for path in fs.find(remote)} == {
        str(path.relative_to(local)): path.read_bytes() for path in local.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("output_format", WRITERS)
@pytest.mark.parametrize("samples", [[], [SAMPLES[1]]], ids=["no-rows", "only-failures"])
def test_every_format_keeps_a_shard_without_images(tmp_path: Path, output_format: str, samples: list[Sample]) -> None:
    """A shard of which no image was received is a shard like any other, with files that can be read."""
    read_images, files = READERS[output_format]
    write(output_format, tmp_path, samples, LISTED.drop_columns("caption"))

    assert sorted(path.name for path in tmp_path.iterdir()) == [*files, "00012_stats.json"]
    assert output_format == "dummy" or read_images(tmp_path) == {}


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet", "tfrecord"])
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
        *(pa.field(name, text) for name in ("final_url", "optout")),
        pa.field("tls_verified", pa.bool_()),
    ]


def test_pandas_reads_the_parquet_format(tmp_path: Path) -> None:
    """Image and metadata of a sample are one row of a data frame."""
    frame = pd.read_parquet(write("parquet", tmp_path) / "00012.parquet").set_index("key")

    assert frame["jpg"].dropna().to_dict() == IMAGES
    assert frame["url"].dropna().to_dict() == {sample.row.key: sample.row.url for sample in SAMPLES if sample.row.url}


def test_images_for_hugging_face_are_structs_declared_in_the_schema(tmp_path: Path) -> None:
    """Each image has its bytes and a path, a failed row a null, and all columns are declared as features."""
    table = pq.read_table(write("parquet", tmp_path, hf_image=True) / "00012.parquet")
    images = dict(zip(table["key"].to_pylist(), table["jpg"].to_pylist(), strict=True))
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]

    assert table.schema.names == [*LISTED.column_names, *(f.name for f in replace(COLUMNS, image="jpg").fields())]
    assert table.schema.field("jpg").type == pa.struct({"bytes": pa.binary(), "path": pa.string()})
    assert {key: image["bytes"] for key, image in images.items() if image} == IMAGES
    assert {image["path"] for image in images.values() if image} == {f"{key}.jpg" for key in IMAGES}
    assert [key for key, image in images.items() if image is None] == ["000120002", "000120004"]
    assert list(features) == table.schema.names
    assert features["jpg"] == {"_type": "Image"}
    assert (features["width"], features["score"]) == (value("int32"), value("float64"))
    assert (features["at"], features["price"]) == (value("timestamp[ns, tz=Europe/Berlin]"), value("decimal128(10, 2)"))
    assert (features["tags"], features["boxes"]) == ([value("string")], [[value("float32")]])
    assert (features["box"], features["label"]) == ({"x": value("int64")}, value("string"))
    assert features["ratios"] == {"_type": "LargeList", "feature": value("float64")}


def value(dtype: str) -> dict[str, str]:
    return {"_type": "Value", "dtype": dtype}


def test_row_groups_of_images_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the images of a shard are together, a reader need not hold more than a row group of them."""
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1000)
    file = pq.ParquetFile(write("parquet", tmp_path) / "00012.parquet")

    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [3, 2]
    assert images_of_parquet(tmp_path) == IMAGES


def refuse(word: str) -> None:
    """Refuse NaN and Infinity, which Python's parser takes and others do not."""
    raise AssertionError(word)


def metadata(output_format: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Return the JSON of each success, refusing what strict JSON does not know."""
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
    assert (first["ratios"], first["boxes"], first["days"]) == ([0.5, None], [[0.5, 1.0], []], ["2026-01-31", None])
    assert (first["names"], first["label"], first["half"]) == ({"en": "cat"}, "a", 0.25)
    assert {name for name in LISTED.column_names if second[name] is not None} == {"url"}


def test_values_unknown_to_python_are_text() -> None:
    """A time zone or a year that Python does not have is still valid JSON."""
    listed = pa.table(
        {
            "nowhere": pa.array([1_000_000, None], pa.timestamp("us", "Nowhere/At_all")),
            "far": pa.array([10**14, None], pa.timestamp("s")),
            "late": pa.array([3_652_059, None], pa.date32()),
            "times": pa.array([[1_000_000], None], pa.list_(pa.timestamp("us", "Nowhere/At_all"))),
            "parts": pa.array([[b"\xff"], None], pa.list_(pa.binary())),
            "url": pa.array(["http://h/0", None]),
        }
    )
    output = Output(None, "00012", listed, COLUMNS, "jpg", captions=False)  # type: ignore[arg-type]  # nothing is written
    first, second = (json.loads(output.record(success(number, b""))) for number in (0, 1))

    assert first["nowhere"] == "1970-01-01T00:00:01.000000+00:00"
    assert first["times"] == ["1970-01-01T00:00:01.000000+00:00"]
    assert first["parts"] == ["/w=="]
    assert all(isinstance(first[name], str) for name in ("far", "late"))
    assert [second[name] for name in ("nowhere", "far", "late", "times", "parts")] == [None] * 5


def test_captions_are_written_as_text(tmp_path: Path) -> None:
    """A caption is stored in UTF-8 beside its image, an absent one as an empty file; without captions there is none."""
    members = tar_members(write("webdataset", tmp_path))
    write("files", tmp_path / "files")
    without = tar_members(write("webdataset", tmp_path / "without", listed=LISTED.drop_columns("caption")))
    expected = {f"{sample.row.key}.txt": (CAPTIONS[sample.row.index] or "").encode() for sample in SUCCESSES.values()}

    assert {name: content for name, content in members.items() if name.endswith(".txt")} == expected
    assert {path.name: path.read_bytes() for path in (tmp_path / "files" / "00012").glob("*.txt")} == expected
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
