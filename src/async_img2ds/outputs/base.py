"""What every output format is: a writer that takes the samples of one shard."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import orjson
import pyarrow as pa

from async_img2ds.outputs.json_values import json_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from async_img2ds.policy.schema import Columns
    from async_img2ds.records import Sample
    from async_img2ds.storage import Attempt

__all__ = ["WRITERS", "Output", "ShardWriter", "open_writer", "to_json"]


@dataclass(frozen=True)
class Output:
    """What a writer is told about its shard.

    Attributes:
        attempt: where the files go.
        stem: what their names begin with, such as ``00012``.
        listed: the shard's rows as the list has them.
        columns: the further columns of the metadata.
        extension: of the images, also the name of the image column.
        captions: whether the list has captions.
        hf_image: whether a column of images is to be one that Hugging Face ``datasets`` decodes.
        tar_index: whether it is to be said where in an archive each member lies.

    """

    attempt: Attempt
    stem: str
    listed: pa.Table
    columns: Columns
    extension: str
    captions: bool
    hf_image: bool = False
    tar_index: bool = False

    @cached_property
    def _values(self) -> dict[str, list[Any]]:
        return {name: json_values(self.listed.column(name)) for name in self.listed.column_names}

    @property
    def schema(self) -> pa.Schema:
        """The columns of the metadata, in order."""
        return pa.schema([*self.listed.schema, *self.columns.fields()])

    def values(self, sample: Sample) -> dict[str, Any]:
        """Return the metadata of *sample* by column, in the order of :attr:`schema`."""
        listed = {name: values[sample.row.index] for name, values in self._values.items()}
        return self.columns.record(sample, listed)

    def record(self, sample: Sample) -> bytes:
        """Return the metadata of *sample* as strict JSON."""
        return to_json(self.values(sample))

    def caption(self, sample: Sample) -> bytes:
        """Return the caption of *sample*, empty if it has none."""
        return (self._values["caption"][sample.row.index] or "").encode()


class ShardWriter(Protocol):
    """Writes the samples of one shard, failures included, in the order they come."""

    async def write(self, sample: Sample) -> None:
        """Add *sample*. May be called while another call waits; samples never mix."""

    async def finish(self) -> None:
        """Complete the files. Committing them is the attempt's."""


# The name of a format → the module and the coroutine that opens its writer. Modules are imported when a format is first
# used, because some need packages of their own.
WRITERS: Final[Mapping[str, str]] = {
    "files": "async_img2ds.outputs.files:open_files",
    "webdataset": "async_img2ds.outputs.tar:open_tar",
    "parquet": "async_img2ds.outputs.parquet:open_parquet",
    "tfrecord": "async_img2ds.outputs.tfrecord:open_tfrecord",
    "dummy": "async_img2ds.outputs.dummy:open_dummy",
}


def to_json(value: object) -> bytes:
    """Return *value*, made of what :func:`json_values` returns, as strict JSON.

    NaN and infinity are null, bytes are base64.
    """
    return orjson.dumps(value, default=_base64)


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is no value of JSON")


async def open_writer(output_format: str, output: Output) -> ShardWriter:
    """Return a writer of *output_format*, a key of :data:`WRITERS`."""
    module, _, name = WRITERS[output_format].partition(":")
    return cast("ShardWriter", await getattr(import_module(module), name)(output))
