"""A sample as a ``tf.train.Example``: the protocol buffer of named features that TFRecord files hold.

Encoded by hand, because this is all there is of it::

    Example    1: Features
    Features   1: an entry for each feature: 1: its name, 2: Feature
    Feature    one of  1: BytesList   2: FloatList   3: Int64List
    …List      1: its values: bytes one by one, 32-bit floats and variable-length integers packed

A feature's kind follows from the Arrow type of its column and not from the value, so a column has one kind in all
records, whatever is empty or null in them.
"""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa

from async_img2ds.outputs.base import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

__all__ = ["NO_INTEGER", "ExampleEncoder", "byte_features"]

# What stands for a null inside a list of integers, which has to keep its length: the least of them, as in NumPy's NaT.
NO_INTEGER: Final = -(2**63)
_64_BITS: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class ExampleEncoder:
    """Encodes samples whose image is the feature *image*, and whose metadata has the columns of *schema*."""

    image: str
    schema: pa.Schema
    _features: dict[str, tuple[bytes, Callable[[Any], bytes | None]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        features = {column.name: (_name(column.name), _feature_of(column.type)) for column in self.schema}
        object.__setattr__(self, "_features", features)

    def encode(self, image: bytes, metadata: Mapping[str, Any], caption: bytes | None) -> tuple[bytes, bytes, bytes]:
        """Return an Example in three pieces, of which the second is *image* itself: it is not copied.

        *caption* becomes the feature ``txt``, each value of *metadata* a feature of its column's name. A null is an
        empty text in a column of texts; a null number or list is no feature at all, which TensorFlow reads as the
        default that it was given.
        """
        rest = [] if caption is None else [_entry(_name("txt"), _bytes_list([caption]))]
        for column, value in metadata.items():
            name, feature_of = self._features[column]
            feature = feature_of(value)
            if feature is not None:
                rest.append(_entry(name, feature))
        behind = b"".join(rest)
        before = _before_bytes(self.image, len(image))
        whole = _TAGS[1] + _varint(len(before) + len(image) + len(behind))
        return whole + before, image, behind


def byte_features(example: bytes, names: Container[str]) -> dict[str, bytes]:
    """Return of an Example those features of *names* that are one text or image.

    Raises:
        ValueError: it is no Example.

    """
    found: dict[str, bytes] = {}
    for _, features in _fields(memoryview(example)):
        for _, entry in _fields(features):
            parts = dict(_fields(entry))
            name = bytes(parts[1]).decode()
            if name in names:
                [(_, values)] = _fields(parts[2])
                [(_, value)] = _fields(values)
                found[name] = bytes(value)
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of the fields of *message*, each of which has a length."""
    at = 0
    while at < len(message):
        number, at = message[at] >> 3, at + 1
        length, at = _varint_at(message, at)
        if at + length > len(message):
            raise ValueError("an Example is cut off")
        yield number, message[at : at + length]
        at += length


def _varint_at(message: memoryview, at: int) -> tuple[int, int]:
    """Return the number that begins at *at*, and where it ends."""
    value = shift = 0
    while at < len(message):
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if message[at - 1] <= 0x7F:  # noqa: PLR2004  seven bits
            return value, at
    raise ValueError("an Example is cut off")


def _feature_of(column: pa.DataType) -> Callable[[Any], bytes | None]:
    """Return how a value of the type *column* becomes a Feature, None for no feature."""
    if _is_list(column):
        if pa.types.is_nested(column.value_type):
            return _json
        pack = _list_of(column.value_type)
        return lambda values: None if values is None else pack(values if isinstance(values, list) else [values])
    if pa.types.is_nested(column):
        return _json
    pack = _list_of(column)
    if pack is _bytes_list:
        return lambda value: pack([value])
    return lambda value: None if value is None else pack([value])


def _is_list(column: pa.DataType) -> bool:
    return isinstance(
        column, pa.ListType | pa.LargeListType | pa.FixedSizeListType | pa.ListViewType | pa.LargeListViewType
    )


def _list_of(element: pa.DataType) -> Callable[[Sequence[Any]], bytes]:
    """Return what packs values of the type *element* into a Feature."""
    if pa.types.is_dictionary(element):
        return _list_of(element.value_type)
    if pa.types.is_integer(element) or pa.types.is_boolean(element):
        return _int64_list
    if pa.types.is_floating(element):
        return _float_list
    return _bytes_list


def _bytes_list(values: Sequence[Any]) -> bytes:
    return _field(1, b"".join(_field(1, _bytes(value)) for value in values))


def _float_list(values: Sequence[float | None]) -> bytes:
    numbers = array("f", (float("nan") if value is None else value for value in values))
    if sys.byteorder == "big":
        numbers.byteswap()
    return _field(2, _field(1, numbers.tobytes()) if numbers else b"")


def _int64_list(values: Sequence[int | None]) -> bytes:
    """Pack *values* as 64 bits each; an unsigned one beyond the largest signed one keeps its bits."""
    packed = b"".join(_varint((NO_INTEGER if value is None else value) & _64_BITS) for value in values)
    return _field(3, _field(1, packed) if packed else b"")


def _json(value: object) -> bytes:
    """Return what no kind of list can hold, such as a list of lists, as one JSON text."""
    return _bytes_list([None if value is None else to_json(value)])


def _bytes(value: object) -> bytes:
    """Return *value* as it is, or as the text that stands for it in JSON; a null is empty."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    written = to_json(value)
    return str(orjson.loads(written)).encode() if written.startswith(b'"') else written


def _entry(name: bytes, feature: bytes) -> bytes:
    """Return the entry of *feature* in the map of features; *name* is its name as :func:`_name` writes it."""
    return _field(1, name + _field(2, feature))


def _name(name: str) -> bytes:
    return _field(1, name.encode())


def _before_bytes(name: str, size: int) -> bytes:
    """Return what comes before *size* bytes that are the only value of the feature *name*."""
    before = b""
    for number, earlier in ((1, b""), (1, b""), (2, _name(name)), (1, b"")):  # from the inside out
        before = earlier + _TAGS[number] + _varint(len(before) + size) + before
    return before


def _field(number: int, content: bytes) -> bytes:
    return _TAGS[number] + _varint(len(content)) + content


# How a field begins, by its number; 2 says that a length follows, and so many bytes.
_TAGS: Final = tuple(bytes([number << 3 | 2]) for number in range(4))
_SHORT: Final = tuple(bytes([value]) for value in range(128))


def _varint(value: int) -> bytes:
    """Return *value* in groups of seven bits, the lowest first; a set eighth bit says that more follow."""
    if value <= 0x7F:  # noqa: PLR2004  one group, as most lengths are
        return _SHORT[value]
    groups = bytearray()
    while value > 0x7F:  # noqa: PLR2004  seven bits
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
