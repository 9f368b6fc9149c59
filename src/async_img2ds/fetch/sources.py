"""Read one file or object of the user's own, once: the neighbour of client.py for what is not on the web.

Nothing here keeps the worker's loop waiting: objects are read in the loop that fsspec has in a thread, files in a few
threads of their own. What each library raises becomes FetchFailure or LocalFault here, in the words of HTTP, as the
stores speak it: what is not there is a 404.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import stat
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import fsspec

from async_img2ds.blocking import DaemonThread
from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault
from async_img2ds.fetch.connections import clean, is_local
from async_img2ds.policy.sources import blocked, path_of
from async_img2ds.sources import LOCAL, parse_source
from async_img2ds.storage.patience import status_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator
    from contextlib import AbstractAsyncContextManager

    from async_img2ds.fetch.client import Answer
    from async_img2ds.options import FetchOptions
    from async_img2ds.policy.urls import Target

__all__ = ["SourceReader", "opened"]

# Read at a time; most images are smaller, so one request has all of them.
PIECE_BYTES: Final = 2**20
# Files that are opened and read beside each other: disks gain nothing by more, and shares across a network a little.
THREADS: Final = 16
# Objects that are read beside each other in a process, whatever may be asked of each bucket: the connections of the
# libraries are as many, and to wait for one of those would be charged to the object.
READS_MAX: Final = 64

# What a store says of whoever asks, and not of what is asked for (S3's error responses, Azure's error codes).
_STRANGER: Final = frozenset(
    {
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
        *("RequestTimeTooSkewed", "AuthorizationHeaderMalformed", "InvalidSecurity", "AuthenticationFailed"),
    }
)
# How libraries call what they raise: where there are no credentials, where nobody could be reached, and where what came
# broke off. They need not be installed, so their names have to do.
_NO_CREDENTIALS: Final = frozenset(
    {
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
        *("DefaultCredentialsError", "RefreshError", "GoogleAuthError", "ClientAuthenticationError", "NoRegionError"),
        *("ProfileNotFound", "UnauthorizedSSOTokenError", "SSOTokenLoadError", "CredentialUnavailableError"),
    }
)
_NOT_REACHED: Final = frozenset(
    {
        *("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "SSLError", "TransportError"),
        *("ClientConnectorError", "ClientConnectorDNSError", "ClientProxyConnectionError", "ServiceRequestError"),
        *("ConnectionRefusedError", "gaierror", "InvalidEndpoint", "ConnectionTimeoutError", "ClientConnectorSSLError"),
    }
)
_SILENT: Final = frozenset(
    {"ReadTimeoutError", "ServerTimeoutError", "SocketTimeoutError", "ServiceResponseTimeoutError"}
)
# What a library takes for no name of anything, before it asks anybody.
_MALFORMED: Final = frozenset({"ParamValidationError", "EndpointResolutionError"})
_BROKEN_OFF: Final = frozenset(
    {
        *("IncompleteReadError", "ResponseStreamingError", "ClientPayloadError", "ServerDisconnectedError"),
        *("ConnectionClosedError", "ServiceResponseError", "IncompleteReadException", "HTTPClientError"),
    }
)


# A path that leads through a file, in circles, or is too long for a name, is there as little as one that is not.
_NOWHERE: Final = frozenset({errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class SourceReader:
    """Reads what ``allow_sources`` names, one for each process. Use :meth:`open`."""

    def __init__(self, options: FetchOptions, threads: DaemonThread) -> None:
        """Read with *options*, what blocks in *threads*."""
        sources = [parse_source(source) for source in options.allow_sources]
        folders = [source.place for source in sources if source.kind == LOCAL]
        kinds = {source.kind for source in sources} - {LOCAL}
        stores: dict[str, _Place] = {kind: _Store(kind, options.timeout, threads) for kind in kinds}
        self._places: dict[str, _Place] = {LOCAL: _Disk(folders, threads), **stores}
        self._heard_at: dict[str, float] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, options: FetchOptions) -> AsyncIterator[Self | None]:
        """Yield a reader, None if nothing is to be read."""
        if not options.allow_sources:
            yield None
            return
        threads = DaemonThread("sources", THREADS)
        try:
            yield cls(options, threads)
        finally:
            threads.shutdown()

    def get(self, target: Target, _keep: Callable[[], bool]) -> AbstractAsyncContextManager[Answer]:
        """Read *target*; leaving the block early ends the reading.

        Entering the block raises:
            FetchFailure: it is not there, or not for us.
            LocalFault: this machine could not ask, or is not who the store knows.

        """
        return self._read(target)

    @asynccontextmanager
    async def _read(self, target: Target) -> AsyncIterator[Answer]:
        began = asyncio.get_running_loop().time()
        place = self._places[target.scheme]
        try:
            with _translated(target):
                content = await place.begin(path_of(target))
        except FetchFailure:
            self._hear(target)
            raise
        try:
            yield _SourceAnswer(self, target, content, self._hear(target) - began)
        finally:
            content.close()

    async def overdue(self, target: Target, failure: FetchFailure, took_s: float) -> FetchFailure | LocalFault:
        """Return what to think of an attempt on *target* that used up its *took_s* seconds.

        It is *failure* if anything has come from there meanwhile.
        """
        since = asyncio.get_running_loop().time() - took_s
        if self._heard_at.get(target.host, -math.inf) >= since:
            return failure
        return LocalFault(f"nothing has come from {target.host} for {took_s:.0f} s")

    def _hear(self, target: Target) -> float:
        now = self._heard_at[target.host] = asyncio.get_running_loop().time()
        return now


class _Content(Protocol):
    """Something that is being read: how many bytes it has in all, the first of them, and the others."""

    size: int
    first: bytes

    async def more(self, at: int) -> bytes:
        """Return the next bytes, from the position *at*; none at the end."""

    def close(self) -> None:
        """Read no more."""


class _Place(Protocol):
    """Somewhere that files are."""

    async def begin(self, path: str) -> _Content:
        """Begin to read *path*."""


class _SourceAnswer:
    """What is there, as the answer of a server that has it."""

    status = HTTPStatus.OK
    reason = "OK"
    address = None
    tls_verified = None

    def __init__(self, reader: SourceReader, target: Target, content: _Content, latency_s: float) -> None:
        self._reader = reader
        self._target = target
        self._content = content
        self.content_length = content.size
        self.latency_s = latency_s

    def headers(self, _name: str) -> list[str]:
        return []

    async def chunks(self) -> AsyncGenerator[bytes]:
        at, piece = 0, self._content.first
        while piece:
            at += len(piece)
            yield piece
            if at >= self._content.size:
                return
            with _translated(self._target):
                piece = await self._content.more(at)
            self._reader._hear(self._target)  # noqa: SLF001  it is the reader's own
        if at < self._content.size:
            said = f"IncompleteRead({at} bytes read, {self._content.size - at} more expected)"
            raise FetchFailure(ErrorClass.BODY_TRUNCATED, said)

    async def drain(self) -> None:
        """Read nothing more: there is no connection to keep."""


# Files.


class _Disk:
    """The files in *folders* of this machine."""

    def __init__(self, folders: Iterable[str], threads: DaemonThread) -> None:
        self._folders = tuple(folders)
        self._threads = threads

    async def begin(self, path: str) -> _OpenFile:
        opening = self._threads.submit(opened, path, self._folders)
        try:
            return _OpenFile(await asyncio.wrap_future(opening), self._threads)
        except asyncio.CancelledError:  # which does not reach a thread; what it opens yet is closed again
            opening.add_done_callback(_close_unwanted)
            raise


@dataclass(slots=True)
class _Opened:
    """An open file: its number, its size, and its first bytes. It is used by one thread at a time."""

    number: int
    size: int
    first: bytes = b""
    is_open: bool = True
    lock: Lock = field(default_factory=Lock)

    def read(self, count: int) -> bytes:
        with self.lock:
            return os.read(self.number, count) if self.is_open else b""

    def close(self) -> None:
        with self.lock:
            if self.is_open:
                self.is_open = False
                os.close(self.number)


def opened(path: str, folders: Iterable[str]) -> _Opened:
    """Open the regular file *path*, which must lie in one of *folders* when all links are followed, and begin to read.

    Raises:
        FetchFailure: it lies elsewhere, or is no regular file.
        LocalFault: none of *folders* that it could lie in is there.
        OSError: it cannot be opened or read.

    """
    # What is a link in the name of a folder is the user's own.
    there = {folder: os.path.realpath(folder) for folder in folders if path.startswith(f"{folder}/")}
    if not any(map(os.path.isdir, there.values())):
        raise LocalFault(f"{' and '.join(there)}, which --allow_sources names, is no folder here")
    _check_inside(os.path.realpath(path), there.values())  # before anything is said of whether it is there
    real = os.path.realpath(path, strict=True)
    _check_inside(real, there.values())
    _check_regular(os.lstat(real))  # to open a pipe or a device is to do something already
    number = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        told = os.fstat(number)
        _check_regular(told)
        with suppress(FileNotFoundError):  # where Linux says what was opened, whatever has become of links meanwhile
            _check_inside(str(Path(f"/proc/self/fd/{number}").readlink()), there.values())
        first = os.read(number, PIECE_BYTES)
    except BaseException:
        os.close(number)
        raise
    file = _Opened(number, told.st_size, first)
    if len(first) >= told.st_size:
        file.close()
    return file


def _check_regular(told: os.stat_result) -> None:
    if not stat.S_ISREG(told.st_mode):
        raise blocked("it is no regular file")


def _check_inside(real: str, folders: Iterable[str]) -> None:
    if not any(real.startswith(folder.rstrip("/") + "/") for folder in folders):
        raise blocked("a link leads out of the folders that --allow_sources names")


def _close_unwanted(opening: Any) -> None:  # noqa: ANN401  a Future of concurrent.futures
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


class _OpenFile:
    """A file that is being read."""

    def __init__(self, file: _Opened, threads: DaemonThread) -> None:
        self._file = file
        self._threads = threads
        self.size = file.size
        self.first = file.first

    async def more(self, _at: int) -> bytes:
        return await asyncio.wrap_future(self._threads.submit(self._file.read, PIECE_BYTES))

    def close(self) -> None:
        if self._file.is_open:
            self._threads.submit(self._file.close)  # behind what may still be read, and not here: a share may hang


# Objects.


class _Store:
    """The objects of an object store, by fsspec."""

    def __init__(self, kind: str, timeout_s: float, threads: DaemonThread) -> None:
        self._kind = kind
        self._timeout_s = timeout_s
        self._threads = threads
        # By the account that a path names; most name none.
        self._making: dict[str, asyncio.Future[Any]] = {}
        self._room = asyncio.Semaphore(READS_MAX)

    async def begin(self, path: str) -> _Object:
        bucket, _, key = path.partition("/")
        bucket, _, host = bucket.partition("@")
        account = host.partition(".")[0]
        making = self._making.get(account)
        if making is None or (making.done() and making.exception() is not None):
            making = asyncio.wrap_future(self._threads.submit(_made, self._kind, self._timeout_s, account))
            self._making[account] = making
        try:
            fs = await asyncio.shield(making)
        except Exception as error:
            raise LocalFault(clean(f"{self._kind}: {error}")) from error
        read = _Object(fs, f"{bucket}/{key}", self._room)
        await read.begin()
        return read


def _made(kind: str, timeout_s: float, account: str) -> Any:  # noqa: ANN401  fsspec's file systems are untyped
    """Return the file system of *kind*, configured as fsspec is, which tries nothing again that the fetcher will.

    It is that of Azure's *account*, if one is named.
    """
    if kind != "s3":
        named = {"account_name": account} if account else {}
        return fsspec.filesystem(kind, skip_instance_cache=True, **named)
    told = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    ours = {"max_pool_connections": READS_MAX, "connect_timeout": timeout_s, "read_timeout": timeout_s}
    once = {"retries": {"total_max_attempts": 1}}
    fs = fsspec.filesystem("s3", config_kwargs={**ours, **once, **told}, skip_instance_cache=True)
    fs.retries = 1
    return fs


class _Object:
    """An object that is being read, by ranges of bytes."""

    def __init__(self, fs: Any, path: str, room: asyncio.Semaphore) -> None:  # noqa: ANN401  as above
        self._fs = fs
        self._path = path
        self._room = room
        self.size = 0
        self.first = b""

    async def begin(self) -> None:
        try:
            self.first = await self._range(0, PIECE_BYTES)
            self.size = len(self.first)
        except Exception as error:
            # Of what is empty no range can be had.
            if status_of(error) != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or await self._told_size():
                raise
        if self.size == PIECE_BYTES:
            self.size = await self._told_size()

    async def more(self, at: int) -> bytes:
        return await self._range(at, min(at + PIECE_BYTES, self.size))

    def close(self) -> None:
        """Do nothing: what was under way was cancelled."""

    # fsspec's methods for those who have a loop begin with an underscore.

    async def _range(self, start: int, end: int) -> bytes:
        return bytes(await self._ask(self._fs._cat_file, start=start, end=end))  # noqa: SLF001  see above

    async def _told_size(self) -> int:
        return int((await self._ask(self._fs._info)).get("size") or 0)  # noqa: SLF001  see above

    async def _ask(self, method: Callable[..., Coroutine[Any, Any, Any]], **told: int) -> Any:  # noqa: ANN401  whatever it is
        """Return what *method* says of the object, in fsspec's loop; to cancel this cancels that."""
        async with self._room:
            asking = asyncio.run_coroutine_threadsafe(method(self._path, **told), self._fs.loop)
            return await asyncio.wrap_future(asking)


