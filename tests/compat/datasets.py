"""Read a finished dataset, whatever its format, with nobody's code but tarfile's and pyarrow's."""

from __future__ import annotations

import json
import tarfile
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from compat.tfrecords import examples

if TYPE_CHECKING:
    from pathlib import Path

    from compat.tfrecords import Feature

__all__ = ["EXTENSIONS", "OUR_COLUMNS", "Dataset"]

EXTENSIONS: Final = ("jpg", "png", "webp")
# What our metadata has behind img2dataset's.
OUR_COLUMNS: Final = ("error_class", "http_status", "attempts", "final_url", "optout", "tls_verified")


class Dataset:
    """A dataset in a folder, read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        """Read *folder*."""
        self.folder = folder

    @cached_property
    def names(self) -> list[str]:
        """The files, relative to the folder."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and path.name[0] != "."
        )

    @cached_property
    def tables(self) -> dict[str, pa.Table]:
        """The metadata of each shard, its rows in the order of their keys, without the images."""
        tables = {}
        for path in sorted(self.folder.glob("*.parquet")):
            table = pq.ParquetFile(path).read()
            images = [name for name in table.column_names if name in EXTENSIONS]
            tables[path.stem] = table.drop_columns(images).sort_by("key")
        return tables

    @cached_property
    def columns(self) -> list[tuple[str, str]]:
        """Name and Arrow type of each column of the metadata, images included; all shards have the same."""
        schemas = [pq.read_schema(path) for path in sorted(self.folder.glob("*.parquet"))]
        assert all(schema.equals(schemas[0]) for schema in schemas)
        return [(field.name, str(field.type)) for field in schemas[0]] if schemas else []

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The metadata of each sample, failed ones included, by key."""
        return {row["key"]: row for table in self.tables.values() for row in table.to_pylist()}

    @cached_property
    def members(self) -> dict[str, list[str]]:
        """The parts of each stored sample by key: extensions, in the order in which they are stored."""
        return {key: list(parts) for key, parts in self.samples.items()}

    @cached_property
    def samples(self) -> dict[str, dict[str, bytes]]:
        """The parts of each stored sample by key, as extension → content."""
        found: dict[str, dict[str, bytes]] = {}
        for path in sorted(self.folder.iterdir()):
            if path.is_dir():
                for part in sorted(path.iterdir()):
                    found.setdefault(part.stem, {})[part.suffix[1:]] = part.read_bytes()
            elif path.suffix == ".tar":
                found |= _of_tar(path)
            elif path.suffix == ".parquet":
                found |= _of_parquet(path)
        for key, features in self.features.items():
            # In one order: features are a map, which has none.
            parts = {name: value[1][0] for name, value in sorted(features.items()) if name in (*EXTENSIONS, "txt")}
            found[key] = {name: content for name, content in parts.items() if isinstance(content, bytes)}
        return found

    @cached_property
    def features(self) -> dict[str, dict[str, Feature]]:
        """The TFRecord features of each stored sample, by key."""
        found = {}
        for path in sorted(self.folder.glob("*.tfrecord")):
            for example in examples(path):
                kind, [key] = example["key"]
                assert kind == "bytes"
                assert isinstance(key, bytes)
                found[key.decode()] = example
        return found

    @cached_property
    def images(self) -> dict[str, bytes]:
        """The image of each stored sample, by key."""
        return {
            key: content
            for key, parts in self.samples.items()
            for extension, content in parts.items()
            if extension in EXTENSIONS
        }

    @cached_property
    def records(self) -> dict[str, dict[str, Any]]:
        """The JSON beside each image, by key."""
        return {key: json.loads(parts["json"]) for key, parts in self.samples.items() if "json" in parts}

    @cached_property
    def stats(self) -> dict[str, dict[str, Any]]:
        """The stats file of each shard."""
        return {path.name: json.loads(path.read_bytes()) for path in sorted(self.folder.glob("*_stats.json"))}

    def key_of(self, name: str) -> str:
        """Return the key of the row whose URL ends in *name*."""
        [key] = [key for key, row in self.rows.items() if (row["url"] or "").rpartition("/")[2] == name]
        return str(key)


def _of_tar(path: Path) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        before = ""
        for member in tar:
            key, _, extension = member.name.partition(".")
            assert key == before or key not in found, f"the members of {key} do not lie side by side"
            file = tar.extractfile(member)
            assert file is not None
            found.setdefault(key, {})[extension] = file.read()
            before = key
    return found


def _of_parquet(path: Path) -> dict[str, dict[str, bytes]]:
    table = pq.ParquetFile(path).read()
    images = [name for name in table.column_names if name in EXTENSIONS]
    if not images:
        return {}
    [image] = images
    pairs = zip(table["key"].to_pylist(), table[image].to_pylist(), strict=True)
    return {key: {image: content} for key, content in pairs if content is not None}
