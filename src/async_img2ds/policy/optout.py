"""What the headers of an answer, and the image itself, say against this use.

``X-Robots-Tag`` as Google and MDN document it: one or more header lines, each a comma list of rules; a rule may be
preceded by ``bot-name:``, and that name applies to every rule that follows until another name appears; rules before
any name apply to everybody. ``none`` stands for ``noindex, nofollow``. Some rules have values of their own behind a
colon, so a colon alone does not make a name.

``TDM-Reservation`` as the TDM Reservation Protocol has it (W3C Community Group report, 2024): 1 reserves, 0 does not,
anything else says nothing. ``Content-Usage`` as the IETF's AI preferences have it (draft-ietf-aipref-attach): a
dictionary of structured fields (RFC 9651), in which ``train-ai=n`` reserves.
"""

from __future__ import annotations

import email.utils
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import ErrorClass

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

__all__ = [
    "ROBOTS_TOKEN",
    "Consent",
    "Signal",
    "in_text",
    "our_names",
    "reserved_by_list",
    "reserved_by_usage",
    "reserving_rules",
    "seen_in_image",
]

# RFC 9309 allows letters, "_" and "-" in a product token, and the common matchers stop at the first other character.
ROBOTS_TOKEN: Final = "AsyncImgDS"  # noqa: S105  a name, not a secret

# Sites that name img2dataset mean this job, whoever does it.
_OUR_NAMES: Final = frozenset({ROBOTS_TOKEN.lower(), "img2dataset"})
_EVERYBODY: Final = frozenset({"*", "robots"})
# Rules that speak against the use of an image; noml is a proposal that was given up (noml.info).
_RESERVING: Final = frozenset({"noai", "noimageai", "noml", "noindex", "noimageindex", "none"})
# What also says what noindex does: none includes it, and from a date on so does the other.
_LIKE_NOINDEX: Final = frozenset({"none", "unavailable_after"})
_DATED: Final = "unavailable_after"
_VALUED: Final = frozenset({"max-snippet", "max-image-preview", "max-video-preview", _DATED})
# What is read of hostile headers at the most; aiohttp's own limits lie near it.
_LINES_MAX: Final = 64
_CHARACTERS_MAX: Final = 65_536
_TOKEN: Final = re.compile(r"([^,:]*)([,:]?)")
_WEEKDAY: Final = re.compile(r"\s*(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\s*,(?=\s*\d)", re.IGNORECASE)

# What reserves, of the categories of use: training is what the images are for. The others are older drafts' words for
# what includes it.
_RESERVED_USES: Final = ("train-ai", "train-genai", "ai", "tdm", "bots")

# The property of an image's XMP by which its owner speaks of data mining, and how those of its values begin that
# reserve (IPTC Photo Metadata Standard 2023.1, PLUS "Data Mining"). As text: no parser of XML sees hostile bytes.
_DATA_MINING: Final = re.compile(rb"DataMining(?:(?!DMI-).){0,256}?(DMI-PROHIBITED[A-Z-]{0,64})", re.DOTALL)
# XMP lies before the pixels, but for some WebPs and PNGs, in which it is last.
_METADATA_BYTES_MAX: Final = 2**20
# The beginning of its values in UTF-16, of either order.
_WIDE: Final = b"D\0M\0I"
_COMPRESSED_XMP: Final = b"XML:com.adobe.xmp\0\1\0"
# An image has one; more are there to be unpacked.
_COMPRESSED_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Signal:
    """A reservation: where it was *said* and in which *words*; *error_class* is that of a row that it keeps out."""

    error_class: ErrorClass
    said: str
    words: str

    def __str__(self) -> str:
        return f"{self.said}: {self.words}"


def in_text(signals: Iterable[Signal]) -> str | None:
    """Return *signals* as the column ``optout`` has them, each once, None if there are none."""
    return ", ".join(dict.fromkeys(map(str, signals))) or None


def our_names(our_name: str | None) -> frozenset[str]:
    """Return the names, in lower case, by which sites mean us: our own, img2dataset's, and *our_name*."""
    return _OUR_NAMES | ({our_name.strip().lower()} if our_name else frozenset())


@dataclass(frozen=True, slots=True)
class Consent:
    """Which reservations keep an image out.

    Attributes:
        directives: rules of X-Robots-Tag, in lower case.
        level: whether what is said in other ways does: never (none), in headers (headers), or anywhere (strict).
        our_name: a further name to be addressed by.

    """

    directives: frozenset[str]
    level: str = "headers"
    our_name: str | None = None

    @property
    def asks_sites(self) -> bool:
        """Whether sites are asked what they say of all that they have, and images what their metadata says."""
        return self.level == "strict"

    def seen_in(self, headers: Callable[[str], list[str]], now_s: float) -> list[Signal]:
        """Return all reservations in the *headers* of an answer that came *now_s* seconds after 1970.

        *headers* returns the values of all header lines of a name, in order.
        """
        signals = []
        if lines := headers("X-Robots-Tag"):
            rules = reserving_rules(lines, self.directives | _RESERVING, now_s, self.our_name)
            signals += [Signal(ErrorClass.OPTOUT_HEADER, "X-Robots-Tag", rule) for rule in rules]
        if any(line.strip() == "1" for line in headers("TDM-Reservation")):
            signals.append(Signal(ErrorClass.OPTOUT_TDM, "TDM-Reservation", "1"))
        if (lines := headers("Content-Usage")) and (word := reserved_by_usage(", ".join(lines[:_LINES_MAX]))):
            signals.append(Signal(ErrorClass.OPTOUT_USAGE, "Content-Usage", word))
        return signals

    def refusal(self, signals: Iterable[Signal]) -> Signal | None:
        """Return the first of *signals* that keeps the image out, None if none does."""
        return next((signal for signal in signals if self._obeys(signal)), None)

    def _obeys(self, signal: Signal) -> bool:
        if self.level == "none":
            return False
        if signal.error_class is not ErrorClass.OPTOUT_HEADER:
            return True
        rule = signal.words
        return rule in self.directives or (rule in _LIKE_NOINDEX and "noindex" in self.directives)


