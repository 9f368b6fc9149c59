"""Read TFRecord files of ``tf.train.Example`` without TensorFlow.

The framing is TensorFlow's (tensorflow/core/lib/io/record_writer.h): length, its masked CRC, content, its masked CRC.
The content is protobuf (tensorflow/core/example/{example,feature}.proto), of which a few field numbers are needed.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Feature", "examples"]

# A feature: which of the three lists it is, and what is in it.
Feature = tuple[str, list[bytes] | list[float] | list[int]]

_KINDS: Final = {1: "bytes", 2: "float", 3: "int64"}
_VARINT, _LENGTH, _FIXED_32 = 0, 2, 5


def examples(path: Path) -> Iterator[dict[str, Feature]]:
    """Yield the examples of a file, each as its features by name, in the order in which they are written."""
    content = path.read_bytes()
    at = 0
    while at < len(content):
        length, length_check = struct.unpack_from("<QI", content, at)
        record = content[at + 12 : at + 12 + length]
        (check,) = struct.unpack_from("<I", content, at + 12 + length)
        assert length_check == masked_crc(content[at : at + 8])
        assert check == masked_crc(record)
        at += 16 + length
        [features] = [value for number, value in _fields(record) if number == 1]
        assert isinstance(features, bytes)
        yield dict(_entry(value) for _, value in _fields(features) if isinstance(value, bytes))


def masked_crc(content: bytes) -> int:
    """Return CRC-32C as TensorFlow stores it: rotated, and a constant added."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE: Final = _table()


def _entry(content: bytes) -> tuple[str, Feature]:
    """Return one entry of the map of features: its key is field 1, its value field 2."""
    fields = dict(_fields(content))
    name, feature = fields[1], fields[2]
    assert isinstance(name, bytes)
    assert isinstance(feature, bytes)
    [(number, values)] = _fields(feature)
    assert isinstance(values, bytes)
    kind = _KINDS[number]
    packed = [value for _, value in _fields(values)]
    if kind == "bytes":
        return name.decode(), (kind, [value for value in packed if isinstance(value, bytes)])
    if kind == "float":
        joined = b"".join(value for value in packed if isinstance(value, bytes))
        return name.decode(), (kind, [value for (value,) in struct.iter_unpack("<f", joined)])
    whole: list[int] = []
    for value in packed:
        whole += [value] if isinstance(value, int) else _varints(value)
    return name.decode(), (kind, [value - 2**64 if value >= 2**63 else value for value in whole])


def _fields(content: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield the fields of a message: number and value."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            whole, at = _varint(content, at)
            yield number, whole
        elif kind == _LENGTH:
            length, at = _varint(content, at)
            yield number, content[at : at + length]
            at += length
        else:
            assert kind == _FIXED_32
            yield number, content[at : at + 4]
            at += 4


def _varints(content: bytes) -> list[int]:
    values, at = [], 0
    while at < len(content):
        value, at = _varint(content, at)
        values.append(value)
    return values


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
