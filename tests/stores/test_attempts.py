"""Attempts of engines at one shard, at real servers: the files of one appear, whole, wherever the dataset lies."""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from async_img2ds import OptionsError
from async_img2ds.storage import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stores.servers import Place

FILES = ("00000.tar", "00000.parquet")
SAMPLES = tuple(f"00000000{number}.jpg" for number in range(3))
MARKER = "00000_stats.json"
ATTEMPTS = 3


@pytest.fixture(params=["s3", "azure", "sftp"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each of the servers at which only the first can make an object."""
    found: Place = request.getfixturevalue(request.param)
    return found


@contextmanager
def held(url: str) -> Iterator[Store]:
    store = open_store(url, contested=True)
    try:
        store.prepare()
        yield store
    finally:
        store.close()


def staged(store: Store, word: bytes) -> Store:
    """Return what an attempt commits with that has *word* in all its files."""
    attempt = store.apart()
    for name in (*FILES, MARKER):
        attempt.stage(name).write_bytes(word)
    folder = attempt.stage("00000")
    folder.mkdir()
    for name in SAMPLES:
        (folder / name).write_bytes(word)
    return attempt


def publish(attempt: Store) -> None:
    for name in (*FILES, "00000", MARKER):
        attempt.publish(name)


def replace(attempt: Store) -> None:
    attempt.replace((*FILES, "00000", MARKER))


def all_at_once(store: Store, commit: Callable[[Store], None]) -> list[BaseException]:
    """Have attempts commit at the same moment; return what went wrong."""
    barrier, wrong = threading.Barrier(ATTEMPTS), []

    def work(number: int) -> None:
        attempt = staged(store, b"ABC"[number : number + 1] * 1000)
        try:
            barrier.wait()
            commit(attempt)
        except BaseException as error:  # noqa: BLE001  told to the test
            wrong.append(error)
        finally:
            attempt.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(ATTEMPTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def made(place: Place, url: str) -> dict[str, bytes]:
    """Return what lies at *url*, hidden or not."""
    return {name: place.fs.cat_file(f"{place.path(url)}/{name}") for name in place.files(url)}


WHOLE = {*FILES, MARKER, *(f"00000/{name}" for name in SAMPLES)}


def test_attempts_that_commit_at_once_leave_the_files_of_one(place: Place) -> None:
    """Again and again; nothing of the others is left, nor of what they have settled it by."""
    for _ in range(4):
        url = f"{place.root}/{uuid.uuid4().hex[:8]}"
        with held(url) as store:
            assert all_at_once(store, publish) == []
        found = made(place, url)
        assert found.keys() == WHOLE
        assert len(set(found.values())) == 1
    assert place.pending() == []


def test_attempts_that_replace_a_shard_at_once_leave_the_files_of_one(place: Place) -> None:
    """As a retry or a removal on an engine does; no file of the old ones stays."""
    url = f"{place.root}/{uuid.uuid4().hex[:8]}"
    with held(url) as store:
        first = staged(store, b"old")
        publish(first)
        first.release()
        assert all_at_once(store, replace) == []
    found = made(place, url)

    assert found.keys() == WHOLE
    assert len(set(found.values())) == 1
    assert b"old" not in found.values()


def test_server_that_takes_the_condition_for_nothing_is_refused(gcs: Place) -> None:
    """This stand-in for Cloud Storage does not heed it: the last of two would count, so nothing is begun."""
    url = f"{gcs.root}/{uuid.uuid4().hex[:8]}"
    with pytest.raises(OptionsError, match="cannot make a file only where there is none"), held(url):
        pass

    assert gcs.files(url) == {}
