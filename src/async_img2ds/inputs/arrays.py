"""Columns of a list, whatever file they come from → columns that a dataset can have."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from async_img2ds.inputs.shapes import array_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["as_text", "as_text_of_its_type", "encoded", "mapped", "storable"]


def as_text(array: pa.Array) -> pa.Array:
    """Return a column of URLs or captions as text: bytes that are no UTF-8 as U+FFFD, lists and objects as JSON."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):  # pandas has NaN for a text that is missing
        array = pc.if_else(pc.is_nan(array.cast(pa.float64())), pa.scalar(None, array.type), array)
    try:
        if pa.types.is_string_view(array.type):
            array = array.cast(pa.string())
        if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            # Parquet's texts are not checked when they are read, and one bad byte would later cost the whole shard.
            array = array.cast(pa.binary())
        return array.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([text_of(value) for value in array.to_pylist()], pa.string())


def as_text_of_its_type(array: pa.Array) -> pa.Array:
    """Return what :func:`as_text` does, in the type that the column had if that is one of texts."""
    kind = array.type
    text = as_text(array)
    if pa.types.is_large_string(kind):
        return text.cast(kind)
    if pa.types.is_dictionary(kind) and (
        pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)
    ):
        return encoded(text, kind)
    return text


def storable(name: str, array: pa.Array) -> pa.Array:
    """Return an additional column with its type, once it is known to hold what its type says.

    A type that cannot be taken rows from or that Parquet does not know becomes the nearest that can: views become what
    they show, runs their values, unions and intervals JSON text.

    Raises:
        ValueError: the column is damaged.

    """
    kind = _storable_type(array.type)
    if kind != array.type:
        array = _cast(array, kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return as_text(array).cast(kind)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        array = _with_readable_texts(name, array, error)
    if pa.types.is_dictionary(kind) and (len(array.dictionary) > len(array) or array.dictionary.null_count):
        # Of a long list's dictionary only what these rows use: it travels with every shard. And Parquet has nulls
        # beside a dictionary, not in it.
        array = encoded(array.dictionary_decode(), kind)
    return array


def mapped(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Return *kind* with *leaf* applied to the types in it that have no others in them.

    Lists that cannot be stored as they are, such as views, become plain ones.
    """
    types = pa.types
    if types.is_struct(kind) and kind.num_fields:
        return pa.struct([inner.with_type(mapped(inner.type, leaf)) for inner in kind])
    if types.is_map(kind):
        key, item = (inner.with_type(mapped(inner.type, leaf)) for inner in (kind.key_field, kind.item_field))
        return pa.map_(key, item, keys_sorted=kind.keys_sorted)
    if types.is_fixed_size_list(kind) and _fixed_lists_are_stored():
        return pa.list_(kind.value_field.with_type(mapped(kind.value_type, leaf)), kind.list_size)
    if types.is_list(kind) or types.is_list_view(kind) or types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(mapped(kind.value_type, leaf)))
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(kind.value_field.with_type(mapped(kind.value_type, leaf)))
    return leaf(kind)


def _storable_type(kind: pa.DataType) -> pa.DataType:
    return mapped(kind, _storable_leaf)


def _storable_leaf(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_dictionary(kind):
        inner = _storable_type(kind.value_type)
        return kind if inner == kind.value_type and not types.is_nested(inner) else inner
    if types.is_run_end_encoded(kind):
        return _storable_type(kind.value_type)
    if types.is_string_view(kind):
        return pa.string()
    if types.is_binary_view(kind):
        return pa.binary()
    # A struct that comes here has no fields.
    return pa.string() if types.is_union(kind) or types.is_interval(kind) or types.is_struct(kind) else kind


@functools.cache
def _fixed_lists_are_stored() -> bool:
    """Whether this version of Arrow writes lists of a fixed length to Parquet if some are null; 23 does not yet."""
    try:
        lists = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2))
        pq.write_table(pa.table({"x": lists}), pa.BufferOutputStream())
    except pa.ArrowNotImplementedError:
        return False
    return True


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if "list_view" in str(array.type):  # of which Arrow's cast loses items: seen with pyarrow 26
        return array_of(array.to_pylist(), kind)
    try:
        return array.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return array_of(array.to_pylist(), kind)


def _with_readable_texts(name: str, array: pa.Array, error: pa.ArrowInvalid) -> pa.Array:
    """Return *array*, which is not valid, with bytes that are no UTF-8 as U+FFFD, if that is all that ails it."""
    kind = array.type
    try:
        if pa.types.is_dictionary(kind):
            mended = encoded(as_text(array), kind)
        else:
            as_bytes = array.cast(mapped(kind, _bytes_leaf))
            as_bytes.validate(full=True)  # before it is read: offsets may lead out of it
            mended = array_of(as_bytes.to_pylist(), kind)
        mended.validate(full=True)
    except (pa.ArrowException, ValueError):
        raise ValueError(f"column {name!r} is damaged: {error}") from None
    return mended


def _bytes_leaf(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind):
        return pa.binary()
    return pa.large_binary() if pa.types.is_large_string(kind) else kind


def encoded(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return *values* as a column of the dictionary type *kind*."""
    encoded = values.cast(kind.value_type).dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        encoded.indices.cast(kind.index_type), encoded.dictionary, ordered=kind.ordered
    )
