"""Real photographs, and what the web makes of them: the pictures that demo, tests and benchmarks serve.

They are those that the scikit-image wheel carries (skimage/data, free licences, listed in its README.txt). The wheel is
taken from the package index and only unzipped, never installed, and no picture is kept in this repository.
"""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

WHEEL = "scikit-image==0.26.0"
CACHE = Path(__file__).parent.parent / ".nox" / "photographs"

# Photographs of scenes and things, not the diagrams and textures that lie beside them; with a caption each.
CAPTIONS = {
    "astronaut.png": "a smiling astronaut in an orange suit",
    "brick.png": "a wall of bricks",
    "camera.png": "a man behind a camera on a tripod",
    "cell.png": "a cell under the microscope",
    "chelsea.png": "a tabby cat called Chelsea",
    "clock_motion.png": "a clock, blurred by motion",
    "coffee.png": "a cup of coffee with a spoon, seen from above",
    "coins.png": "Greek coins from Pompeii",
    "grass.png": "grass",
    "gravel.png": "gravel",
    "hubble_deep_field.jpg": "galaxies in the Hubble deep field",
    "ihc.png": "stained tissue under the microscope",
    "moon.png": "the surface of the moon",
    "motorcycle_left.png": "a motorcycle in a garage, left eye",
    "motorcycle_right.png": "a motorcycle in a garage, right eye",
    "page.png": "a scanned page of a book",
    "retina.jpg": "the retina of an eye",
    "rocket.jpg": "a rocket on its launch pad at night",
    "text.png": "handwriting on lined paper",
    "microaneurysms.png": "microaneurysms in a retina",
}


def write_all(folder: Path) -> dict[str, str]:
    """Write the photographs and their variants into *folder*; return the caption of each file name."""
    folder.mkdir(parents=True, exist_ok=True)
    captions = {}
    for name, content, caption in _all():
        (folder / name).write_bytes(content)
        captions[name] = caption
    return captions


def wheel() -> Path:
    """Return the wheel, downloading it once."""
    found = sorted(CACHE.glob("scikit_image-*.whl"))
    if not found:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            str(CACHE),
            WHEEL,
        ]
        subprocess.run(command, check=True)
        found = sorted(CACHE.glob("scikit_image-*.whl"))
    return found[0]


def _all() -> Iterator[tuple[str, bytes, str]]:
    with zipfile.ZipFile(wheel()) as archive:
        originals = {name: archive.read(f"skimage/data/{name}") for name in CAPTIONS}
    for name, content in originals.items():
        yield name, content, CAPTIONS[name]
    for stem in ("astronaut", "chelsea", "coffee", "motorcycle_left"):
        image = Image.open(io.BytesIO(originals[f"{stem}.png"])).convert("RGB")
        caption = CAPTIONS[f"{stem}.png"]
        yield f"{stem}-baseline.jpg", _saved(image, "JPEG", quality=90), f"{caption}, as a JPEG"
        yield (
            f"{stem}-progressive.jpg",
            _saved(image, "JPEG", quality=90, progressive=True),
            f"{caption}, as a progressive JPEG",
        )
        yield f"{stem}.webp", _saved(image, "WEBP", quality=80), f"{caption}, as a WebP"
        yield f"{stem}-cmyk.jpg", _saved(image.convert("CMYK"), "JPEG", quality=90), f"{caption}, in CMYK"
        yield f"{stem}-alpha.png", _saved(_faded(image), "PNG"), f"{caption}, fading out"
        yield (
            f"{stem}-rotated.jpg",
            _saved(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=_turned()),
            f"{caption}, turned by EXIF",
        )
    for stem in ("camera", "coins", "moon"):
        image = Image.open(io.BytesIO(originals[f"{stem}.png"])).convert("L")
        yield f"{stem}-gray.jpg", _saved(image, "JPEG", quality=90), f"{CAPTIONS[f'{stem}.png']}, as a grey JPEG"
        yield f"{stem}.gif", _saved(image, "GIF"), f"{CAPTIONS[f'{stem}.png']}, as a GIF"


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stored = io.BytesIO()
    image.save(stored, kind, **options)
    return stored.getvalue()


def _faded(image: Image.Image) -> Image.Image:
    faded = image.convert("RGBA")
    faded.putalpha(Image.linear_gradient("L").resize(image.size))
    return faded


def _turned() -> Image.Exif:
    """EXIF that says: turn the picture by 90 degrees clockwise to see it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation
    exif[0x010F] = "async-img2ds"  # Make
    exif[0x0132] = "2026:01:31 12:00:00"  # DateTime
    return exif
