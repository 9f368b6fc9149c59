"""Text as lines, read in blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_img2ds.inputs.streams import Stream

__all__ = ["blocks_of_lines"]

# One read of a text file. Lines longer than LINE_BYTES_MAX mean that the file is no list of URLs.
BLOCK_BYTES: Final = 4 * 2**20
LINE_BYTES_MAX: Final = 16 * 2**20


def blocks_of_lines(stream: Stream) -> Iterator[list[bytes]]:
    """Yield the lines of *stream*, many at a time; only a final line break does not begin another.

    Lines end in a line feed, and a carriage return before it is part of that end.

    Raises:
        ValueError: a line is too long for any list.

    """
    rest = b""
    while block := stream.read(BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise ValueError(f"a line of more than {LINE_BYTES_MAX} bytes; is this a list with one row a line?")
        if lines:
            yield [line.removesuffix(b"\r") for line in lines]
    if rest:
        yield [rest.removesuffix(b"\r")]
