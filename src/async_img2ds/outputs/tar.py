"""webdataset: one tar a shard, the members of a sample side by side, beside it the metadata table.

Plain USTAR with a fixed time and owner, so that the same samples give the same bytes. On request a third file says
where each member lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from async_img2ds.outputs.parquet import SideTable
from async_img2ds.policy.shards import INDEX_ENDING
from async_img2ds.policy.tar_index import BLOCK, END, TarIndex
from async_img2ds.storage import AppendFile

if TYPE_CHECKING:
    from async_img2ds.outputs.base import Output
    from async_img2ds.records import Sample

__all__ = ["TarWriter", "member", "open_tar"]


async def open_tar(output: Output) -> TarWriter:
    """Return a writer of ``NNNNN.tar`` and ``NNNNN.parquet``, and of ``NNNNN.json`` if an index is wanted."""
    name = f"{output.stem}.tar"
    file = await AppendFile.open(output.attempt, name)
    return TarWriter(output, file, await SideTable.open(output), TarIndex(name) if output.tar_index else None)


@dataclass(frozen=True, slots=True)
class TarWriter:
    """Appends the image, JSON and caption of each success, and keeps in *index*, if there is one, where they lie."""

    output: Output
    file: AppendFile
    table: SideTable
    index: TarIndex | None = None

    async def write(self, sample: Sample) -> None:
        """Add *sample* to the table and, if it has an image, to the tar."""
        self.table.add(sample)
        if sample.encoded is None:
            return
        members = {self.output.extension: sample.encoded.image, "json": self.output.record(sample)}
        if self.output.captions:
            members["txt"] = self.output.caption(sample)
        pieces: list[bytes] = []
        for extension in sorted(members):  # as webdataset's own writer orders them
            name, content = f"{sample.row.key}.{extension}", members[extension]
            pieces += member(name, content)
            if self.index is not None:  # nothing comes between here and the file: it takes pieces before it waits
                is_image = extension == self.output.extension
                size = (sample.encoded.width, sample.encoded.height) if is_image else (None, None)
                self.index.append(name, len(content), *size)
        await self.file.append(*pieces)

    async def finish(self) -> None:
        """Write the end of the archive, the table, and the index."""
        await self.file.append(END)
        await self.file.finish()
        await self.table.finish()
        if self.index is not None:
            index = await AppendFile.open(self.output.attempt, f"{self.output.stem}.{INDEX_ENDING}")
            await index.append(*self.index.to_json())
            await index.finish()


def _field(text: str, width: int) -> bytes:
    return text.encode("ascii").ljust(width, b"\0")


# The header's fields behind name and before the size, and behind the checksum (POSIX.1-1988 ustar):
# mode, uid and gid; type and link, magic and version, owner and group as webdataset's TarWriter has
# them, device numbers, prefix and padding.
_BEFORE_SIZE: Final = _field("0000444", 8) + _field("0000000", 8) * 2
_TIME: Final = _field("00000000000", 12)
_BEHIND_SUM: Final = (
    b"0" + bytes(100) + b"ustar\00000" + _field("bigdata", 32) * 2 + _field("0000000", 8) * 2 + bytes(155) + bytes(12)
)
# The checksum counts its own field as eight spaces.
_FIXED_SUM: Final = sum(_BEFORE_SIZE) + sum(_TIME) + sum(_BEHIND_SUM) + 8 * ord(" ")


def member(name: str, content: bytes) -> tuple[bytes, bytes, bytes]:
    """Return one member of an archive: header, content, padding.

    *name* is ASCII of at most 100 characters, our keys are.
    """
    encoded, size = name.encode("ascii"), b"%011o\0" % len(content)
    checksum = b"%06o\0 " % (_FIXED_SUM + sum(encoded) + sum(size))
    header = b"".join((encoded.ljust(100, b"\0"), _BEFORE_SIZE, size, _TIME, checksum, _BEHIND_SUM))
    return header, content, bytes(-len(content) % BLOCK)
