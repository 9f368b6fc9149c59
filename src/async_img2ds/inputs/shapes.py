"""What is known of JSON values → the Arrow type that holds all of them, and values → a column of that type.

JSON does not say the types of a column, and its values need not agree. Whole numbers beside fractions become
fractions, objects are joined field by field, and what has no type in common becomes text: texts as they are, other
values as JSON. No value is rounded: whole numbers that a fraction cannot hold make the column text.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Shape", "array_of", "text_of"]

# A column whose objects have more names than this uses them as data, and would get a field for each: it is kept as JSON
# text. The widest known list, Wikipedia's image texts (WIT), has 17 columns in all.
FIELDS_MAX: Final = 256
# Lists and objects below this depth are kept as JSON text. Far above what datasets have, and far below what Python,
# Arrow and Parquet walk through without trouble.
DEPTH_MAX: Final = 16
# Up to here every whole number has a fraction of its own.
EXACT_MAX: Final = 2**53


@dataclass(slots=True)
class _Column:
    """How many fields the objects of a column have, those of objects in them included."""

    fields: int = 0


@dataclass(slots=True)
class Shape:
    """What the values of a column have been so far. *depth* is how many lists and objects of the column they are in."""

    depth: int = 0
    column: _Column = field(default_factory=_Column)
    _kinds: set[type] = field(default_factory=set)
    _least: int = 0
    _most: int = 0
    _items: Shape | None = None
    _fields: dict[str, Shape] = field(default_factory=dict)

    def add(self, values: Sequence[Any]) -> None:
        """Take note of *values*, as a JSON parser returns them."""
        kinds = set(map(type, values)) - {type(None)}
        self._kinds |= kinds
        if int in kinds:
            wholes = [value for value in values if type(value) is int]
            self._least = min(self._least, *wholes)
            self._most = max(self._most, *wholes)
        if list in kinds and self.depth < DEPTH_MAX:
            self._items = self._items or Shape(self.depth + 1, self.column)
            self._items.add(list(itertools.chain.from_iterable(value for value in values if type(value) is list)))
        if dict in kinds and self.depth < DEPTH_MAX:
            self._add_objects([value for value in values if type(value) is dict])

    def type(self) -> pa.DataType:
        """Return the type that holds every value so far; null if there was none."""
        if self.column.fields > FIELDS_MAX:
            return pa.string()
        match sorted(kind.__name__ for kind in self._kinds):
            case []:
                return pa.null()
            case ["bool"]:
                return pa.bool_()
            case ["int"] | ["float"] | ["float", "int"]:
                return self._number()
            case ["list"] if self._items is not None:
                return pa.list_(self._items.type())
            case ["dict"] if self._fields:  # Parquet has no objects without a field
                return pa.struct([pa.field(name, inner.type()) for name, inner in self._fields.items()])
            case _:
                return pa.string()

    def _number(self) -> pa.DataType:
        if float in self._kinds:
            return pa.float64() if self._within(-EXACT_MAX, EXACT_MAX) else pa.string()
        if self._within(-(2**63), 2**63 - 1):
            return pa.int64()
        return pa.uint64() if self._within(0, 2**64 - 1) else pa.string()

    def _within(self, least: int, most: int) -> bool:
        return least <= self._least and self._most <= most

    def _add_objects(self, objects: list[dict[str, Any]]) -> None:
        for name in dict.fromkeys(itertools.chain.from_iterable(objects)):
            if name not in self._fields:
                self.column.fields += 1
                if self.column.fields > FIELDS_MAX:
                    return
                self._fields[name] = Shape(self.depth + 1, self.column)
            self._fields[name].add([one[name] for one in objects if name in one])


def array_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return *values* as a column of *kind*, what is no text as JSON where *kind* says text."""
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([_fitted(value, kind) for value in values], kind)


def _fitted(value: Any, kind: pa.DataType) -> Any:  # noqa: ANN401  a JSON value
    if value is None:
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return text_of(value)
    if pa.types.is_map(kind):
        return [(_fitted(key, kind.key_type), _fitted(item, kind.item_type)) for key, item in value]
    if pa.types.is_struct(kind):
        return {inner.name: _fitted(value.get(inner.name), inner.type) for inner in kind}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [_fitted(item, kind.value_type) for item in value]
    return value


def text_of(value: Any) -> str | None:  # noqa: ANN401  any value of a list
    """Return *value* as text: text as it is, bytes that are no UTF-8 as U+FFFD, missing as None, all else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        return orjson.dumps(value, default=_plain).decode()
    except TypeError:  # a whole number beyond 64 bits, or deep nesting
        try:
            return json.dumps(value, default=str)
        except RecursionError:
            raise ValueError("a value is nested too deeply to be read") from None


def _plain(value: Any) -> Any:  # noqa: ANN401  what JSON does not know
    return list(value) if isinstance(value, tuple) else str(value)
