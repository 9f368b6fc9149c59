"""A folder behind fsspec at which two attempts at one shard may commit at a time, as engines have it.

An object store cannot put several files in their places in one step. So an attempt uploads its files under its own
name, where nobody else writes, and then says by one object, which only the first can make, that it is the one that
counts. From there on everything is decided: its files are copied to where they belong, the marker last, by itself or by
whichever attempt comes next, and however often that is done, the same files are there at the end.
"""

from __future__ import annotations

import errno
import hashlib
import uuid
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from async_img2ds.errors import OptionsError, StorageError
from async_img2ds.storage.base import ATTEMPTS, MARKER, PARTIAL, REDO, SAMPLE_NAME, remove, unusable
from async_img2ds.storage.filesystems import protocols
from async_img2ds.storage.patience import in_a_line, is_out_of_reach
from async_img2ds.storage.remote import RemoteStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ContestedStore"]

# What is decided of the shard NNNNN stands in ATTEMPTS/NNNNN.
DECISION: Final = "decision.json"
# Samples that are copied by one call, which some file systems do at the same time.
COPIED: Final = 500


class ContestedStore(RemoteStore):
    """A folder in any fsspec file system, to which attempts commit that know nothing of each other."""

    is_contested = True
    # What this attempt has uploaded: files, and of folders the samples in them.
    _uploaded: Mapping[str, list[str] | None] = MappingProxyType({})

    def apart(self) -> Self:
        """Return this store with a staging of its own: what it stages, no other publishes or discards by its name."""
        store = super().apart()
        store._uploaded = {}  # noqa: SLF001  a copy of ours
        return store

    def prepare(self) -> None:
        """Do as any store, and refuse a server at which not only the first can make an object.

        Some that speak S3 take the condition for nothing, as do old releases of the libraries.
        """
        super().prepare()
        path = f"{self._root}/{ATTEMPTS}/{self._own}/{DECISION}"
        try:
            self._make_folder(path.rpartition("/")[0])
            self._create(path, b"first")
            with suppress(FileExistsError):
                self._create(path, b"second")
            is_settled = self._fs.cat_file(path) == b"first"
            why = ""
        except Exception as error:  # each file system raises its own
            if is_out_of_reach(error):
                raise unusable(self._root, error) from error
            is_settled, why = False, f" ({in_a_line(error)})"
        finally:
            with suppress(Exception):  # each file system raises its own; the run sweeps at its end
                self._drop(path.rpartition("/")[0])
        if not is_settled:
            raise OptionsError(
                f"output_folder: {self._root} cannot make a file only where there is none{why}, by which attempts of "
                "an engine at one shard settle which counts; update the package of its file system (s3fs, gcsfs, "
                "adlfs), or share the list by --distributor rank"
            )

    def publish(self, name: str) -> None:
        """Make what was staged for *name* appear; for the marker, have the files of this or another attempt do so.

        Raises:
            StorageError: another attempt counts, and what it has uploaded is not there.

        """
        self._upload_apart(name)
        if name.endswith(MARKER):
            self._carry_out(_stem(name), self._decided(_stem(name), None))

    def replace(self, names: Sequence[str]) -> None:
        """Make what was staged for *names* take the place of what there is, unless another attempt counts.

        Raises:
            StorageError: as :meth:`publish` has it.

        """
        standing = self.content(names[-1])
        for name in names:
            self._upload_apart(name)
        self._carry_out(_stem(names[-1]), self._decided(_stem(names[-1]), _sha256(standing)))

    def finish(self, stem: str) -> bool:
        """Finish what was decided of the shard *stem*, if anything was, and a replacement as :meth:`replace` says."""
        self._carry_out(stem, self._decision(stem))
        return super().finish(stem)

    def release(self) -> None:
        """Let go of what is held for what was staged, and of what was uploaded and does not count."""
        for stem in {_stem(name) for name in self._uploaded}:
            with suppress(Exception):  # each file system raises its own; the run sweeps at its end
                if self._decision(stem).get("own") != self._own:
                    self._drop(self._attempt(stem, self._own))
        self._uploaded = {}
        super().release()

    def close(self) -> None:
        """Remove all that was staged, or uploaded in vain, and let other runs have the folder."""
        with suppress(Exception):  # each file system raises its own, and a run that was taken over touches nothing
            self.check()
            self._sweep_attempts()
        super().close()

    def _upload_apart(self, name: str) -> None:
        """Upload what was staged for *name* to where nobody else does."""
        staged = self.staged(name)
        samples = sorted(entry.name for entry in staged.iterdir()) if staged.is_dir() else None
        self._uploaded = {**self._uploaded, name: samples}
        self._put_whole(staged, f"{self._attempt(_stem(name), self._own)}/{name}")
        remove(staged)

    def _attempt(self, stem: str, own: str) -> str:
        return f"{self._root}/{ATTEMPTS}/{stem}/{own}"

    def _decided(self, stem: str, base: str | None) -> dict[str, Any]:
        """Return which attempt counts: this one, if none before has said so, in the place of the marker *base*."""
        path = f"{self._root}/{ATTEMPTS}/{stem}/{DECISION}"
        said = {"own": self._own, "files": self._uploaded, "base": base}
        with suppress(FileExistsError):
            self._patience(self._create, path, orjson.dumps(said))
        return self._decision(stem)

    def _create(self, path: str, content: bytes) -> None:
        """Make the file *path* with *content*, or raise FileExistsError if there is one; of many calls one succeeds."""
        if "hdfs" not in protocols(self._fs):
            self._fs.pipe_file(path, content, mode="create")
            return
        own = (
            f"{path}.{self._own}"  # its rename replaces nothing, and fsspec knows no other way to make only a new file
        )
        self._fs.pipe_file(own, content)
        try:
            self._fs.mv(own, path)
        except OSError as error:
            self._fs.rm_file(own)
            if self._fs.exists(path):
                raise FileExistsError(errno.EEXIST, "File exists", path) from error
            raise

    def _decision(self, stem: str) -> dict[str, Any]:
        """Return what is decided of the shard *stem*, nothing if it is not, or was carried out."""
        content = self.content(f"{ATTEMPTS}/{stem}/{DECISION}")
        return orjson.loads(content) if content else {}

    def _carry_out(self, stem: str, decision: dict[str, Any]) -> None:
        """Put the files of the attempt that counts in their places, the marker last, and remove what was uploaded."""
        if not decision:  # another has carried it out, and taken it away, since it was looked for
            return
        said, redo = f"{self._root}/{ATTEMPTS}/{stem}/{DECISION}", f"{self._root}/{stem}{REDO}"
        if self._stands(stem, decision["base"]):
            try:
                if decision["base"]:
                    self._patience(self._fs.pipe_file, redo, b"")
                self._copy_all(self._attempt(stem, decision["own"]), decision["files"])
            except FileNotFoundError as error:
                if self._stands(stem, decision["base"]):  # or another has carried it out meanwhile
                    # It could not know that it counts, as its word came through after it had given up.
                    self._remove(said)
                    raise StorageError(f"what another attempt at it has uploaded is not there: {error}") from error
        if decision["base"]:
            self._remove(redo)
        self._drop(self._attempt(stem, decision["own"]))
        self._remove(said)

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError):  # another was here, too
            self._patience(self._fs.rm_file, path)

    def _stands(self, stem: str, base: str | None) -> bool:
        """Whether the marker of the shard *stem* is still the one with the sha256 *base*, or none."""
        return _sha256(self.content(stem + MARKER)) == base

    def _copy_all(self, source: str, files: Mapping[str, list[str] | None]) -> None:
        for name, samples in files.items():
            self.check()
            if samples is None:
                self._copy([f"{source}/{name}"], [f"{self._root}/{name}"])
            else:
                self._copy_folder(f"{source}/{name}", name, samples)

    def _copy_folder(self, source: str, name: str, samples: list[str]) -> None:
        """Have *samples*, of *source*, be those of the folder *name*; files of other people in it stay.

        They are not looked up: another may have carried this out, and be taking *source* away.
        """
        for begin in range(0, len(samples), COPIED):
            self._patience(self._lease.glance)
            some = samples[begin : begin + COPIED]
            self._copy([f"{source}/{entry}" for entry in some], [f"{self._root}/{name}/{entry}" for entry in some])
        there = {entry for entry, _ in self.names(name) if SAMPLE_NAME.fullmatch(entry)}
        self.remove([f"{name}/{entry}" for entry in sorted(there.difference(samples))])

    def _copy(self, sources: list[str], finals: list[str]) -> None:
        for parent in {final.rpartition("/")[0] for final in finals} - {self._root}:
            self._make_folder(parent)
        if not self._renames:
            self._patience(self._fs.copy, sources, finals, on_error="raise")
            return
        self._make_folder(f"{self._root}/{ATTEMPTS}/{self._own}")
        self._patience(self._copy_apart, sources, finals)

    def _copy_apart(self, sources: list[str], finals: list[str]) -> None:
        """Copy where a copy is seen while it is written: one that is cut off must not be what is left of a file."""
        partials = [f"{self._root}/{ATTEMPTS}/{self._own}/{uuid.uuid4().hex}{PARTIAL}" for _ in finals]
        self._fs.copy(sources, partials, on_error="raise")
        for partial, final in zip(partials, finals, strict=True):
            self._rename(partial, final)


def _sha256(marker: bytes) -> str | None:
    return hashlib.sha256(marker).hexdigest() if marker else None


def _stem(name: str) -> str:
    """Return the number of the shard that a file or folder is of, as it is written."""
    return name.removesuffix(MARKER).partition(".")[0]
