"""TFRecord files, read back with a public reader and its protocol buffers: framing, checksums, every feature."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from tfrecord.example_pb2 import Example
from tfrecord.reader import tfrecord_iterator, tfrecord_loader
from tfrecord.writer import TFRecordWriter as TheirWriter

from async_img2ds.outputs.example import NO_INTEGER, ExampleEncoder
from async_img2ds.outputs.tfrecord import record
from samples import COLUMNS, IMAGES, LISTED, SAMPLES, SUCCESSES, write

if TYPE_CHECKING:
    from pathlib import Path

# What their protocol buffers call the three kinds.
BYTES, FLOAT, INT64 = "bytes_list", "float_list", "int64_list"


def examples(folder: Path) -> dict[str, dict[str, tuple[str, list[Any]]]]:
    """Return the features of each record by key: kind and values."""
    found = {}
    for data in tfrecord_iterator(str(folder / "00012.tfrecord")):
        features = features_of(bytes(data))
        found[features["key"][1][0].decode()] = features
    return found


def features_of(data: bytes) -> dict[str, tuple[str, list[Any]]]:
    """Return what *data* holds, kind and values by name, as their protocol buffers read it."""
    example = Example.FromString(data)
    return {
        name: (kind, list(getattr(feature, kind).value))
        for name, feature in example.features.feature.items()
        for kind in [feature.WhichOneof("kind")]
    }


def test_every_value_is_a_feature_of_its_kind(tmp_path: Path) -> None:
    """Image, caption and each column of a sample are there under their names, with all that is in them."""
    features = examples(write("tfrecord", tmp_path))["000120000"]
    score, ratios = features.pop("score"), features.pop("ratios")

    assert score[0] == FLOAT
    assert math.isnan(score[1][0])
    assert (ratios[0], ratios[1][0], math.isnan(ratios[1][1]), len(ratios[1])) == (FLOAT, 0.5, True, 2)
    assert features == {
        "jpg": (BYTES, [IMAGES["000120000"]]),
        "txt": (BYTES, ['猫 😀 "cat"'.encode()]),
        "tags": (BYTES, [b"a", "ä".encode()]),
        "box": (BYTES, [b'{"x":1}']),
        "price": (BYTES, [b"1.50"]),
        "day": (BYTES, [b"2026-01-31"]),
        "at": (BYTES, [b"1970-01-01T00:00:00.000000001+00:00"]),
        "took": (BYTES, [b"1e-6"]),
        "blob": (BYTES, [b"\xff\0"]),
        "big": (INT64, [-1]),
        "flag": (INT64, [1]),
        "counts": (INT64, [1, NO_INTEGER, -3]),
        "boxes": (BYTES, [b"[[0.5,1.0],[]]"]),
        "days": (BYTES, [b"2026-01-31", b""]),
        "names": (BYTES, [b'{"en":"cat"}']),
        "label": (BYTES, [b"a"]),
        "half": (FLOAT, [0.25]),
        "nothing": (BYTES, [b""]),
        "caption": (BYTES, ['猫 😀 "cat"'.encode()]),
        "url": (BYTES, [b"http://h/0"]),
        "key": (BYTES, [b"000120000"]),
        "status": (BYTES, [b"success"]),
        "error_message": (BYTES, [b""]),
        "width": (INT64, [256]),
        "height": (INT64, [256]),
        "original_width": (INT64, [640]),
        "original_height": (INT64, [480]),
        "exif": (BYTES, ['{"Image Make": "ä"}'.encode()]),
        "sha256": (BYTES, [b"digest 0"]),
        "error_class": (BYTES, [b""]),
        "http_status": (INT64, [200]),
        "attempts": (INT64, [1]),
        "final_url": (BYTES, [b""]),
        "optout": (BYTES, [b"X-Robots-Tag: noindex"]),
        "tls_verified": (INT64, [1]),
    }


def test_a_column_has_one_kind_in_every_record(tmp_path: Path) -> None:
    """Neither a null nor an empty list changes it: a null text is empty, a null number or list is no feature."""
    found = examples(write("tfrecord", tmp_path))
    kinds = [{name: kind for name, (kind, _) in features.items()} for features in found.values()]
    whole, nulls, empty = found["000120000"], found["000120001"], found["000120003"]

    assert list(found) == list(SUCCESSES)
    assert all(kinds[at][name] == kinds[0][name] for at in range(len(kinds)) for name in kinds[at].keys() & kinds[0])
    assert whole.keys() == {*LISTED.column_names, "jpg", "txt", *(field.name for field in COLUMNS.fields())}
    assert whole.keys() - nulls.keys() == {"tags", "big", "flag", "counts", "ratios", "days", "half"}
    assert [nulls[name] for name in ("caption", "txt", "box", "price", "blob", "boxes")] == [(BYTES, [b""])] * 6
    assert (empty["counts"], empty["ratios"], empty["days"]) == ((INT64, []), (FLOAT, []), (BYTES, []))
    assert empty["boxes"] == (BYTES, [b"[]"])


def test_public_reader_checks_the_kinds_it_is_told(tmp_path: Path) -> None:
    """The loader that PyTorch users have reads named features with the types they expect."""
    kinds = {"jpg": "byte", "key": "byte", "width": "int", "status": "byte", "error_message": "byte"}
    read = list(tfrecord_loader(str(write("tfrecord", tmp_path) / "00012.tfrecord"), None, kinds))

    assert {features["key"].decode(): features["jpg"] for features in read} == IMAGES
    assert [features["width"].tolist() for features in read] == [[256]] * 3


def test_checksums_are_those_of_the_format(tmp_path: Path) -> None:
    """Length and data of each record are followed by their masked CRC-32C, as another writer makes them."""
    content = (write("tfrecord", tmp_path) / "00012.tfrecord").read_bytes()
    records = 0
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        data, rest = content[12 : 12 + length], content[12 + length :]
        assert content[8:12] == TheirWriter.masked_crc(content[:8])
        assert rest[:4] == TheirWriter.masked_crc(data)
        content, records = rest[4:], records + 1

    assert records == len(SUCCESSES)


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_record_is_the_same_in_one_piece_or_many(pieces: list[bytes]) -> None:
    """Data that is handed over in pieces is framed as if it were whole."""
    assert b"".join(record(*pieces)) == b"".join(record(b"".join(pieces)))


SCALARS = {
    "text": (pa.string(), st.none() | st.text()),
    "blob": (pa.binary(), st.none() | st.binary()),
    "whole": (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
    "single": (pa.float32(), st.none() | st.floats(width=32, allow_nan=False)),
    "flag": (pa.bool_(), st.none() | st.booleans()),
}
LISTS = {
    f"{name}s": (pa.list_(kind), st.none() | st.lists(values.filter(lambda value: value is not None), max_size=200))
    for name, (kind, values) in SCALARS.items()
}
SCHEMA = pa.schema([(name, kind) for name, (kind, _) in {**SCALARS, **LISTS}.items()])


@given(
    st.fixed_dictionaries({name: values for name, (_, values) in {**SCALARS, **LISTS}.items()}),
    st.integers(0, 70_000),
    st.none() | st.binary(),
)
def test_any_example_can_be_parsed(metadata: dict[str, Any], size: int, caption: bytes | None) -> None:
    """Whatever the values and however long the image, protocol buffers read back what was written."""
    image = bytes(size)
    features = features_of(b"".join(ExampleEncoder("webp", SCHEMA).encode(image, metadata, caption)))
    read = {name: values for name, (_, values) in features.items()}
    expected: dict[str, list[Any]] = {"webp": [image], **({} if caption is None else {"txt": [caption]})}
    for name, value in metadata.items():
        if isinstance(value, list):
            expected[name] = [item.encode() if isinstance(item, str) else item for item in value]
        elif name in ("text", "blob"):
            expected[name] = [value.encode() if isinstance(value, str) else value or b""]
        elif value is not None:
            expected[name] = [value]

    assert read == expected


def test_number_beyond_single_precision_is_infinite() -> None:
    """A 64-bit float that TFRecord cannot hold costs its value, not the sample."""
    schema = pa.schema([("score", pa.float64())])
    features = features_of(b"".join(ExampleEncoder("jpg", schema).encode(b"", {"score": -1e300}, None)))

    assert features["score"] == (FLOAT, [-math.inf])


def test_shard_without_images_is_an_empty_file(tmp_path: Path) -> None:
    """No record is a valid file of no records, which readers pass over."""
    path = write("tfrecord", tmp_path, [SAMPLES[1]]) / "00012.tfrecord"

    assert path.read_bytes() == b""
    assert list(tfrecord_iterator(str(path))) == []