# Failures.


@contextmanager
def _translated(target: Target) -> Iterator[None]:
    """Have what is raised in reading *target* be a FetchFailure, or LocalFault where this machine is to blame.

    What is neither is a defect, of ours or of a library, and stays what it is.
    """
    try:
        yield
    except (FetchFailure, LocalFault):
        raise
    except Exception as error:
        if (failure := _failure(error, target)) is None:
            raise
        raise failure from error


def _failure(error: Exception, target: Target) -> FetchFailure | LocalFault | None:
    chain = list(_chain(error))
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    said = clean(str(error)) or type(error).__name__
    if not names.isdisjoint(_MALFORMED):
        return FetchFailure(ErrorClass.URL_INVALID, f"malformed name of an object: {said}")
    if not names.isdisjoint(_NO_CREDENTIALS | _NOT_REACHED) or is_local(error) or _is_stranger(chain):
        return LocalFault(f"{target.host}: {said}")
    if (status := _http_status(error)) is not None:
        return _by_status(status, said)
    if not names.isdisjoint(_SILENT):
        return FetchFailure(ErrorClass.READ_TIMEOUT, "timed out")
    if isinstance(error, OSError) or not names.isdisjoint(_BROKEN_OFF):
        return FetchFailure(ErrorClass.BODY_RESET, said)
    return None


