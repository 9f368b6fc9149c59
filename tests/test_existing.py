"""What an earlier run left: found, known by its URLs, and deleted without anything of anybody else's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.arrow import ArrowFSWrapper
from hypothesis import given
from hypothesis import strategies as st

from async_img2ds import existing
from async_img2ds.errors import InputError
from async_img2ds.policy.url_sets import KnownUrls
from async_img2ds.storage import LocalStore, RemoteStore

if TYPE_CHECKING:
    from async_img2ds.storage import Store

OURS = (
    *("00000.tar", "00000.parquet", "00000_stats.json", "00001.tfrecord", "00001_stats.json"),
    "00001.redo",  # of a replacement that was cut off in an object store
    *("007.tar", "007_stats.json"),  # another number of digits, but marked
    *("00002_stats.json", "00002/000020000.jpg", "00002/000020000.json", "00002/000020001.webp"),
    *("00003_stats.json", "00003/000030000.txt"),
)
OTHERS = (
    *(
        "README.md",
        "notes_stats.json",
        "stats.json",
        "2023.tar",
        "2023.redo",
        "20231.parquet",
        "1.parquet",
        "00000.zip",
        "00000.tar.gz",
        "-1.tar",
    ),
    *("00003/cover.jpg", "00003/deep/000030000.jpg", "other/000000000.jpg", "2023/000000000.jpg", "\u0661.tar"),
)


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, Path]:
    """A store and the folder on disk in which its files lie, once as such and once through fsspec."""
    root = tmp_path / "out"
    root.mkdir()
    if request.param == "local":
        return LocalStore(root), root
    return RemoteStore(fsspec.filesystem("file"), str(root), tmp_path / "staging"), root


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"{}")


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_only_what_was_written_by_a_run_is_deleted(folder: tuple[Store, Path]) -> None:
    """Shards go, whole; whatever else lies there stays."""
    store, root = folder
    write(root, *OURS, *OTHERS)
    existing.clear(store)

    assert files(root) == set(OTHERS)


def test_folders_of_shards_go_when_they_are_empty(tmp_path: Path) -> None:
    """And stay when something lies in them that is not a sample."""
    write(tmp_path, *OURS, *OTHERS)
    existing.clear(LocalStore(tmp_path))

    assert not (tmp_path / "00002").exists()
    assert (tmp_path / "00003" / "cover.jpg").exists()


def test_markers_are_deleted_before_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deletion that is killed leaves no shard that looks finished and is not."""
    write(tmp_path, *OURS)
    order: list[str] = []
    unlink = Path.unlink

    def watched(path: Path, *, missing_ok: bool = False) -> None:
        order.append(path.name)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    existing.clear(LocalStore(tmp_path))

    markers = [name.endswith("_stats.json") for name in order]
    assert len(order) == len(OURS)
    assert markers == sorted(markers, reverse=True)


def test_empty_marker_marks_nothing(folder: tuple[Store, Path]) -> None:
    """A crash may leave one; the shard is done again."""
    store, root = folder
    write(root, "00000_stats.json", "00007_stats.json", "123456_stats.json", "x_stats.json", "00009.tar")
    (root / "00001_stats.json").touch()

    assert set(existing.finished_shards(store)) == {0, 7, 123456}


def test_urls_of_finished_shards_are_known(folder: tuple[Store, Path]) -> None:
    """Those of images and of failures; not those of a shard that is not finished."""
    store, root = folder
    for stem, urls in (("00000", ["a", None]), ("00001", ["b"]), ("00002", ["c"])):
        pq.write_table(
            pa.table({"url": pa.array(urls, pa.string()), "status": ["success"] * len(urls)}), root / f"{stem}.parquet"
        )
    write(root, "00000_stats.json", "00001_stats.json")
    known = existing.known_urls(store)

    assert [url in known for url in ("a", None, "b", "c", "A")] == [True, True, True, False, False]
    assert len(known) == 3


def test_shard_without_its_table_is_said(folder: tuple[Store, Path]) -> None:
    """Rather than fetched again without a word."""
    store, root = folder
    write(root, "00000_stats.json")

    with pytest.raises(InputError, match=r"00000\.parquet"):
        existing.known_urls(store)


@given(st.sets(st.text()), st.text())
def test_known_urls_are_a_set(urls: set[str], other: str) -> None:
    """Whatever is in them is found, and nothing else."""
    known = KnownUrls(map(KnownUrls.hash_of, urls))

    assert all(url in known for url in urls)
    assert (other in known) == (other in urls)


def test_folder_is_removed_only_when_it_is_empty_wherever_it_lies(tmp_path: Path) -> None:
    """Some file systems take no list of files to remove, and remove a folder with all that is in it (HDFS by Arrow)."""
    write(tmp_path, *OURS, *OTHERS)
    fs = ArrowFSWrapper(pa.fs.LocalFileSystem())
    existing.clear(RemoteStore(fs, str(tmp_path), tmp_path / "staging"))

    assert files(tmp_path) == set(OTHERS)


def test_new_shards_are_numbered_above_what_a_killed_run_has_left(folder: tuple[Store, Path]) -> None:
    """Its files have no marker, and nobody knows what is in them; journals are not read with another numbering."""
    store, root = folder
    write(root, "00000.tar", "00000_stats.json", "00003.tar", "00005/000050000.jpg", "notes.txt", "00009.journal/0000")

    assert existing.STARTS["extend"](store).first_shard == 6
