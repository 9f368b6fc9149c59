"""What comes out of a stream."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from async_img2ds.records import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from async_img2ds.errors import ErrorClass

__all__ = ["StreamSample"]

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StreamSample(Generic[T_co]):
    """What became of one row of the list: an image, or the reason why there is none.

    Its fields are called as the columns of a dataset, and mean the same; ``docs/formats.md`` has them all.

    Attributes:
        key: the key that the row has in a dataset of the same list.
        url: the URL, as written in the list.
        status: success, failed_to_download or failed_to_resize.
        image: the image: the bytes of a file, or what ``decode`` asks for; None if there is none.
        caption: from the column ``caption_col``.
        columns: the further columns that were asked for, by name, with the values that the list has.
        error_class: why there is no image, one of a closed list of words.
        error_message: the same in a sentence.
        width: of the image, in pixels; None where bodies are kept as they come. So are the next three.
        height: likewise.
        original_width: of the image as it was received.
        original_height: likewise.
        exif: the tags of the original as a JSON object of texts.
        md5: of the bytes received, if ``compute_hash`` asks for it; so are the next two.
        sha256: likewise.
        sha512: likewise.
        http_status: of the last answer.
        attempts: requests made, redirects not counted.
        final_url: where redirects led to.
        optout: the reservations that were seen, whether or not they keep the image out.
        tls_verified: whether all who answered could prove who they are.
        body_bytes: how many bytes were received.
        fetched_at: when the last answer came; this and the next four with ``provenance`` only.
        address: who sent it.
        content_type: as the answer has it.
        etag: likewise.
        last_modified: likewise.

    """

    key: str
    url: str | None
    status: Status
    image: T_co | None = None
    caption: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    error_class: ErrorClass | None = None
    error_message: str | None = None
    width: int | None = None
    height: int | None = None
    original_width: int | None = None
    original_height: int | None = None
    exif: str | None = None
    md5: str | None = None
    sha256: str | None = None
    sha512: str | None = None
    http_status: int | None = None
    attempts: int = 0
    final_url: str | None = None
    optout: str | None = None
    tls_verified: bool | None = None
    body_bytes: int = 0
    fetched_at: str | None = None
    address: str | None = None
    content_type: str | None = None
    etag: str | None = None
    last_modified: str | None = None

    def __repr__(self) -> str:
        there = {name: value for name in _SHOWN if (value := getattr(self, name)) not in (None, {})}
        return f"StreamSample({', '.join(f'{name}={value!r}' for name, value in there.items())})"

    @property
    def ok(self) -> bool:
        """Whether there is an image."""
        return self.status is Status.SUCCESS

    def metadata(self) -> dict[str, Any]:
        """Return all but the image as one flat mapping of plain values, such as a table's row."""
        told = {name: getattr(self, name) for name in _PLAIN}
        reason = None if self.error_class is None else str(self.error_class)
        return {**self.columns, **told, "status": str(self.status), "error_class": reason}


_PLAIN: Final = tuple(each.name for each in fields(StreamSample) if each.name not in ("image", "columns"))
# Images are large, and so may tags be.
_SHOWN: Final = tuple(each.name for each in fields(StreamSample) if each.name not in ("image", "exif"))
