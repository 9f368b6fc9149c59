"""The Hugging Face Hub: what a repository of it has, and what is put there, some files at a time, in few commits.

The only module that imports huggingface_hub, whose own configuration says who asks and where. An outage is outlasted,
as one of an object store is, once the Hub has answered at all.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import quote, unquote

from async_img2ds.errors import OptionsError, StorageError
from async_img2ds.storage.patience import OUTAGE_MOST_S, Patience, in_a_line, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Addition", "Destination", "Hub", "There"]

T = TypeVar("T")

_KIND: Final = "dataset"
# What it answers whoever may not, or may not know that there is something.
_REFUSED: Final = frozenset({401, 403, 404})
_PLACE: Final = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)(?:@(refs/pr/[0-9]+|[^/@?#]+))?/?")
# A pull request has a branch that the Hub makes itself.
_PULL_REQUEST: Final = "refs/pr/"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
# Sent at the same time, as is huggingface_hub's own default.
_THREADS: Final = 5


@dataclass(frozen=True, slots=True)
class Destination:
    """A *branch* of the dataset *repo*, such as ``org/name``, on the Hub."""

    repo: str
    branch: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read it as people type it, which is as fsspec knows it.

        Raises:
            OptionsError: it is no dataset on the Hub.

        """
        found = _PLACE.fullmatch(url)
        if found is None:
            raise OptionsError(
                "destination takes a dataset on the Hub, as hf://datasets/ORG/NAME or hf://datasets/ORG/NAME@BRANCH "
                f"(a / in the branch as %2F); got {url!r}"
            )
        branch = unquote(found[2] or "main")
        if _COMMIT.fullmatch(branch):
            raise OptionsError(f"destination: {branch} is a commit, to which nothing can be added; name a branch")
        return cls(found[1], branch)

    @property
    def url(self) -> str:
        """Where it is, as fsspec knows it."""
        return f"hf://datasets/{self.repo}" + ("" if self.branch == "main" else f"@{quote(self.branch, safe='')}")


@dataclass(frozen=True, slots=True)
class There:
    """A file that the Hub has: its *size*, and its sha256, or that of git if it keeps it as text."""

    size: int
    sha256: str | None
    git_sha1: str


@dataclass(frozen=True, slots=True)
class Addition:
    """A file to be put at *path*: what is in it, and the sha256 that it must have."""

    path: str
    source: Path | bytes
    sha256: str