def reserving_rules(
    lines: Iterable[str], wanted: Collection[str], now_s: float, our_name: str | None = None
) -> list[str]:
    """Return the rules in *lines*, the values of all X-Robots-Tag headers, that are *wanted* and addressed to us.

    A date after which an image is not available is one of them if it has passed at *now_s*.
    """
    names = our_names(our_name) | _EVERYBODY
    found: dict[str, None] = {}
    for number, line in enumerate(lines):
        if number >= _LINES_MAX:
            break
        for name, rule, value in _rules(line[:_CHARACTERS_MAX]):
            if (name is None or name in names) and (_has_passed(value, now_s) if rule == _DATED else rule in wanted):
                found[rule] = None
    return list(found)


def _rules(line: str) -> Iterator[tuple[str | None, str, str]]:
    """Yield each rule, in lower case, with the bot name it is addressed to before it and its value behind it."""
    name: str | None = None
    at = 0
    while at < len(line):
        found = _TOKEN.match(line, at)
        assert found is not None  # the pattern matches an empty token, too
        token, end = found[1].strip().lower(), found[2]
        at = found.end()
        if end != ":":
            yield name, token, ""
        elif token in _VALUED:
            begin, at = at, _end_of_value(token, line, at)
            yield name, token, line[begin:at].strip(", \t")
        else:
            name = token.partition("/")[0].rstrip()  # a version may follow, as in a User-Agent


def _end_of_value(rule: str, line: str, at: int) -> int:
    """Return where the rule after a valued one begins; a date may begin with a weekday and a comma of its own."""
    if rule == _DATED and (weekday := _WEEKDAY.match(line, at)):
        at = weekday.end()
    comma = line.find(",", at)
    return len(line) if comma < 0 else comma + 1


def _has_passed(date: str, now_s: float) -> bool:
    """Whether *date*, in one of the forms that Google names (RFC 822, RFC 850, ISO 8601), is past; no date never is."""
    try:
        then = datetime.fromisoformat(date)
    except ValueError:
        for written in (date, f"{date} 00:00:00"):  # a day is one, too
            with suppress(ValueError, IndexError, TypeError, OverflowError):
                then = email.utils.parsedate_to_datetime(written)
                break
        else:
            return False
    try:
        return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() <= now_s
    except (OverflowError, ValueError):  # of a zone a day away, in the years 1 and 9999
        return False


def reserved_by_usage(text: str) -> str | None:
    """Return what in *text*, preferences as ``Content-Usage`` has them, reserves an image, None if nothing does.

    Names and tokens are told apart by case, a later one takes the place of an earlier one of its name, and what is not
    well-formed says nothing at all (RFC 9651 4.2).
    """
    import http_sf

    try:
        said = http_sf.parse(text[:_CHARACTERS_MAX].encode("ascii", "replace"), tltype="dictionary")
    except (http_sf.StructuredFieldError, ValueError):
        return None
    assert isinstance(said, dict)
    for use in _RESERVED_USES:
        value = said.get(use)
        if isinstance(value, tuple) and isinstance(value[0], http_sf.Token) and str(value[0]) == "n":
            return f"{use}=n"
    return None


# What people write who mean no, as text; anything else that is there means yes: a reservation is not to be missed.
_NO: Final = frozenset({"", "false", "f", "no", "n", "off", "none", "null", "nan"})
_NOUGHT: Final = re.compile(r"[+-]?0+(?:\.0*)?")


def reserved_by_list(said: object) -> bool:
    """Whether a list that has *said* this of a row reserves it: anything but nothing, and the usual words for no."""
    if not said:
        return False
    text = (said.decode("latin-1") if isinstance(said, bytes) else str(said)).strip().lower()
    return text not in _NO and _NOUGHT.fullmatch(text) is None


def seen_in_image(content: bytes) -> list[Signal]:
    """Return what the metadata of an image says against data mining.

    It lies in the first megabyte, or the last, as text of 8 or 16 bits; in a PNG it may be compressed.
    """
    parts = [content[:_METADATA_BYTES_MAX]]
    if len(content) > _METADATA_BYTES_MAX:
        parts.append(content[max(_METADATA_BYTES_MAX, len(content) - _METADATA_BYTES_MAX) - 256 :])
    for part in (*parts, *_compressed_texts(content)):
        text = part if b"DMI-PROHIBITED" in part else part.replace(b"\0", b"") if _WIDE in part else b""
        if text and (found := _DATA_MINING.search(text)):
            return [Signal(ErrorClass.OPTOUT_METADATA, "plus:DataMining", found[1].decode("ascii"))]
    return []


def _compressed_texts(png: bytes) -> Iterator[bytes]:
    """Yield the XMP of a PNG that is compressed (PNG 11.3.3.4, as XMP part 3 names it), up to a megabyte of each."""
    at = 0
    for _ in range(_COMPRESSED_MAX):
        if (found := png.find(_COMPRESSED_XMP, at)) < 0:
            break
        at = found + len(_COMPRESSED_XMP)
        begin = png.find(b"\0", png.find(b"\0", at) + 1) + 1  # behind the language and the translated keyword
        with suppress(zlib.error):
            yield zlib.decompressobj().decompress(png[begin:], _METADATA_BYTES_MAX)
