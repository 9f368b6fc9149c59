"""Columns of the list → values that JSON has, and bytes; the same whatever other packages are installed.

Dates and times are ISO 8601, with a zone in UTC; a duration is its seconds; a decimal is text, because it was chosen to
be exact and a number of JSON is read as a fraction; a map is an object.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["json_values"]


def json_values(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of *column*, each made of what orjson writes, and of bytes."""
    return list(itertools.chain.from_iterable(_values(chunk) for chunk in column.chunks))


def _values(array: pa.Array) -> list[Any]:
    for is_kind, values in _READERS:
        if is_kind(array.type):
            return values(array)
    return list(array.to_pylist())


def _objects(array: pa.StructArray) -> list[Any]:
    names = [field.name for field in array.type]
    rows = zip(*map(_values, array.flatten()), strict=True) if names else itertools.repeat((), len(array))
    return [
        dict(zip(names, row, strict=True)) if valid else None
        for row, valid in zip(rows, array.is_valid().to_pylist(), strict=True)
    ]


def _lists(array: pa.Array) -> list[Any]:
    import pyarrow.compute as pc  # a tenth of what a worker's start takes, and few lists have such columns

    items = iter(_values(array.flatten()))
    lengths = pc.list_value_length(array).to_pylist()
    return [None if length is None else list(itertools.islice(items, length)) for length in lengths]


def _maps(array: pa.MapArray) -> list[Any]:
    pair = pa.struct([pa.field("key", array.type.key_type), pa.field("value", array.type.item_type)])
    rows = _lists(array.cast(pa.list_(pair)))
    return [None if row is None else {_name(one["key"]): one["value"] for one in row} for row in rows]


def _name(key: Any) -> str:  # noqa: ANN401  any value of JSON
    return key if isinstance(key, str) else str(key)


def _timestamps(array: pa.TimestampArray) -> list[Any]:
    import pyarrow.compute as pc

    in_utc = array.view(pa.timestamp(array.type.unit)).cast(pa.string())
    zone = "+00:00" if array.type.tz else ""
    texts = pc.replace_substring_regex(in_utc, r"^(\S+) ([0-9:.]+)$", rf"\1T\2{zone}")  # no year 10**9: Arrow words it
    return list(texts.to_pylist())


_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def _durations(array: pa.DurationArray) -> list[Any]:
    per_second = _PER_SECOND[array.type.unit]
    return [None if count is None else count / per_second for count in array.cast(pa.int64()).to_pylist()]


def _texts(array: pa.Array) -> list[Any]:
    return list(array.cast(pa.string()).to_pylist())


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_extension(kind: pa.DataType) -> bool:
    # Python has values of its own for these two.
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name not in ("arrow.uuid", "arrow.bool8")


_READERS: Final[tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], list[Any]]], ...]] = (
    (_is_extension, lambda array: _values(array.storage)),
    (pa.types.is_dictionary, lambda array: _values(array.dictionary_decode())),
    (pa.types.is_struct, _objects),
    (pa.types.is_map, _maps),
    (_is_list, _lists),
    (pa.types.is_timestamp, _timestamps),
    (pa.types.is_duration, _durations),
    (pa.types.is_date, _texts),
    (pa.types.is_time, _texts),
    (pa.types.is_decimal, _texts),
    (pa.types.is_float16, lambda array: list(array.cast(pa.float32()).to_pylist())),
)
