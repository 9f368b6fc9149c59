"""What of a dataset is compared: each aspect a function from a dataset to a value that must be the same for both."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from compat.datasets import OUR_COLUMNS
from compat.differences import KEPT, KINDS, OUTCOMES, found

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from compat.datasets import Dataset
    from compat.differences import Difference
    from compat.tools import Pair

__all__ = ["ASPECTS", "View", "kind", "views"]

_SIZES: Final = ("width", "height", "original_width", "original_height")
_DIGESTS: Final = ("md5", "sha256", "sha512")
_MADE: Final = frozenset({"key", "status", "error_message", *_SIZES, "exif", *_DIGESTS, *OUR_COLUMNS})
_COUNTS: Final = ("successes", "failed_to_download", "failed_to_resize", "status_dict")


@dataclass(frozen=True)
class View:
    """A dataset, without the rows that are meant to come out differently.

    Attributes:
        dataset: the dataset.
        setting: the name of the setting that it was made under.
        urls: the URL of each key, by img2dataset's metadata.
        original: the bytes behind a URL, None if there are none.

    """

    dataset: Dataset
    setting: str
    urls: Mapping[str, str | None]
    original: Callable[[str], bytes | None]

    def shows(self, key: str) -> bool:
        """Whether the row *key* is to be the same."""
        return found(OUTCOMES, self.setting, self.urls.get(key)) is None

    def images(self, *tables: tuple[Difference, ...]) -> dict[str, bytes]:
        """Return the stored images by key, without those of which one of *tables* says something."""
        return {
            key: content
            for key, content in sorted(self.dataset.images.items())
            if self.shows(key) and not any(found(table, self.setting, self.urls[key]) for table in tables)
        }

    def values(self, *columns: str) -> dict[str, list[Any]]:
        """Return the values of those of *columns* that there are, by key."""
        return {
            key: [_comparable(row[column]) for column in columns if column in row]
            for key, row in self.dataset.rows.items()
            if self.shows(key)
        }


def views(pair: Pair, setting: str, original: Callable[[str], bytes | None]) -> tuple[View, View]:
    """Return both datasets of *pair*, theirs first."""
    urls = {key: row["url"] for key, row in pair.theirs.dataset.rows.items()}
    theirs, ours = (View(run.dataset, setting, urls, original) for run in (pair.theirs, pair.ours))
    return theirs, ours


def _comparable(value: Any) -> Any:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def _names(view: View) -> object:
    """Shards, side files, samples, extensions."""
    return [name for name in view.dataset.names if view.shows(name.rpartition("/")[2].partition(".")[0])]


def _keys(view: View) -> object:
    """Which row of the list has which key, and so lies in which shard."""
    return {key: row["url"] for key, row in view.dataset.rows.items()}


def _columns(view: View) -> object:
    """Columns, their order and Arrow types; ours may have a few more at the end."""
    columns = view.dataset.columns
    return (
        columns[: -len(OUR_COLUMNS)]
        if [name for name, _ in columns[-len(OUR_COLUMNS) :]] == [*OUR_COLUMNS]
        else columns
    )


def _outcomes(view: View) -> object:
    return view.values("status", "error_message")


def _sizes(view: View) -> object:
    return view.values(*_SIZES)


def _carried(view: View) -> object:
    """Captions and additional columns."""
    return view.values(*(column for column, _ in view.dataset.columns if column not in _MADE))


def _digests(view: View) -> object:
    return view.values(*_DIGESTS)


def _parts(view: View) -> object:
    """The members of each sample, in the order in which they are stored."""
    return {key: parts for key, parts in view.dataset.members.items() if view.shows(key)}


def _captions(view: View) -> object:
    return {key: parts.get("txt") for key, parts in view.dataset.samples.items() if view.shows(key)}


def _records(view: View) -> object:
    """The JSON beside each image, its keys in order; EXIF has tests of its own."""
    return {
        key: [(name, _comparable(value)) for name, value in record.items() if name not in ("exif", *OUR_COLUMNS)]
        for key, record in view.dataset.records.items()
        if view.shows(key)
    }


def _stats(view: View) -> object:
    """Fields, their order and types; what is counted, where every row comes out the same."""
    alike = all(map(view.shows, view.urls))
    said = {}
    for name, stats in view.dataset.stats.items():
        theirs = {field: value for field, value in stats.items() if field not in _OUR_STATS}
        assert list(stats)[: len(theirs)] == list(theirs)
        said[name] = (
            [(field, type(value)) for field, value in theirs.items()],
            stats["count"],
            {field: stats[field] for field in _COUNTS} if alike else {},
        )
    return said


_OUR_STATS: Final = frozenset(
    {"error_classes", "bytes_received", "bytes_written", "schema_version", "files", "urls_sha256", "made_with"}
    | {"latencies_ms", "body_sizes"}
)


def _kinds(view: View) -> object:
    """Format of each stored image, and whether it is grey or in colour."""
    return {key: kind(content) for key, content in view.images(KINDS, KEPT).items()}


def kind(content: bytes) -> tuple[str | None, str]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.format, image.mode
    except OSError:  # stored without decoding
        return None, ""


def _kept(view: View) -> object:
    """Which images are stored as they came, byte by byte."""
    return [key for key, content in view.images(KEPT).items() if content == view.original(view.urls[key] or "")]


# By the name under which a test reports it.
ASPECTS: Final[Mapping[str, Callable[[View], object]]] = {
    "file-names": _names,
    "keys": _keys,
    "columns": _columns,
    "outcomes": _outcomes,
    "sizes": _sizes,
    "carried-columns": _carried,
    "hashes": _digests,
    "parts": _parts,
    "captions": _captions,
    "json": _records,
    "stats": _stats,
    "kinds-of-images": _kinds,
    "kept-images": _kept,
}
