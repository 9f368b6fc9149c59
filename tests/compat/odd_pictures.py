"""Pictures that put a resizer's rules to the test: odd sizes, and the many ways in which the web stores pixels.

All are made of the photographs, so that a filter meets the frequencies of real pictures.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, Final

from PIL import Image, ImageCms

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LINES", "SIZES", "write_all"]

# Around the target of 256 and of 200, equal to them, far from square, with halves to round both ways.
SIZES: Final = (
    *((256, 256), (256, 512), (512, 256), (255, 255), (257, 257), (256, 100), (100, 256), (200, 200), (128, 128)),
    *((100, 60), (33, 77), (301, 299), (513, 255), (255, 513), (333, 500), (641, 427), (1000, 333), (511, 1024)),
    *((171, 85), (342, 171), (17, 300), (300, 17)),
)
# A pixel wide or high. Apart from the others, because keep_ratio makes tens of thousands of pixels of them.
LINES: Final = ((1, 1), (1, 300), (300, 1), (2, 600), (3, 2))


def write_all(folder: Path) -> list[str]:
    """Write the pictures into *folder*, where the photographs are; return their names."""
    photograph = Image.open(folder / "astronaut.png").convert("RGB")
    before = set(folder.iterdir())
    _write_sizes(folder, photograph)
    _write_modes(folder, photograph)
    _write_formats(folder, photograph)
    _write_damaged(folder)
    return sorted(path.name for path in set(folder.iterdir()) - before)


def _write_sizes(folder: Path, photograph: Image.Image) -> None:
    for width, height in SIZES:
        photograph.resize((width, height), Image.Resampling.LANCZOS).save(folder / f"size-{width}x{height}.png")
    for width, height in LINES:
        photograph.resize((width, height), Image.Resampling.LANCZOS).save(folder / f"line-{width}x{height}.png")
    for width, height in ((256, 256), (200, 150), (640, 480)):
        resized = photograph.resize((width, height), Image.Resampling.LANCZOS)
        resized.save(folder / f"size-{width}x{height}.jpg", quality=92)
        resized.save(folder / f"size-{width}x{height}.webp", quality=80)


def _write_modes(folder: Path, photograph: Image.Image) -> None:
    """Write what is no plain RGB of 8 bits."""
    grey = photograph.convert("L")
    fading = Image.linear_gradient("L").resize(photograph.size)
    palette = photograph.quantize(64)
    palette.save(folder / "mode-palette.png")
    palette.save(folder / "mode-palette-transparent.png", transparency=0)
    photograph.convert("1").save(folder / "mode-1-bit.png")
    grey_fading = Image.merge("LA", (grey, fading))
    grey_fading.save(folder / "mode-grey-alpha.png")
    grey.save(folder / "mode-grey-key.png", transparency=0)
    photograph.save(folder / "mode-rgb-key.png", transparency=photograph.getpixel((0, 0)))
    wide = grey.convert("I").point(lambda level: level * 257).convert("I;16")
    wide.save(folder / "mode-grey-16-bit.png")
    (folder / "mode-rgb-16-bit.png").write_bytes(_png_16_bit(photograph, 2))
    alpha = photograph.convert("RGBA")
    alpha.putalpha(fading)
    (folder / "mode-rgba-16-bit.png").write_bytes(_png_16_bit(alpha, 6))
    alpha.save(folder / "mode-alpha.webp", quality=90)
    alpha.save(folder / "mode-alpha-lossless.webp", lossless=True)
    saved_as: dict[str, dict[str, Any]] = {
        "mode-444.jpg": {"subsampling": "4:4:4"},
        "mode-422.jpg": {"subsampling": "4:2:2"},
        "mode-optimised.jpg": {"optimize": True},
        "mode-profile.jpg": {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()},
        "mode-comment.jpg": {"comment": "made of a photograph"},
    }
    for name, options in saved_as.items():
        photograph.save(folder / name, quality=90, **options)
    exif = Image.Exif()
    exif[0x0112] = 3
    exif[0x010E] = "ein Stück Straße"
    exif[0x9003] = "2026:01:31 12:00:00"
    exif.get_ifd(0x8769).update({0x829A: (1, 60), 0x8827: 400, 0x9286: b"ASCII\0\0\0words"})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 14.5), 3: "E", 4: (11.0, 34.0, 31.0)})
    photograph.save(folder / "exif.jpg", quality=90, exif=exif)
    photograph.save(folder / "exif.webp", quality=90, exif=exif)
    photograph.save(folder / "exif.png", exif=exif)


def _write_formats(folder: Path, photograph: Image.Image) -> None:
    small = photograph.resize((320, 240), Image.Resampling.LANCZOS)
    small.save(folder / "format.bmp")
    small.convert("L").save(folder / "format-grey.bmp")
    small.save(folder / "format.tiff", compression="raw")
    small.save(folder / "format.ppm")
    frames = [small, small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:], duration=100)
    frames[0].save(folder / "animated.webp", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    frames[0].save(folder / "animated.png", save_all=True, append_images=frames[1:], duration=100)


def _write_damaged(folder: Path) -> None:
    """Write pictures that end too early, or with something that does not belong to them."""
    for name in ("rocket.jpg", "chelsea.png", "chelsea.webp"):
        whole = (folder / name).read_bytes()
        (folder / f"half-{name}").write_bytes(whole[: len(whole) // 2])
        (folder / f"tail-lost-{name}").write_bytes(whole[:-3])
        (folder / f"tail-added-{name}").write_bytes(whole + b"and some more")
    (folder / "text.jpg").write_bytes(b"this is no picture at all, whatever its name says\n" * 3)
    (folder / "drawing.svg").write_bytes(b'<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200"/>')


def _png_16_bit(image: Image.Image, color_type: int) -> bytes:
    """Return *image* as a PNG of 16 bits a sample, which Pillow does not write: RGB is 2, RGBA is 6."""
    width, height = image.size
    rows = image.tobytes()
    stride = len(rows) // height
    lines = [rows[at : at + stride] for at in range(0, len(rows), stride)]
    # v * 257 is v in both bytes; each line begins with its filter, none.
    pixels = b"".join(b"\0" + bytes(byte for value in line for byte in (value, value)) for line in lines)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels, 1)) + chunk(b"IEND", b"")
    )