def _http_status(error: Exception) -> int | None:
    """Return the status that says of an object, or of a file, what *error* does."""
    if isinstance(error, FileNotFoundError) or getattr(error, "errno", None) in _NOWHERE:
        return HTTPStatus.NOT_FOUND
    if isinstance(error, PermissionError) or str(error).startswith("Forbidden"):  # so does gcsfs
        return HTTPStatus.FORBIDDEN
    return status_of(error)


def _by_status(status: int, said: str) -> FetchFailure:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = ErrorClass.HTTP_RATE_LIMITED
    elif status >= 500:  # noqa: PLR2004  RFC 9110 15.6
        kind = ErrorClass.HTTP_STATUS_5XX
    elif status >= 400:  # noqa: PLR2004  RFC 9110 15.5
        kind = ErrorClass.HTTP_STATUS_4XX
    else:
        kind = ErrorClass.HTTP_UNEXPECTED_STATUS
    return FetchFailure(kind, said, http_status=int(status))


def _is_stranger(chain: Iterable[BaseException]) -> bool:
    """Whether a store refuses us rather than the request."""
    for link in chain:
        answer = getattr(link, "response", None)
        code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else getattr(link, "error_code", None)
        if str(code) in _STRANGER or status_of(link) == HTTPStatus.UNAUTHORIZED:
            return True
    return False


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