class Hub:
    """A place on the Hub that is written to: files are sent as they come, and appear by commits."""

    def __init__(self, destination: Destination) -> None:
        """Write to *destination*; nothing is asked yet."""
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.hf_api
        import huggingface_hub.utils

        self._destination = destination
        self._library = huggingface_hub
        self._api = huggingface_hub.HfApi(library_name="async-img2ds")
        self._patience = Patience()
        self._sent: list[Any] = []

    def begin(self, *, private: bool) -> None:
        """Make the repository and the branch, if they are not there.

        Raises:
            OptionsError: it may not be written to, or it is public and must be *private*.
            StorageError: the Hub does not answer as it should.

        """
        repo, branch = self._destination.repo, self._destination.branch
        api = self._api
        self._ask(partial(api.create_repo, repo, repo_type=_KIND, private=private or None, exist_ok=True))
        is_private = bool(self._ask(partial(api.dataset_info, repo)).private)
        if private and not is_private:
            raise OptionsError(f"private: {repo} is there, and public; make it private on its page, or leave --private")
        if branch != "main" and not branch.startswith(_PULL_REQUEST):
            self._ask(partial(api.create_branch, repo, branch=branch, repo_type=_KIND, exist_ok=True))
        self._patience = Patience(OUTAGE_MOST_S, "the Hub")

    def there(self) -> dict[str, There]:
        """Return the files that it has, by path."""
        entries = self._ask(lambda: list(self._api.list_repo_tree(**self._where(), recursive=True)))
        return {
            entry.path: There(entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
            for entry in entries
            if isinstance(entry, self._library.hf_api.RepoFile)
        }

    def read(self, path: str) -> str:
        """Return the text of the file *path*."""
        with tempfile.TemporaryDirectory() as folder, self._quiet():
            self._ask(partial(self._download, path, folder))
            return Path(folder, path).read_bytes().decode(errors="replace")

    def _download(self, path: str, folder: str) -> None:
        try:
            self._api.hf_hub_download(**self._where(), filename=path, local_dir=folder)
        except self._library.errors.LocalEntryNotFoundError as error:  # so it says that it could not ask: it may pass
            raise OSError(in_a_line(error)) from error.__cause__

    def send(self, additions: Sequence[Addition]) -> list[bool]:
        """Send what is in *additions*, for the next commit; return of each whether its source is needed no more.

        Raises:
            StorageError: one is not what it should be, or the Hub does not answer as it should.

        """
        if not additions:
            return []
        operations = [self._operation(each) for each in additions]
        with self._quiet():
            self._ask(
                partial(self._api.preupload_lfs_files, additions=operations, num_threads=_THREADS, **self._where())
            )
        self._sent += operations
        return [operation.path_or_fileobj == b"" for operation in operations]  # those that go as text go with it

    def _operation(self, addition: Addition) -> Any:  # noqa: ANN401  huggingface_hub's own
        """Return what the library knows of *addition*, for which it reads it once."""
        try:
            operation = self._library.CommitOperationAdd(addition.path, addition.source)
        except ValueError as error:  # so it says that there is no such file
            raise StorageError(f"{addition.path} cannot be read: {in_a_line(error)}") from error
        if operation.upload_info.sha256.hex() != addition.sha256:
            raise StorageError(f"{addition.path} was changed since it was written; aimg2ds verify says what is wrong")
        return operation

    def commit(self, message: str, deletions: Sequence[str] = ()) -> None:
        """Have all that was sent appear, and *deletions* disappear, at once."""
        with self._quiet():
            self._ask(partial(self._commit, message, deletions))
        self._sent = []

    def _commit(self, message: str, deletions: Sequence[str]) -> None:
        """Do it, also if it was done before and its answer was lost: what is not there cannot be deleted."""
        found = self._api.get_paths_info(paths=list(deletions), **self._where()) if deletions else []
        gone = [self._library.CommitOperationDelete(path_in_repo=each.path, is_folder=False) for each in found]
        if operations := [*self._sent, *gone]:
            self._api.create_commit(operations=operations, commit_message=message, **self._where())

    def _where(self) -> dict[str, Any]:
        return {"repo_id": self._destination.repo, "repo_type": _KIND, "revision": self._destination.branch}

    def _ask(self, question: Callable[[], T]) -> T:
        """Return what the Hub answers, in the end; say what it says, or what is said of it, in a line.

        Raises:
            OptionsError: whoever asks may not, or what is named cannot be.
            StorageError: it does not answer as it should.

        """
        try:
            return self._patience(self._answer, question)
        except OSError as error:
            raise StorageError(f"the Hub: {_words(error)}; the same command goes on") from error

    def _answer(self, question: Callable[[], T]) -> T:
        """Return the answer, or say what no patience helps against."""
        try:
            return question()
        except self._library.errors.HFValidationError as error:
            raise OptionsError(f"destination: {in_a_line(error)}") from error
        except Exception as error:  # its client's, its own, the operating system's
            is_unknown = isinstance(error, self._library.errors.LocalTokenNotFoundError)
            if is_unknown or status_of(error) in _REFUSED:
                raise OptionsError(
                    f"destination: the Hub does not let you write to {self._destination.repo} ({_words(error)}); "
                    "log in by `hf auth login` or set HF_TOKEN, to a token that may"
                ) from error
            raise

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Have no bars of another library between ours."""
        bars = self._library.utils
        were_off = bars.are_progress_bars_disabled()
        bars.disable_progress_bars()
        try:
            yield
        finally:
            if not were_off:
                bars.enable_progress_bars()


def _words(error: BaseException) -> str:
    """Return in a line what *error* comes from, which says more than what a client made of it, and the Hub's words."""
    message = None
    while True:
        message = getattr(error, "server_message", None) or message
        if error.__cause__ is None:
            break
        error = error.__cause__
    return in_a_line(error) + (f": {' '.join(str(message).split())}" if message else "")
