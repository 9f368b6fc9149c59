"""Calls to a server that are made again while it fails: what is ready to be put there outlives an outage."""

from __future__ import annotations

import errno
import logging
import random
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from async_img2ds.errors import AsyncImg2dsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["OUTAGE_MOST_S", "Patience", "in_a_line", "is_out_of_reach", "status_of"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# The libraries of object stores try again themselves, for seconds: s3fs 5 times and botocore below it as often, gcsfs
# 6 times within half a minute, Azure's 3 times within one. What is done here is for outages, which last longer, and
# for file systems whose libraries do nothing of the kind. Most outages end within an hour, as in the fetcher.
OUTAGE_MOST_S: Final = 3600.0
PAUSE_S: Final = 1.0
PAUSE_MOST_S: Final = 30.0
COMPLAINT_S: Final = 30.0

# What is there or not, may be done or not, however often it is asked for.
_SETTLED: Final = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_SETTLED_NUMBERS: Final = _FULL | {errno.EROFS, errno.EINVAL, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM}
# What the system says of a server, or of a disk elsewhere, that does not answer.
_UNREACHED: Final = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED),
        *(errno.EPIPE, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.ENOTCONN),
    }
)
# And the libraries, in classes of their own: botocore, aiohttp, those of Azure and of Google. None is imported here.
_UNANSWERED: Final = frozenset(
    {
        *("HTTPClientError", "ConnectionError", "ClientConnectionError", "ClientPayloadError"),
        *("ServiceRequestError", "ServiceResponseError", "TransportError"),
    }
)
# Mistakes of ours, or of a library.
_BUGS: Final = (TypeError, ValueError, LookupError, AttributeError, AssertionError, NotImplementedError)
# 4xx is the request's fault but for these: took too long, too early, too many.
_PASSING_STATUSES: Final = frozenset({408, 425, 429})
# And 5xx the server's, which may be over, but for what it does not know how to do.
_NEVER: Final = frozenset({501, 505})
_QUERY: Final = re.compile(r"(?<=[^\s?])\?[^\s'\"]+")


class _StoreError(OSError):
    """What a library raised in a class of its own, or in a number that means something else of this machine's disk.

    Its own number says nothing: what caused it does.
    """


class Patience:
    """Makes calls, and again those that fail for a reason that may pass, for so many seconds at the most."""

    def __init__(self, most_s: float = 0.0, whom: str = "the output folder") -> None:
        """Be patient with *whom* for *most_s* seconds in each call; by default in none."""
        self._most_s = most_s
        self._whom = whom
        self._ended = threading.Event()
        self._complains_at = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what is of this process alone."""
        return {"most_s": self._most_s, "whom": self._whom}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin anew."""
        Patience.__init__(self, **state)

    def end(self) -> None:
        """Wait for nothing any more: nobody wants to know."""
        self._ended.set()

    def __call__(self, function: Callable[P, T], /, *values: P.args, **names: P.kwargs) -> T:
        """Return what *function* returns.

        Raises:
            OSError: as it raised, in the end, or instead of something of the file system's own.

        """
        pauses = _pauses()
        until = time.monotonic() + self._most_s
        while True:
            try:
                return function(*values, **names)
            except Exception as error:
                pause_s = next(pauses)
                is_over = time.monotonic() + pause_s > until or self._ended.is_set()
                if is_over or not _may_pass(error):
                    if isinstance(error, OSError | AsyncImg2dsError) and getattr(error, "errno", None) not in _FULL:
                        raise
                    raise _StoreError(errno.EIO, f"{type(error).__name__}: {error}") from error
                self._complain(error)
            if self._ended.wait(pause_s):
                until = 0.0

    def _complain(self, error: Exception) -> None:
        if time.monotonic() >= self._complains_at:
            self._complains_at = time.monotonic() + COMPLAINT_S
            said = in_a_line(error)
            logger.warning("%s cannot be reached at the moment (%s); what is ready for it waits", self._whom, said)


def _pauses() -> Iterator[float]:
    """Yield how long to wait before each further try, in seconds; not all who wait come back at the same moment."""
    pause_s = PAUSE_S
    while True:
        yield pause_s * random.uniform(0.5, 1.0)  # noqa: S311  no secret
        pause_s = min(2 * pause_s, PAUSE_MOST_S)


def _may_pass(error: BaseException) -> bool:
    """Whether what failed with *error* may succeed without anybody's doing anything."""
    if isinstance(error, (AsyncImg2dsError, *_SETTLED, *_BUGS)) or str(error).startswith("Forbidden"):  # so does gcsfs
        return False
    if (status := status_of(error)) is not None:
        return _is_passing(status)
    return not (isinstance(error, OSError) and error.errno in _SETTLED_NUMBERS)


def _is_passing(status: int) -> bool:
    return (status >= 500 and status not in _NEVER) or status in _PASSING_STATUSES  # noqa: PLR2004  RFC 9110 15.6


def is_out_of_reach(error: BaseException) -> bool:
    """Whether *error* says that a server does not answer, or that it cannot now: that is nobody's mistake.

    As much as is known for certain; of what a run has ready to be put somewhere more is hoped for.
    """
    if (status := status_of(error)) is not None:
        return _is_passing(status)
    cause: BaseException | None = error
    while cause is not None:
        number = None if isinstance(cause, _StoreError) else getattr(cause, "errno", None)
        if isinstance(cause, TimeoutError | socket.gaierror) or number in _UNREACHED:
            return True
        if not _UNANSWERED.isdisjoint(kind.__name__ for kind in type(cause).__mro__):
            return True
        cause = cause.__cause__
    return False


def in_a_line(error: BaseException) -> str:
    """Return what *error* says in a line, without what follows the ? of a URL: a signature does what a token does."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _QUERY.sub("", lines[0]) if lines else type(error).__name__


def status_of(error: BaseException | None) -> int | None:
    """Return the HTTP status behind *error*, None if it is of something else; each library has it in another place."""
    while error is not None:
        answer = getattr(error, "response", None)
        if isinstance(answer, dict):
            told = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            told = getattr(answer, "status_code", None)
        for name in ("", "status_code", "status", "code"):  # the last of which aiohttp would warn of
            status = getattr(error, name, None) if name else told
            if str(status).isdecimal() and 300 <= int(str(status)) < 600:  # noqa: PLR2004  RFC 9110 15
                return int(str(status))
        error = error.__cause__
    return None
