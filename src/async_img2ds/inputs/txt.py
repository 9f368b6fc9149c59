"""txt: one line, one URL, whatever the line contains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from async_img2ds.inputs.lines import blocks_of_lines
from async_img2ds.inputs.streams import opened_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from async_img2ds.inputs.columns import Column
    from async_img2ds.inputs.streams import ListFile

__all__ = ["TXT"]


class Txt:
    """Lists that have URLs only."""

    says_types: Final = True

    def names(self, file: ListFile, _columns: Sequence[Column]) -> None:
        """Find no columns; but a file that is no text is noticed now."""
        with opened_text(file):
            pass

    def every_name(self, file: ListFile) -> None:
        """Find no columns."""
        self.names(file, ())

    def batches(self, file: ListFile, columns: Sequence[Column]) -> Iterator[tuple[pa.RecordBatch, float]]:
        """Yield the lines as the one column that is asked for."""
        [column] = columns
        with opened_text(file) as stream:
            for lines in blocks_of_lines(stream):
                # Bytes that are no UTF-8 become U+FFFD, which no URL may contain: such a line fails as its own row.
                urls = pa.array([line.decode("utf-8", "replace") for line in lines], pa.string())
                yield pa.RecordBatch.from_arrays([urls], names=[column.source]), stream.bytes_read


TXT: Final = Txt()
