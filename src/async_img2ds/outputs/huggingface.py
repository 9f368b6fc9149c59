"""A table whose images Hugging Face ``datasets`` decodes: a column of its ``Image`` feature, and all columns declared.

``datasets`` stores an image as a struct of its bytes and a path, and looks for the features of a parquet file in the
metadata of its schema, as JSON under the key ``huggingface``. Of other files it looks for them in the dataset's card.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["features_of_table", "features_of_tar", "with_image_feature"]

_IMAGE: Final = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def with_image_feature(table: pa.Table, image: str) -> pa.Table:
    """Return *table* with the binary column *image* as an Image feature whose path is the row's key and its extension.

    A row without an image has a null there.
    """
    at = table.schema.get_field_index(image)
    images = table.column(image).combine_chunks()
    paths = pa.array([f"{key}.{image}" for key in table.column("key").to_pylist()], pa.string())
    structs = pa.StructArray.from_arrays([images, paths], fields=list(_IMAGE), mask=images.is_null())
    table = table.set_column(at, pa.field(image, _IMAGE), structs)
    features = {
        field.name: {"_type": "Image"} if field.name == image else _feature(field.type) for field in table.schema
    }
    return table.replace_schema_metadata({"huggingface": orjson.dumps({"info": {"features": features}})})


def _feature(column: pa.DataType) -> Any:  # noqa: ANN401  nested lists and mappings of JSON
    """Return the feature of a column of this type, in the words that every version of ``datasets`` knows."""
    types = pa.types
    if types.is_struct(column):
        return {field.name: _feature(field.type) for field in column}
    if types.is_fixed_size_list(column):
        return {"_type": "Sequence", "feature": _feature(column.value_type), "length": column.list_size}
    if types.is_large_list(column):
        return {"_type": "LargeList", "feature": _feature(column.value_type)}
    if types.is_list(column):
        return [_feature(column.value_type)]
    if types.is_dictionary(column):  # which it takes apart
        return _feature(column.value_type)
    return {"_type": "Value", "dtype": _dtype(column)}


# Types that datasets calls by another name than Arrow does; it knows the others by their Arrow names.
_DTYPES: Final = {
    "halffloat": "float16",
    "float": "float32",
    "double": "float64",
    "date32[day]": "date32",
    "date64[ms]": "date64",
}


def _dtype(column: pa.DataType) -> str:
    return _DTYPES.get(str(column), str(column))


def features_of_table(schema: pa.Schema, image: str) -> list[dict[str, Any]] | None:
    """Return what a card says of a table with images in its column *image*; None if datasets has no type for a column.

    They are bytes there, unless the table says itself what they are.
    """
    if not pa.types.is_binary(schema.field(image).type):
        return None
    return _told(lambda field: {"dtype": "image"} if field.name == image else _in_card(field.type, _dtype), schema)


def features_of_tar(schema: pa.Schema, image: str, *, captions: bool) -> list[dict[str, Any]] | None:
    """Return what a card says of samples with images called *image*, whose JSON has the columns of *schema*; or None.

    Untold they would be guessed from the first samples, in which some columns may have no value.
    """
    columns = _told(lambda field: _in_card(field.type, _dtype_in_json), schema)
    if columns is None:
        return None
    texts = [*(["txt"] if captions else []), "__key__", "__url__"]
    return [
        {"name": image, "dtype": "image"},
        {"name": "json", "struct": columns},
        *({"name": name, "dtype": "string"} for name in texts),
    ]


class _NoType(Exception):
    """There is no type for a column."""


def _told(of: Callable[[pa.Field], dict[str, Any]], fields: Iterable[pa.Field]) -> list[dict[str, Any]] | None:
    try:
        return [{"name": field.name, **of(field)} for field in fields]
    except _NoType:
        return None


def _in_card(column: pa.DataType, dtype: Callable[[pa.DataType], str]) -> dict[str, Any]:
    """Return the feature of a column of this type as it stands in a card: the same as YAML, which has its own words."""
    types = pa.types
    if types.is_map(column):
        raise _NoType
    if types.is_struct(column):
        return {"struct": [{"name": field.name, **_in_card(field.type, dtype)} for field in column]}
    if types.is_list(column) or types.is_large_list(column) or types.is_fixed_size_list(column):
        of = _in_card(column.value_type, dtype)
        return {"list": of.get("dtype") or of.get("struct") or of}
    if types.is_dictionary(column):
        return _in_card(column.value_type, dtype)
    return {"dtype": dtype(column)}


def _dtype_in_json(column: pa.DataType) -> str:
    """Return what a value of this type is in JSON: dates, times, decimals and bytes are texts."""
    types = pa.types
    if types.is_boolean(column) or types.is_integer(column) or types.is_floating(column):
        return _dtype(column)
    return "float64" if types.is_duration(column) else "string"
