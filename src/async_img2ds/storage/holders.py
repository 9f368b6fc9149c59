"""Who writes to a folder: one run at a time.

By an object in it that says whose it is, and is renewed. Where a file system has locks its file is locked, too: that
tells at once that another run holds it, or that its last one is gone.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.errors import TakenOver
from async_img2ds.ranks import ALL
from async_img2ds.storage.listing import entries_in
from async_img2ds.storage.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from async_img2ds.ranks import Share

__all__ = ["HOLDER", "LEASE_S", "RANKS", "Held", "Lease", "holder_of", "locked", "rivals_of", "said_of", "this_run"]

logger = logging.getLogger(__name__)

# While a run writes to a folder, who that is stands there. It ends in nothing that readers of datasets look for.
HOLDER: Final = ".aimg2ds-run"
# Ranks that share a list write beside each other; each has a file in this folder.
RANKS: Final = ".aimg2ds-ranks"
_RANK_NAME: Final = re.compile(r"[0-9]+-of-[0-9]+")
# As a bucket that keeps all versions gets one at each renewal, it is done seldom; and a request may take its time.
RENEWAL_S: Final = 30.0
LEASE_S: Final = 100.0
LOOK_S: Final = 5.0
# Of two runs that have begun at the same moment, only the last to write is told of; the other sees it then.
SETTLED_S: Final = 2.0
GIVING_BACK_S: Final = 10.0
# Between the files of one upload it is looked at so often at the most.
GLANCE_S: Final = 5.0
HALF_WRITTEN_S: Final = 0.5
# A folder that cannot be written to is told of after so many tries, so long apart.
FIRST_TRIES: Final = 3
FIRST_PAUSE_S: Final = 1.0
# What a file system says that has no locks: none at all, not on this mount, not without a server for them, not of
# folders (both NFS).
_NO_LOCKS: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOLCK, errno.EBADF})

# The leases that this process holds: an earlier one of its number held the rest.
_held_here: set[str] = set()


class Held(Exception):
    """Another run holds the folder; the text is what is known of it, to be put behind the folder's name."""


def holder_of(share: Share) -> str:
    """Return the name of the file that says that the run of *share* holds the folder."""
    return HOLDER if share.is_all else f"{RANKS}/{share.rank}-of-{share.world_size}"


def rivals_of(share: Share, ranks: Iterable[str]) -> list[str]:
    """Return the names of the files whose runs do not write beside that of *share*; *ranks* are those in RANKS."""
    told = filter(_RANK_NAME.fullmatch, ranks)
    others = [f"{RANKS}/{name}" for name in told if share.is_all or not name.endswith(f"-of-{share.world_size}")]
    return others if share.is_all else [HOLDER, *others]


def this_run(since: datetime) -> dict[str, Any]:
    """Return who this is, as it is written down for others: host, process, and since when."""
    told = {"host": socket.gethostname(), "pid": os.getpid(), "since": since.isoformat(" ", "seconds")}
    return {**told, "pids_of": _pids_of(), "born": _born(os.getpid())}


