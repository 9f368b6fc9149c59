"""Image files that no library writes, byte by byte, and those that one does."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["chunk", "gif", "png", "saved", "webp"]


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    """Return *image* as a file of a format, as the library writes it."""
    content = io.BytesIO()
    image.save(content, name, **options)
    return content.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(size: tuple[int, int], depth: int, colour: int, lines: bytes, *others: bytes) -> bytes:
    """Return a PNG that announces that size, with as many *lines* of pixels as there are, and *others* of chunks.

    *colour* is 0 for grey, 2 for RGB, 3 for a palette, 4 for grey with alpha, 6 for RGB with alpha; a line begins with
    its filter, which is 0 for none.
    """
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join([head, *others, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")])


def gif(width: int, height: int) -> bytes:
    """Return a GIF that announces that size, and has hardly a pixel."""
    frame = b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\0\x02\x02L\x01\0"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0" + frame + b";"


def webp(kind: bytes, head: bytes) -> bytes:
    """Return a WebP of one chunk, of that *kind*, which begins with *head*."""
    content = kind + len(head + bytes(20)).to_bytes(4, "little") + head + bytes(20)
    return b"RIFF" + (4 + len(content)).to_bytes(4, "little") + b"WEBP" + content
