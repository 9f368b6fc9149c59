"""Every error this package raises, and the closed list of reasons why a row can fail.

::

    AsyncImg2dsError
      OptionsError          the caller asked for something that cannot be done; refused before work begins
        MissingExtraError   an optional package is needed; the message names the extra to install
      InputError            the URL list cannot be read
        InputOutOfReach     its server does not answer at the moment
      StorageError          a shard could not be written or committed, or the output folder cannot be reached
        InUse               another run writes to the folder; this one has not begun
        NoRoom              the disk is full, or a quota used up
        TakenOver           another run writes to the folder now
      WorkerError           worker processes cannot be started or keep dying
      LocalFault            this machine is short of something (descriptors, ports, a resolver); never a URL's fault
      SampleFailure         one URL failed; becomes a row of the metadata
        FetchFailure        its image was not received          status failed_to_download
        TransformFailure    its bytes did not become an image   status failed_to_resize
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = [
    "AsyncImg2dsError",
    "ErrorClass",
    "FetchFailure",
    "InUse",
    "InputError",
    "InputOutOfReach",
    "LocalFault",
    "MissingExtraError",
    "NoRoom",
    "OptionsError",
    "SampleFailure",
    "StorageError",
    "TakenOver",
    "Trace",
    "TransformFailure",
    "WorkerError",
    "first_of",
    "redacted",
]


@dataclass(frozen=True, slots=True)
class Trace:
    """What is told of how a URL was asked for, beside how often, with what answer, and where redirects led.

    Attributes:
        optout: the reservations that were seen, whether or not they keep the image out; None if there were none.
        tls_verified: whether the certificates of all servers on the way were verified; None where the last was asked
            without encryption, and none before it was unverified.
        fetched_at: when the headers of the last answer came, as ISO 8601 in UTC; this and the rest only on request.
        address: of the server that answered, or of the proxy.
        content_type: as the answer has it, cut and cleaned of what cannot be printed; so are the next two.
        etag: likewise.
        last_modified: likewise.

    """

    optout: str | None = None
    tls_verified: bool | None = None
    fetched_at: str | None = None
    address: str | None = None
    content_type: str | None = None
    etag: str | None = None
    last_modified: str | None = None


# Who asks, and with what password, as it stands in a URL (RFC 3986 3.2.1); but what stands there in Azure's
# abfs://container@account is a name of what is asked for.
_CREDENTIALS: Final = re.compile(
    r"(?<=://)(?!(?:(?<=abfs://)|(?<=abfss://))[a-z0-9$-]+@[^/?#\s@]*(?:[/?#\s]|$))[^/?#\s@]*(?:@[^/?#\s@]*)*@",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """Return *text* without the credentials in its URLs."""
    return _CREDENTIALS.sub("", text) if "@" in text else text


def first_of(error: BaseException) -> BaseException:
    """Return the first error of a group, which says what the group does not; any other as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class AsyncImg2dsError(Exception):
    """Base of all errors raised on purpose by this package; what they say has no credentials of URLs in it."""

    def __init__(self, *said: object) -> None:
        """Say what went wrong."""
        super().__init__(*(redacted(word) if isinstance(word, str) else word for word in said))


class OptionsError(AsyncImg2dsError):
    """An option is unknown, impossible or contradicts another; nothing was started, created or deleted."""


class MissingExtraError(OptionsError):
    """An optional package is not installed."""

    def __init__(self, wanted: str, extra: str) -> None:
        """Say that *wanted* needs the optional dependency set *extra*."""
        super().__init__(f"{wanted} needs an optional package: pip install 'async-img2ds[{extra}]'")
        self.extra = extra


class InputError(AsyncImg2dsError):
    """The URL list, or one of its files, cannot be read; shards committed before it was noticed are kept."""


class InputOutOfReach(InputError):
    """The URL list, or a file that an option names, is at a server that does not answer: that may be over soon."""


class StorageError(AsyncImg2dsError):
    """A shard could not be written or committed, or none could; its rows stay undone and a second run fetches them."""


class InUse(StorageError):
    """Another run writes to the folder; this one was not begun, and may be when that has ended."""


class NoRoom(StorageError):
    """The disk is full, or the quota used up; what the shard had taken of it is given back."""


class TakenOver(StorageError):
    """Another run writes to the folder now; no shard of this one would fare better."""


class WorkerError(AsyncImg2dsError):
    """Worker processes cannot be started, or die before they do any work."""


class LocalFault(AsyncImg2dsError):
    """This machine cannot ask at the moment; says nothing about the URL, so it must never become its row's error."""


