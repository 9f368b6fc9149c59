"""Columns of several files → columns of one list, each of a type that holds the values of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from async_img2ds.errors import InputError

if TYPE_CHECKING:
    from async_img2ds.inputs.streams import ListFile

__all__ = ["JoinedTypes", "first_line", "fitted"]


class JoinedTypes:
    """The types of columns that several files share, widened as the files come."""

    def __init__(self, advice: str, *, in_words: bool = False) -> None:
        """Begin with no columns; *advice* is what to do about files that cannot be joined.

        *in_words* says that values of types with nothing in common are text, as they are within a file that says none.
        """
        self._advice = advice
        self._in_words = in_words
        self._fields: dict[str, pa.Field] = {}
        self._from: dict[str, ListFile] = {}

    @property
    def schema(self) -> pa.Schema:
        """The columns so far."""
        return pa.schema(list(self._fields.values()))

    def add(self, schema: pa.Schema, file: ListFile) -> None:
        """Take in the columns of *file*.

        Raises:
            InputError: a column has no type in common with those of its name before.

        """
        for now in schema:
            before = self._fields.get(now.name)
            if before is not None and before.type == now.type:
                continue
            field = now if before is None else self._widened(before, now, file)
            if before is None or field.type != before.type:
                self._from[now.name] = file
            self._fields[now.name] = field

    def fit(self, batch: pa.RecordBatch, file: ListFile) -> pa.RecordBatch:
        """Return *batch*, of *file*, with columns at least as wide as those of all batches before.

        Raises:
            InputError: a value cannot be what its column has become.

        """
        try:
            return fitted(batch, self.schema)
        except pa.ArrowException as error:
            raise InputError(
                f"url_list: {file.name} cannot be joined to the files before it: {first_line(error)}; {self._advice}"
            ) from error

    def _widened(self, before: pa.Field, now: pa.Field, file: ListFile) -> pa.Field:
        try:
            both = pa.unify_schemas([pa.schema([before]), pa.schema([now])], promote_options="permissive").field(0)
        except pa.ArrowException:
            if self._in_words and not (pa.types.is_nested(before.type) or pa.types.is_nested(now.type)):
                return now.with_type(pa.string())
            raise InputError(
                f"url_list: column {now.name!r} is of type {before.type} in {self._from[now.name].name} and of type "
                f"{now.type} in {file.name}, which have no type in common; {self._advice}"
            ) from None
        return both


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return *batch* with the columns of *schema*; those that it has not are null.

    Raises:
        pa.ArrowException: a value cannot be of the type that its column has there.

    """
    if batch.schema == schema:
        return batch
    there = dict(zip(batch.schema.names, batch.columns, strict=True))
    arrays = [
        there[field.name].cast(field.type) if field.name in there else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def first_line(error: Exception) -> str:
    """Return what *error* says; of Arrow's, whose other lines are for its developers, the first line."""
    said = str(error)
    return (said.splitlines()[0] if isinstance(error, pa.ArrowException) and said else said) or type(error).__name__
