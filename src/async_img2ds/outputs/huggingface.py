"""A table whose images Hugging Face ``datasets`` decodes: a column of its ``Image`` feature, and all columns declared.

``datasets`` stores an image as a struct of its bytes and a path, and looks for the features of a parquet file in the
metadata of its schema, as JSON under the key ``huggingface``.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
import pyarrow as pa

__all__ = ["with_image_feature"]

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