class ErrorClass(StrEnum):
    """Why a row failed: a closed vocabulary, stored in the column ``error_class``.

    The free text beside it, ``error_message``, keeps img2dataset's wording where the cause is the same.
    """

    URL_INVALID = "url_invalid"
    URL_SCHEME = "url_scheme"
    DUPLICATE = "duplicate"
    DNS_NXDOMAIN = "dns_nxdomain"
    DNS_NODATA = "dns_nodata"
    DNS_SERVFAIL = "dns_servfail"
    DNS_TIMEOUT = "dns_timeout"
    ADDR_BLOCKED = "addr_blocked"
    PORT_BLOCKED = "port_blocked"
    SOURCE_BLOCKED = "source_blocked"
    CONNECT_REFUSED = "connect_refused"
    CONNECT_TIMEOUT = "connect_timeout"
    CONNECT_UNREACHABLE = "connect_unreachable"
    CONNECT_RESET = "connect_reset"
    TLS_EXPIRED = "tls_expired"
    TLS_HOSTNAME = "tls_hostname"
    TLS_UNTRUSTED = "tls_untrusted"
    TLS_PROTOCOL = "tls_protocol"
    TLS_TIMEOUT = "tls_timeout"
    HOST_CIRCUIT_OPEN = "host_circuit_open"
    HTTP_MALFORMED = "http_malformed"
    HTTP_HEADER_LIMIT = "http_header_limit"
    HTTP_STATUS_4XX = "http_status_4xx"
    HTTP_STATUS_5XX = "http_status_5xx"
    HTTP_RATE_LIMITED = "http_rate_limited"
    HTTP_UNEXPECTED_STATUS = "http_unexpected_status"
    REDIRECT_LIMIT = "redirect_limit"
    REDIRECT_INVALID = "redirect_invalid"
    REDIRECT_BLOCKED = "redirect_blocked"
    READ_TIMEOUT = "read_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    TOO_SLOW = "too_slow"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TRUNCATED = "body_truncated"
    BODY_RESET = "body_reset"
    BODY_EMPTY = "body_empty"
    CONTENT_ENCODING = "content_encoding"
    OPTOUT_HEADER = "optout_header"
    OPTOUT_TDM = "optout_tdm"
    OPTOUT_USAGE = "optout_usage"
    OPTOUT_LISTED = "optout_listed"
    OPTOUT_REMOVED = "optout_removed"
    OPTOUT_ROBOTS = "optout_robots"
    OPTOUT_METADATA = "optout_metadata"
    ROBOTS_UNREACHABLE = "robots_unreachable"
    HASH_MISMATCH = "hash_mismatch"
    NOT_IMAGE = "not_image"
    DECODE_ERROR = "decode_error"
    DECODE_TRUNCATED = "decode_truncated"
    DECODE_BOMB = "decode_bomb"
    DECODE_OOM = "decode_oom"
    DECODE_UNSUPPORTED = "decode_unsupported"
    DECODE_CRASH = "decode_crash"
    DECODE_TIMEOUT = "decode_timeout"
    TOO_SMALL = "too_small"
    AREA = "area"
    ASPECT = "aspect"
    BBOX_INVALID = "bbox_invalid"
    ENCODE_ERROR = "encode_error"
    INTERNAL = "internal"


# Failures before there was a connection that could carry a request, for reasons that may pass.
NOT_REACHED: Final = frozenset(
    {
        ErrorClass.DNS_SERVFAIL,
        ErrorClass.DNS_TIMEOUT,
        ErrorClass.CONNECT_REFUSED,
        ErrorClass.CONNECT_TIMEOUT,
        ErrorClass.CONNECT_UNREACHABLE,
        ErrorClass.CONNECT_RESET,
        ErrorClass.TLS_TIMEOUT,
    }
)


# What is not fetched by intent: what the list has before, and what was removed.
NOT_FETCHED: Final = frozenset({ErrorClass.DUPLICATE, ErrorClass.OPTOUT_REMOVED})

# Failures that may be over another day: the network's, a server's that was down, slow or had enough, and our own. What
# was answered for good stays (404, no image, reserved), and names that are gone, unless they are asked for.
MAY_HEAL: Final = NOT_REACHED | {
    ErrorClass.HOST_CIRCUIT_OPEN,
    ErrorClass.HTTP_MALFORMED,
    ErrorClass.HTTP_STATUS_5XX,
    ErrorClass.HTTP_RATE_LIMITED,
    ErrorClass.READ_TIMEOUT,
    ErrorClass.TOTAL_TIMEOUT,
    ErrorClass.TOO_SLOW,
    ErrorClass.BODY_TRUNCATED,
    ErrorClass.BODY_RESET,
    ErrorClass.BODY_EMPTY,
    ErrorClass.ROBOTS_UNREACHABLE,
    ErrorClass.DECODE_OOM,
    ErrorClass.INTERNAL,
}


class SampleFailure(AsyncImg2dsError):
    """One URL that did not become an image, for a reason that is the URL's own.

    Attributes:
        error_class: the reason, from the closed list.
        message: one line of text for a person.
        http_status: status of the last answer, None when there was none.
        retry_after_s: how long the server asked to be left alone, in seconds.
        attempts: requests made, counted from 1; 0 when the URL was refused before the first.
        final_url: where it failed, if a redirect had led there.
        trace: what else is told of how it was asked for.
        took_s: how long the last attempt took, in seconds, None if there was none.

    """

    def __init__(
        self,
        error_class: ErrorClass,
        message: str,
        *,
        http_status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Keep the reason beside its text."""
        super().__init__(message)
        self.error_class = error_class
        self.message = redacted(message)
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        self.attempts = 0
        self.final_url: str | None = None
        self.trace = Trace()
        self.took_s: float | None = None


class FetchFailure(SampleFailure):
    """The image was not received: the row's status is ``failed_to_download``."""


class TransformFailure(SampleFailure):
    """The bytes did not become an image of the dataset: the row's status is ``failed_to_resize``."""
