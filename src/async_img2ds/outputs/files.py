"""files: a folder a shard, a file for each image, JSON and caption, beside it the metadata table."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from async_img2ds.outputs.parquet import SideTable

if TYPE_CHECKING:
    from pathlib import Path

    from async_img2ds.outputs.base import Output
    from async_img2ds.records import Sample

__all__ = ["FilesWriter", "open_files"]


async def open_files(output: Output) -> FilesWriter:
    """Return a writer of the folder ``NNNNN`` and ``NNNNN.parquet``."""
    folder = await output.attempt.stage(output.stem)
    await output.attempt.run(folder.mkdir)
    return FilesWriter(output, folder, await SideTable.open(output))


@dataclass(slots=True)
class FilesWriter:
    """Writes the image, JSON and caption of each success as files named after its key."""

    output: Output
    folder: Path
    table: SideTable
    written: int = 0

    async def write(self, sample: Sample) -> None:
        """Add *sample* to the table and, if it has an image, to the folder."""
        self.table.add(sample)
        if sample.encoded is None:
            return
        contents = {self.output.extension: sample.encoded.image, "json": self.output.record(sample)}
        if self.output.captions:
            contents["txt"] = self.output.caption(sample)
        await self.output.attempt.run(self._write, sample.row.key, contents)

    def _write(self, key: str, contents: dict[str, bytes]) -> None:
        for extension, content in contents.items():
            (self.folder / f"{key}.{extension}").write_bytes(content)
        self.written += len(contents)

    async def finish(self) -> None:
        """Write the table, once all files are there."""
        await self.output.attempt.run(self._check)
        await self.table.finish()

    def _check(self) -> None:
        """Make sure that nobody has removed any: the folder may lie there for hours before it is committed."""
        there = sum(1 for _ in os.scandir(self.folder))
        if there != self.written:
            raise FileNotFoundError(f"{self.folder} has {there} files of {self.written} that were written")
