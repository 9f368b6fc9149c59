"""A folder on a machine that is reached by SSH, through the package sshfs.

That takes fsspec's configuration of neither of its names, believes any host, says what the server refuses in
exceptions of its own, copies by a shell that need not be there, cannot make a file only where there is none, and does
not connect again. fsspec's own file system for SSH is no way out: it hangs when two
threads use it.
"""

from __future__ import annotations

import asyncio
import errno
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncssh
from fsspec.asyn import sync_wrapper
from sshfs import SSHFileSystem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["SshFileSystem"]

# A connection whose other end has gone silent is given up after so many questions, so far apart.
KEEPALIVE_S: Final = 15
# What this machine could not do is told as elsewhere; by asyncssh's names for what servers say.
_ERRNOS: Final[dict[type[Exception], int]] = {
    asyncssh.SFTPPermissionDenied: errno.EACCES,
    asyncssh.SFTPWriteProtect: errno.EROFS,
    asyncssh.SFTPNoSpaceOnFilesystem: errno.ENOSPC,
    asyncssh.SFTPQuotaExceeded: errno.EDQUOT,
    asyncssh.HostKeyNotVerifiable: errno.EACCES,
    asyncssh.PermissionDenied: errno.EACCES,
}
_LOST: Final = (
    *(asyncssh.ConnectionLost, asyncssh.ChannelOpenError),
    *(asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.SFTPEOFError),
)


class SshFileSystem(SSHFileSystem):  # type: ignore[misc]  # it is untyped
    """The files of a machine, by one connection, which is opened when it is first used, and anew when it was lost."""

    protocol = ("ssh", "sftp")
    rmdir = sync_wrapper(SSHFileSystem._rmdir)  # noqa: SLF001  fsspec's own does nothing

    def __init__(self, host: str, **told: Any) -> None:  # noqa: ANN401  whatever asyncssh.connect takes
        """Use *host*, which must be among the known ones; as asyncssh is *told*, by default as ssh itself would be."""
        if self._cached:
            return
        # To asyncssh no file is the user's own, and None is no check.
        super().__init__(host, **{"known_hosts": (), "keepalive_interval": KEEPALIVE_S, **told})

    def connect(self, host: str, pool_type: Any, **how: Any) -> tuple[None, _Channels]:  # noqa: ANN401  as its base has it
        """Connect to nothing yet: its base does when it is made, which is when a worker is sent its work."""
        if (timeout_s := how.pop("timeout", None)) is not None:
            how["connect_args"] = {"connect_timeout": timeout_s, **how["connect_args"]}
        return None, _Channels(lambda: self._connect(host, pool_type, **how), host)

    async def _cp_file(self, lpath: str, rpath: str, **_: Any) -> None:  # noqa: ANN401  as its base has it
        """Copy a file: in the server if that can do it, else through this machine; its base types ``cp`` in a shell."""
        async with self._pool.get() as channel:
            await channel.copy(lpath, rpath)

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **how: Any) -> None:  # noqa: ANN401  as its base has it
        """Write a file; with the mode ``create`` only where there is none, and whole from the moment it is there."""
        if mode != "create":
            await super()._pipe_file(path, value, **how)
            return
        own = f"{path}.{uuid.uuid4().hex}"
        await super()._pipe_file(own, value, **how)
        async with self._pool.get() as channel:
            try:
                await channel.rename(own, path)  # of SFTP's two renames the one that replaces nothing
            except asyncssh.SFTPError as error:
                await channel.remove(own)
                if await channel.exists(path):
                    raise FileExistsError(errno.EEXIST, "File exists", path) from error
                raise


class _Channels:
    """The channels of a connection that *connect* makes to *host*."""

    def __init__(self, connect: Callable[[], Awaitable[tuple[Any, Any]]], host: str) -> None:
        self._connect = connect
        self._host = host
        self._connecting = asyncio.Lock()
        self._connection: Any = None
        self._pool: Any = None

    @asynccontextmanager
    async def get(self) -> AsyncIterator[Any]:
        """Yield a channel; what goes wrong during the block is an OSError, unless nothing is there."""
        pool = None
        try:
            async with self._connecting:
                if self._connection is None or self._connection.is_closed():
                    self._connection, self._pool = await self._connect()
                pool = self._pool
            async with AsyncExitStack() as stack:
                try:
                    channel = await stack.enter_async_context(pool.get())
                except ValueError as error:  # by which it says that the server opens no channel
                    raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, str(error)) from error
                yield channel
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory") from None
        except _LOST as error:
            if pool is not None and pool is self._pool:  # a channel may end without its connection
                self._connection.close()
            raise _said(error, self._host) from error
        except asyncssh.Error as error:
            raise _said(error, self._host) from error

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()


def _said(error: Exception, host: str) -> OSError:
    reason = f"{host}: " + (getattr(error, "reason", "") or str(error) or type(error).__name__)
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        reason += (
            "; if it is the right one, add it by ssh-keyscan HOST >> ~/.ssh/known_hosts, or set FSSPEC_SSH_KNOWN_HOSTS "
            "to a file of known hosts"
        )
    otherwise = errno.ECONNRESET if isinstance(error, _LOST) else errno.EIO
    number = next((number for kind, number in _ERRNOS.items() if isinstance(error, kind)), otherwise)
    return OSError(number, reason)
