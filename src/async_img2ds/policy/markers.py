"""What the stats file of a shard says, whose presence marks the shard as finished.

First img2dataset's fields; then what this program counts; then by what the shard can be told from any other: its files,
its URLs, and the options that it was made with.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from async_img2ds.errors import OptionsError
from async_img2ds.records import FileSum, Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

__all__ = ["SCHEMA_VERSION", "Made", "Marker", "check_alike", "differences", "digest_of_options", "digest_of_urls"]

# Of the columns, names and fields of a dataset; a change that readers notice makes it larger.
SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Marker:
    """What a stats file says. Times are Unix times in seconds.

    Attributes:
        tally: the counts.
        started: when the shard was begun.
        seconds: how long it took.
        files: the data files by name; None in img2dataset's, which says nothing of them.
        urls: the :func:`digest_of_urls` of its rows, None likewise.
        made_with: the options that shape its content, by name, None likewise.
        schema_version: of its columns, None likewise.

    """

    tally: Tally
    started: float
    seconds: float
    files: Mapping[str, FileSum] | None = None
    urls: str | None = None
    made_with: Mapping[str, Any] | None = None
    schema_version: int | None = None

    def to_json(self) -> bytes:
        """Return the file."""
        tally = self.tally
        told: dict[str, Any] = {
            "count": tally.count,
            "successes": tally.successes,
            "failed_to_download": tally.failed_to_download,
            "failed_to_resize": tally.failed_to_resize,
            "duration": self.seconds,
            "start_time": self.started,
            "end_time": self.started + self.seconds,
            "status_dict": dict(tally.messages.most_common()),
            "error_classes": dict(tally.error_classes.most_common()),
            "bytes_received": tally.body_bytes,
            "bytes_written": tally.image_bytes,
            "latencies_ms": _by_bucket(tally.latencies_ms),
            "body_sizes": _by_bucket(tally.body_sizes),
        }
        own = {
            "schema_version": self.schema_version,
            "files": None if self.files is None else {name: _told(file) for name, file in self.files.items()},
            "urls_sha256": self.urls,
            "made_with": self.made_with,
        }
        told |= {name: value for name, value in own.items() if value is not None}
        return orjson.dumps(told, option=orjson.OPT_INDENT_2)

    @classmethod
    def parse(cls, content: bytes) -> Marker:
        """Read a stats file of this program or of img2dataset.

        Raises:
            ValueError: it is none.

        """
        try:
            told = orjson.loads(content)
            tally = Tally(
                count=_whole(told["count"]),
                successes=_whole(told["successes"]),
                failed_to_download=_whole(told["failed_to_download"]),
                failed_to_resize=_whole(told["failed_to_resize"]),
                body_bytes=_whole(told.get("bytes_received", 0)),
                image_bytes=_whole(told.get("bytes_written", 0)),
                messages=_counts(told["status_dict"]),
                error_classes=_counts(told.get("error_classes", {})),
                latencies_ms=_buckets(told.get("latencies_ms", {})),
                body_sizes=_buckets(told.get("body_sizes", {})),
            )
            files = told.get("files")
            return cls(
                tally,
                float(told["start_time"]),
                float(told["duration"]),
                None if files is None else {name: FileSum(**file) for name, file in files.items()},
                told.get("urls_sha256"),
                None if told.get("made_with") is None else {**told["made_with"]},
                told.get("schema_version"),
            )
        except (LookupError, TypeError, AttributeError) as error:  # a field is missing, or is not of its type
            raise ValueError(f"not the stats of a shard: {type(error).__name__}: {error}") from None


def _told(file: FileSum) -> dict[str, Any]:
    return {name: value for name, value in asdict(file).items() if value is not None}


def _counts(told: Mapping[str, object]) -> Counter[str]:
    return Counter({name: _whole(count) for name, count in told.items()})


def _by_bucket(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(bucket): counts[bucket] for bucket in sorted(counts)}


def _buckets(told: Mapping[str, object]) -> Counter[int]:
    return Counter({int(bucket): _whole(count) for bucket, count in told.items()})


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no count")
    return value


@dataclass(frozen=True, slots=True)
class Made:
    """What a finished shard was made of, as its marker says: so many *rows*, their *urls*, the options *made_with*."""

    rows: int
    urls: str | None
    made_with: Mapping[str, Any] | None


def digest_of_urls(urls: pa.ChunkedArray) -> str:
    """Return the sha256 in hex of the URLs of a shard in order, each followed by a line feed; of none, "" is hashed."""
    digest = hashlib.sha256()
    for chunk in urls.chunks:
        digest.update("".join(f"{url or ''}\n" for url in chunk.to_pylist()).encode(errors="surrogatepass"))
    return digest.hexdigest()


def digest_of_options(shape: Mapping[str, Any]) -> str:
    """Return the sha256 in hex of the options that shape a dataset."""
    return hashlib.sha256(orjson.dumps(shape, option=orjson.OPT_SORT_KEYS)).hexdigest()


# What says of files beside those with samples, which may be made later, too, whether they are there.
_BESIDE: Final = frozenset({"tar_index"})


def check_alike(shard_id: int, made: Made, shape: Mapping[str, Any]) -> None:
    """See that a finished shard is what options of *shape* would make of its rows.

    Shards that img2dataset has finished do not say what they were made with, and are taken as they are.

    Raises:
        OptionsError: it is not.

    """
    then = {name: value for name, value in (made.made_with or {}).items() if name not in _BESIDE}
    if different := differences(then, shape):
        raise OptionsError(
            f"output_folder: shard {shard_id} that lies there was made otherwise: {'; '.join(different)}. Go on with "
            "the options that it was begun with, choose another folder, or mix both with --resume_anyway"
        )


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in words how the options *now* are not what they were *then*; one that is not in both is no matter."""
    return [
        f"{name} was {_in_words(then[name])} and is {_in_words(value)}"
        for name, value in now.items()
        if name in then and then[name] != value
    ]


def _in_words(value: object) -> str:
    return str(orjson.dumps(value).decode()) if isinstance(value, list) else str(value)
