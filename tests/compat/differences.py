"""Where the two are meant to differ: what either does, and why ours is kept.

What is not listed here is the same, or a test fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Final

__all__ = ["ANSWERS", "EXIF", "KEPT", "KINDS", "OUTCOMES", "PIXELS", "Difference", "Outcome", "found"]

# Status and error message.
Outcome = tuple[str, str | None]

_SUCCESS: Final = ("success", None)
_NO_IMAGE: Final = ("failed_to_resize", "Image decoding error")


def _download(message: str) -> Outcome:
    return ("failed_to_download", message)


def _resize(message: str) -> Outcome:
    return ("failed_to_resize", message)


@dataclass(frozen=True)
class Difference:
    """One thing that comes out differently.

    Attributes:
        of: the last part of the URL, as a pattern.
        theirs: what img2dataset makes of it.
        ours: what we make of it.
        why: the reason.
        settings: the settings in which it shows, as a pattern.

    """

    of: str
    theirs: object
    ours: object
    why: str
    settings: str = "*"


def found(table: tuple[Difference, ...], setting: str, url: str | None) -> Difference | None:
    """Return what *table* says of the picture behind *url* under *setting*."""
    name = (url or "").rpartition("/")[2]
    return next((entry for entry in table if fnmatch(name, entry.of) and fnmatch(setting, entry.settings)), None)


_DECODING: Final = "[!n]*"  # every setting but no-reencoding
_TIFF: Final = "tiff images are not decoded by this program or this build of its image library"
_NO_WEB_FORMAT: Final = "not a format of the web, and decoders of such are seldom tested against hostile files"
_BY_HEADER: Final = "sizes are read from the header, and refused before the pixels are decoded"
# What becomes of a row: an image, or which failure. The first that fits says it.
OUTCOMES: Final = (
    *(
        Difference(name, _NO_IMAGE, _resize(message), _BY_HEADER, settings=setting)
        for setting, name, message in (
            ("all-filters", "half-rocket.jpg", "image area too large"),
            ("all-filters", "tail-lost-rocket.jpg", "image area too large"),
            ("all-filters", "tail-lost-chelsea.png", "aspect ratio too large"),
            ("filters-at-the-bounds", "half-rocket.jpg", "image area too large"),
            ("filters-at-the-bounds", "tail-lost-rocket.jpg", "image area too large"),
        )
    ),
    *(
        Difference(name, _resize("image too small"), ours, _NO_WEB_FORMAT, settings="filters-at-the-bounds")
        for name, ours in (("format.tiff", _resize(_TIFF)), ("format.ppm", _NO_IMAGE))
    ),
    Difference("format.tiff", _SUCCESS, _resize(_TIFF), _NO_WEB_FORMAT, settings=_DECODING),
    Difference("format.ppm", _SUCCESS, _NO_IMAGE, _NO_WEB_FORMAT, settings=_DECODING),
    Difference(
        "tail-lost-chelsea.png",
        _NO_IMAGE,
        _SUCCESS,
        "every pixel is there; only the checksum of the end mark is not",
        settings=_DECODING,
    ),
    Difference(
        "page.jpg",
        _SUCCESS,
        _NO_IMAGE,
        "a web page is never an image, even where nothing is decoded",
        settings="no-reencoding",
    ),
)

# Format and mode of the stored image.
KINDS: Final = (
    Difference("camera.gif", "RGB", "L", "a grey GIF is stored as grey, as a grey PNG or JPEG is by both"),
    Difference(
        "mode-grey-16-bit.png", "I;16", "L", "pixels have 8 bits in every output; img2dataset keeps 16 in png alone"
    ),
)

# Images whose bytes one of them keeps as they came, under skip_reencode.
KEPT: Final = (
    Difference(
        "*-cmyk.jpg",
        False,
        True,
        "a JPEG is known by its first bytes; img2dataset asks for a JFIF or Exif mark, and re-encodes one that begins "
        "with another, such as Adobe's",
        settings="skip-reencode-jpg",
    ),
    Difference("mode-grey-key.png", True, False, "its transparent grey is put on white", settings="skip-reencode-png"),
)

# Pixels that are not meant to be alike.
PIXELS: Final = (
    Difference(
        "mode-grey-16-bit.png",
        "white",
        "grey",
        "65,536 levels become 256; img2dataset cuts off what is above 255, which leaves nearly white",
    ),
    Difference("mode-rgb-16-bit.png", "white", "the picture", "the same"),
    Difference("mode-rgba-16-bit.png", "white", "the picture", "img2dataset flattens it as if it had 256 levels"),
    Difference("mode-grey-key.png", "transparency ignored", "on white", "as other transparency is by both"),
)

# The EXIF tags of an image.
EXIF: Final = (
    Difference("exif.png", "{}", "its tags", "the parser of img2dataset does not know PNG"),
    Difference(
        "hubble_deep_field.jpg", "EXIF ExifVersion is empty", "EXIF ExifVersion is 0220", "a defect of the older parser"
    ),
)

# What the failing URLs of ``failing_urls.py`` come to.
ANSWERS: Final[dict[str, Difference]] = {
    entry.of: entry
    for entry in (
        Difference(
            "no content",
            ("failed_to_resize", "OpenCV"),
            _download("HTTP Error 204: No Content"),
            "a status that carries no image is told as such",
        ),
        Difference("empty", ("failed_to_resize", "OpenCV"), _download("empty body"), "an empty body is told as such"),
        Difference(
            "redirect to ftp",
            _download("<urlopen error [Errno 111] Connection refused>"),
            _download("redirect refused: only http and https URLs are fetched, not ftp:"),
            "only http and https are fetched",
        ),
        Difference("partial", _SUCCESS, _download("HTTP Error 206: Partial Content"), "a part is no image"),
        Difference(
            "not HTTP",
            _download("SSH-2.0-OpenSSH_9.2\r\n"),
            _download("Bad status line: Expected HTTP/, RTSP/ or ICE/: b'SSH-2.0-OpenSSH_9.2' ^"),
            "what the server said is no error message",
        ),
        *(
            Difference(
                case,
                _SUCCESS,
                _download("Use of image disallowed by X-Robots-Tag directive"),
                f"the owner reserves it: {why}",
            )
            for case, why in {
                "reserved, by name": "for this job by its best-known name",
                "reserved, none": "none stands for noindex and nofollow",
                "reserved, on the way": "in the redirect that leads to it",
            }.items()
        ),
        Difference(
            "no port",
            _download("nonnumeric port: 'port'"),
            _download("malformed host or port in URL"),
            "the same words for the same cause, and no part of a URL that may be a password",
        ),
        *(
            Difference(
                case,
                theirs,
                _download(f"only http and https URLs are fetched, not {scheme}:"),
                "a list from the web does not read this machine's files",
            )
            for case, scheme, theirs in (
                ("data URL", "data", _NO_IMAGE),
                ("ftp", "ftp", _download("<urlopen error [Errno 111] Connection refused>")),
                ("file", "file", _NO_IMAGE),
            )
        ),
        Difference(
            "space",
            _download("URL can't contain control characters. '/size-200x150 copy.jpg' (found at least ' ')"),
            _SUCCESS,
            "quoted as browsers do",
        ),
        Difference(
            "not ASCII",
            _download("'ascii' codec can't encode characters in position 7-8: ordinal not in range(128)"),
            _SUCCESS,
            "quoted as browsers do",
        ),
        Difference(
            "user and password",
            _download("<urlopen error [Errno -2] Name or service not known>"),
            _SUCCESS,
            "the host is what stands behind them; they are not sent",
        ),
    )
}
