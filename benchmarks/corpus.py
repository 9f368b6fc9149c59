"""600 images such as the web has them, made from the photographs of Debian's wallpaper packages.

The longer side is log-normal around 700 pixels; 85 % are JPEG, of which 30 % progressive and 10 % with EXIF, 9 %
PNG, 5 % WebP and 1 % GIF; about 143 kB an image. The packages are downloaded from Debian's archive by apt-get and only
unpacked, never installed; no picture is kept in this repository. The same images come out wherever the image library is
the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image

from async_img2ds.images import codec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["IMAGES", "images"]

PACKAGES: Final = ("gnome-backgrounds", "mate-backgrounds", "plasma-workspace-wallpapers")
IMAGES: Final = 600
CACHE: Final = Path(__file__).parent.parent / ".nox" / "corpus"

# The drawing of images; a change of any of these makes another corpus.
SEED: Final = 20
SIDE_MEDIAN: Final = 700  # pixels, of the longer side
SIDE_SIGMA: Final = 0.6  # of its logarithm: a tenth are below 325, a tenth above 1,510
SIDE_MAX: Final = 4000
KINDS: Final = {"baseline": 0.595, "progressive": 0.255, "png": 0.09, "webp": 0.05, "gif": 0.01}
ASPECTS: Final = (4 / 3, 3 / 2, 1.0, 16 / 9, 3 / 4, 2 / 3)
QUALITIES: Final = (75, 80, 85, 90, 92, 95)
WITH_EXIF: Final = 0.1
SOURCE_SIDE_MIN: Final = 900  # pixels
BUSY_BYTES_MIN: Final = 25_000  # of a JPEG 700 pixels wide, quality 90


def images() -> Path:
    """Return the folder of the images, making them the first time; takes two minutes and 180 MB of download."""
    wanted = {"made_by": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(), "library": codec.library()}
    done = CACHE / "done.json"
    if not done.exists() or json.loads(done.read_text()) != wanted:
        shutil.rmtree(CACHE, ignore_errors=True)
        (CACHE / "images").mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="wallpapers-") as name:
            _write_all(_wallpapers(Path(name)), CACHE / "images")
        done.write_text(json.dumps(wanted))
    return CACHE / "images"


def _wallpapers(folder: Path) -> list[Path]:
    """Download and unpack the packages; return their photographs, the largest of each."""
    subprocess.run(["apt-get", "download", "-qq", *PACKAGES], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "files")], check=True)
    found = [path for ending in ("jpg", "png", "webp") for path in (folder / "files").rglob(f"*.{ending}")]
    largest: dict[Path, Path] = {}
    for path in sorted(found):
        # A wallpaper of KDE is a folder that holds the same picture in many sizes.
        picture = path.parent if path.parent.name.startswith("images") else path
        if picture not in largest or path.stat().st_size > largest[picture].stat().st_size:
            largest[picture] = path
    return [path for path in sorted(largest.values()) if not path.is_symlink() and _is_busy(path)]


def _is_busy(path: Path) -> bool:
    """Whether it has the detail of a photograph, unlike gradients, drawings and previews."""
    with Image.open(path) as image:
        if min(image.size) < SOURCE_SIDE_MIN:
            return False
        small = image.convert("RGB").resize((700, 700 * image.height // image.width))
    stored = io.BytesIO()
    small.save(stored, "JPEG", quality=90)
    return stored.tell() > BUSY_BYTES_MIN


def _write_all(wallpapers: list[Path], folder: Path) -> None:
    draw = random.Random(SEED)
    order = [wallpapers[number % len(wallpapers)] for number in range(IMAGES)]
    kinds = [kind for kind, share in KINDS.items() for _ in range(round(share * IMAGES))]
    draw.shuffle(kinds)
    plans = sorted(zip(order, range(IMAGES), kinds, strict=True))  # each wallpaper is decoded once
    before: Path | None = None
    for path, number, kind in plans:
        if path != before:
            whole, before = Image.open(path).convert("RGB"), path
        (folder / f"{number:04}.{_ENDINGS.get(kind, kind)}").write_bytes(_made(whole, kind, random.Random(number)))


_ENDINGS: Final = {"baseline": "jpg", "progressive": "jpg"}


def _made(whole: Image.Image, kind: str, draw: random.Random) -> bytes:
    """Return a part of *whole*, reduced to a size of the web, as a file of *kind*."""
    longer = min(SIDE_MAX, max(64, round(draw.lognormvariate(0, SIDE_SIGMA) * SIDE_MEDIAN)))
    aspect = draw.choice(ASPECTS)
    width, height = (longer, round(longer / aspect)) if aspect >= 1 else (round(longer * aspect), longer)
    share = draw.uniform(0.4, 1.0) * min(whole.width / width, whole.height / height)
    left = draw.uniform(0, whole.width - width * share)
    top = draw.uniform(0, whole.height - height * share)
    box = (left, top, left + width * share, top + height * share)
    image = whole.resize((width, height), Image.Resampling.LANCZOS, box)
    stored = io.BytesIO()
    if kind in _ENDINGS:
        exif = _exif(draw).tobytes() if draw.random() < WITH_EXIF else b""
        quality = draw.choice(QUALITIES)
        image.save(stored, "JPEG", quality=quality, progressive=kind == "progressive", exif=exif)
    elif kind == "webp":
        image.save(stored, "WEBP", quality=draw.choice(QUALITIES))
    elif kind == "png":
        image.save(stored, "PNG")
    else:
        image.quantize(256).save(stored, "GIF")
    return stored.getvalue()


def _exif(draw: random.Random) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "Nikon"
    exif[0x0110] = f"D{draw.randrange(100, 900)}"
    exif[0x0112] = 1
    exif[0x0132] = "2025:06:01 12:00:00"
    return exif


def summary() -> Iterator[str]:
    """Yield what the corpus is, in words."""
    files = sorted(images().iterdir())
    total = sum(path.stat().st_size for path in files)
    yield f"{len(files)} images, {total / 1e6:.1f} MB, {total / len(files) / 1e3:.0f} kB on average"
    for ending in ("jpg", "png", "webp", "gif"):
        sizes = [path.stat().st_size for path in files if path.suffix == f".{ending}"]
        yield f"  {ending}: {len(sizes)}, {sum(sizes) / len(sizes) / 1e3:.0f} kB on average"


if __name__ == "__main__":
    print(*summary(), sep="\n")