def _pids_of() -> str | None:
    """Return where the numbers of processes mean what they do here; None if that cannot be told.

    Hosts may bear one name, and a container has numbers of its own.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def _born(pid: int) -> int | None:
    """Return when the process *pid* began, in ticks since the machine did; None if there is none or nobody tells.

    A number serves many processes, one after the other.
    """
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])  # proc(5)
    except (OSError, ValueError, IndexError):
        return None


def said_of(content: bytes) -> str:
    """Return in words who has written *content*; nothing if it does not tell."""
    told = _told(content)
    rank = f"{told['share']}, " if told.get("share") else ""
    try:
        return f" ({rank}process {told['pid']} on {told['host']}, since {told['since']})"
    except KeyError:  # it has just begun, or just ended
        return ""


def _told(content: bytes) -> dict[str, Any]:
    try:
        told = json.loads(content)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def locked(path: Path, *, shared: bool = False, make: bool = True) -> int | None:
    """Return a descriptor that holds *path* until it is closed or this process ends, however it ends.

    Others may hold it likewise if it is *shared*. Unless that, or *make* is false, a file is made if it is not there.
    None where the file system has
    no such locks. On NFS only those of files are seen by other machines, and those of folders by nobody else.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be opened or locked.

    """
    try:
        import fcntl
    except ImportError:  # on Windows
        return None
    flags = os.O_RDONLY if shared or not make or path.is_dir() else os.O_RDWR | os.O_CREAT
    handle = os.open(path, flags | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError as error:
        os.close(handle)
        if error.errno in _NO_LOCKS:
            return None
        raise
    if not _is_at(handle, path):  # its last holder has just removed it
        os.close(handle)
        raise BlockingIOError
    return handle


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


class Lease:
    """The hold of a run on a folder: an object in it that says whose it is, and is renewed.

    A run that was killed renews it no more, so that another takes it over when it has not changed for a while; at once
    if it was *locked* and the lock is gone, or on the same host, where the process can be seen to be gone. A run that
    slept for so long, or whose folder was moved away, finds out when it commits. It can be pickled, so that workers ask
    whether the run still holds the folder.
    """

    def __init__(
        self,
        fs: Any,  # noqa: ANN401  fsspec's file systems are untyped
        root: str,
        write: Callable[[str, bytes], None] | None = None,
        *,
        share: Share = ALL,
        locked: bool = False,
    ) -> None:
        """Use the folder *root* of *fs*; *write* puts content in a file there, if ``pipe_file`` is not to.

        A run of one *share* holds it beside those of the others. *locked* says that whoever takes it has locked the
        file before, and has seen that none of other runs is.
        """
        self._locked = locked
        self._share = share
        self._glanced = (0.0, 0.0)
        self._fs = fs
        self._put = write or fs.pipe_file
        self._root = root
        self._path = f"{root}/{holder_of(share)}"
        self._token = uuid.uuid4().hex
        self._since = datetime.now(UTC)
        self._ended = threading.Event()
        self._renewal: threading.Thread | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what is of this process alone."""
        return {**vars(self), "_ended": None, "_renewal": None, "_put": None}

    def take(self) -> None:
        """Take the folder and hold it until :meth:`give_back`; that may take as long as a lease to become certain.

        Raises:
            Held: another run holds it.
            Exception: as the file system raises.

        """
        rivals = self._rivals()
        self._see_gone([self._path, *rivals])
        for rival in rivals:  # or it would go on when it awakes
            with suppress(FileNotFoundError):
                self._fs.rm_file(rival)
        try:
            self._write_first()
        except OSError:
            if not self._locked:
                raise
            logger.debug("the disk has no room to say who writes to it; the lock holds without")
        if not self._locked:
            self._give_way()
        self._see_alike()
        _held_here.add(self._token)
        self._renewal = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._renewal.start()

    def _see_gone(self, paths: Iterable[str]) -> None:
        """See that the runs have ended of which the files *paths* tell, or raise Held; they are watched if need be."""
        standing = {path: content for path in paths if (content := self._content(path))}
        watched = {path: content for path, content in standing.items() if not self._is_gone(_told(content))}
        for content in watched.values():
            who = said_of(content) or ", of which nothing is known"
            logger.warning("a run%s holds the folder or was killed; looking for %.0f s which it is", who, LEASE_S)
        until = time.monotonic() + LEASE_S
        while watched and time.monotonic() < until:
            time.sleep(min(LOOK_S, LEASE_S / 10))
            for path, before in list(watched.items()):
                now = self._content(path)
                if now is None:
                    del watched[path]
                elif now != before:
                    raise Held(said_of(now) or said_of(before))
        for content in watched.values():
            if _is_here(_told(content)):  # stopped, perhaps, but not gone
                raise Held(said_of(content))

    def _give_way(self) -> None:
        """Give the folder back, and raise Held, if another run took it at the same moment; perhaps both do."""
        for rival in self._rivals():
            if (content := self._content(rival)) is not None:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(self._path)
                raise Held(said_of(content))

    def _see_alike(self) -> None:
        """Give the folder back, and raise Held, if other ranks of the run are making another dataset."""
        for name in [] if self._share.is_all else self._ranks():
            content = self._content(f"{self._root}/{RANKS}/{name}") or b""
            told = _told(content)
            if told.get("making", self._share.making) != self._share.making and _is_fresh(told):
                with suppress(FileNotFoundError):
                    self._fs.rm_file(self._path)
                raise Held(f"{said_of(content)} with other options for images than these")

    def _rivals(self) -> list[str]:
        """Return the files of those that must not write beside this run, as far as any may be there."""
        return [f"{self._root}/{name}" for name in rivals_of(self._share, self._ranks())]

    def _ranks(self) -> list[str]:
        # Of a folder that is not there some of fsspec's file systems list all that lies beside it.
        return sorted(name for name, _ in entries_in(self._fs, f"{self._root}/{RANKS}", Patience()))

    def is_live(self) -> bool:
        """Whether any run seems to hold the folder: its file was renewed not long ago, by its own clock."""
        ranks = [] if self._locked else self._rivals()
        return any(self._seems_live(_told(self._content(path) or b"")) for path in (self._path, *ranks))

    def _seems_live(self, told: Mapping[str, Any]) -> bool:
        if told.get("locked") and self._locked:
            return False  # whoever asks has seen that it is not
        return _is_fresh(told)

    def check(self) -> None:
        """See that no other run has taken the folder meanwhile.

        Raises:
            TakenOver: one has.

        """
        content = self._content(self._path)
        if content is not None and not _told(content):  # it may be half written
            time.sleep(HALF_WRITTEN_S)
            content = self._content(self._path)
        if content is None:  # another run may have come, and gone
            raise TakenOver(f"{HOLDER} is gone from the output folder, by which this run held it; this one ends")
        # One that found the disk full at its beginning has a file without a word in it, but locked.
        if _told(content).get("token") != self._token and not (self._locked and not content):
            raise TakenOver(f"another run{said_of(content)} has taken the output folder over; this one ends")

    def glance(self) -> None:
        """Do as :meth:`check`, unless that was a moment ago.

        By two clocks: while a machine sleeps one of them stands still, and the other may be set.
        """
        now = (time.monotonic(), time.time())
        if any(abs(this - that) > GLANCE_S for this, that in zip(now, self._glanced, strict=True)):
            self.check()
            self._glanced = now

    def give_back(self) -> None:
        """Let others have the folder."""
        if self._renewal is None:
            return
        self._ended.set()
        self._renewal.join(GIVING_BACK_S)  # or it might put back what is removed here
        _held_here.discard(self._token)
        with suppress(Exception):  # others wait for a while, then
            self.check()
            self._fs.rm_file(self._path)

    def _renew(self) -> None:
        wait_s = SETTLED_S
        while not self._ended.wait(wait_s):
            wait_s = RENEWAL_S
            try:
                self.check()
                self._write()
            except TakenOver as error:
                logger.error("%s", error)  # noqa: TRY400  it is no fault of ours that could be found in a traceback
                return
            except Exception as error:  # noqa: BLE001  each file system raises its own; it is tried again
                logger.warning("the hold on the output folder could not be renewed: %s", error)

    def _write_first(self) -> None:
        """Write as a run does that has not begun: one that a broken connection refused would have to be typed again."""
        for _ in range(0 if self._locked else FIRST_TRIES - 1):
            try:
                self._write()
            except Exception as error:  # noqa: BLE001  each file system raises its own; the last is told
                logger.debug("the hold on the output folder could not be written: %s", error)
                time.sleep(FIRST_PAUSE_S)
            else:
                return
        self._write()

    def _write(self) -> None:
        renewed = datetime.now(UTC).isoformat(" ")
        content = {**this_run(self._since), "token": self._token, "renewed": renewed, "locked": self._locked}
        if not self._share.is_all:
            content |= {"share": str(self._share), "making": self._share.making}
        self._put(self._path, json.dumps(content).encode())

    def _is_gone(self, told: Mapping[str, Any]) -> bool:
        """Whether the run that *told* of itself can be seen to hold the folder no more."""
        return _is_dead(told) or (self._locked and bool(told.get("locked")))

    def _content(self, path: str) -> bytes | None:
        """Return what the object *path* holds, None if there is none; some systems show one that is half written."""
        try:
            return bytes(self._fs.cat_file(path))
        except FileNotFoundError:
            return None


def _is_fresh(told: Mapping[str, Any]) -> bool:
    """Whether the run that *told* of itself did so not long ago, by its own clock, and is not seen to be gone."""
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(told["renewed"])
    except (KeyError, TypeError, ValueError):
        return False
    return not _is_dead(told) and abs(age.total_seconds()) < LEASE_S


def _is_dead(told: Mapping[str, Any]) -> bool:
    """Whether the run that *told* of itself can be seen to be gone."""
    pid = told.get("pid")
    if told.get("pids_of") is None or told["pids_of"] != _pids_of() or not isinstance(pid, int) or pid <= 0:
        return False
    if pid == os.getpid():
        return told.get("token") not in _held_here
    try:
        os.kill(pid, 0)
    except OSError as error:
        if isinstance(error, ProcessLookupError):
            return True
    born = _born(pid)
    return born is not None and told.get("born") not in (None, born)


def _is_here(told: Mapping[str, Any]) -> bool:
    """Whether the run that *told* of itself is on this machine and, as far as can be seen, not gone."""
    return told.get("pids_of") is not None and told["pids_of"] == _pids_of() and "born" in told and not _is_dead(told)
