"""Where the members of a tar lie: told truly by a run, a retry and a removal, made of any tar, and checked."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from async_img2ds import OptionsError, StorageError, download, manifest, purge, verify
from async_img2ds.outputs.tar import member
from async_img2ds.policy.tar_index import END, TarIndex
from async_img2ds.storage import LocalStore
from async_img2ds.storage.sums import sum_of
from samples import SAMPLES, write
from test_cli import aimg2ds
from test_manifest import as_img2dataset_leaves_it, sha256sum_checks
from test_retry_of_dataset import Web

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from origin import Origin

PATHS = ("no-such.jpg", "page.jpg", "rocket.jpg", "coffee.png", "truncated.jpg", "chelsea.webp", "coins.gif")
QUIET: dict[str, Any] = {"allow_net": "127.0.0.0/8", "progress": "none", "retries": 0, "processes_count": 1}
WITH = [(sample, sample.encoded) for sample in SAMPLES if sample.encoded is not None]
SHAPE: dict[str, Any] = {"output_format": "webdataset", "number_sample_per_shard": 2, "resize_mode": "keep_ratio"}


@pytest.fixture(scope="module")
def whole(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """Return the folder of a dataset with or without indexes, which nobody is to touch; its first tar is empty."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "urls.csv").write_text("url,text\n" + "".join(f"{origin.url(path)},ü {path}\n" for path in PATHS))
    listed: dict[str, Any] = {"url_list": folder / "urls.csv", "input_format": "csv", "caption_col": "text"}
    for tar_index in (True, False):
        out = folder / str(tar_index)
        download(**listed, output_folder=out, tar_index=tar_index, ordered=True, **SHAPE, **QUIET)
    return lambda tar_index: folder / str(tar_index)


@pytest.fixture
def dataset(whole: Callable[[bool], Path], tmp_path: Path) -> Callable[[bool], Path]:
    """Return a copy of it."""

    def copied(tar_index: bool) -> Path:  # noqa: FBT001  what the fixture above is asked
        shutil.copytree(whole(tar_index), tmp_path / "out")
        return tmp_path / "out"

    return copied


def check_true(folder: Path, stem: str) -> dict[str, bytes]:
    """See that the index of a tar is true by reading what it says by range; return the members read so."""
    index = json.loads((folder / f"{stem}.json").read_bytes())
    content = (folder / f"{stem}.tar").read_bytes()
    found = {name: content[one["offset"] :][: one["length"]] for name, one in index["files"].items()}
    with tarfile.open(folder / f"{stem}.tar") as tar:
        there = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]  # all are files

    assert (index["path"], index["filesize"]) == (f"{stem}.tar", len(content))
    assert found == there
    for name, one in index["files"].items():
        if name.endswith(".jpg"):
            assert Image.open(io.BytesIO(found[name])).size == (one["width"], one["height"])
        else:
            assert "width" not in one
    return found


def stems(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.tar"))


def test_members_are_read_by_range(whole: Callable[[bool], Path]) -> None:
    """Every one of every shard, of an empty tar none; images have their pixels told."""
    found = {stem: check_true(whole(True), stem) for stem in stems(whole(True))}

    assert [len(members) for members in found.values()] == [0, 6, 3, 3]


def test_only_that_file_is_more(whole: Callable[[bool], Path]) -> None:
    """By default nothing changes: the layout stays img2dataset's."""
    with_it, without = ({path.name for path in whole(each).iterdir()} for each in (True, False))

    assert with_it - without == {f"{stem}.json" for stem in stems(whole(True))}
    assert not without - with_it
    assert (whole(True) / "00001.tar").read_bytes() == (whole(False) / "00001.tar").read_bytes()


def test_stats_file_names_it(whole: Callable[[bool], Path]) -> None:
    """With its sum, as every file of a shard; so a retry knows that there is to be one."""
    stats = json.loads((whole(True) / "00001_stats.json").read_bytes())

    assert stats["files"]["00001.json"]["sha256"] == sum_of(whole(True) / "00001.json").sha256
    assert stats["made_with"]["tar_index"] is True


def test_samples_that_come_at_once_are_told_where_they_lie(tmp_path: Path) -> None:
    """Whichever waits for the disk: all are written in the same moment."""
    images = [replace(encoded, image=bytes(2**20 + at)) for at, (_, encoded) in enumerate(WITH)]
    big = [replace(sample, encoded=image) for (sample, _), image in zip(WITH, images, strict=True)]
    folder = write("webdataset", tmp_path / "out", [*big, *SAMPLES[1:2]], tar_index=True)
    index = TarIndex.parse((folder / "00012.json").read_bytes())
    with tarfile.open(folder / "00012.tar") as tar:
        there = {entry.name: (entry.offset_data, entry.size) for entry in tar}

    assert {name: (one.offset, one.length) for name, one in index.members.items()} == there
    assert len(there) == 3 * len(WITH)


@given(st.lists(st.integers(0, 2000), max_size=8))
def test_offsets_are_those_of_the_archive(lengths: list[int]) -> None:
    """For contents of any length, as tarfile finds them."""
    index, content = TarIndex("00000.tar"), b""
    for number, length in enumerate(lengths):
        index.append(f"{number}.jpg", length)
        content += b"".join(member(f"{number}.jpg", bytes(length)))
    content += END
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        there = {entry.name: (entry.offset_data, entry.size) for entry in tar}

    assert {name: (one.offset, one.length) for name, one in index.members.items()} == there
    assert index.size == len(content)
    assert TarIndex.parse(b"".join(index.to_json())) == index
    assert not list(index.differences(index))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"path": 1, "filesize": 2, "files": [1]}', "\0"])
def test_what_is_no_index_is_refused(content: str) -> None:
    """Whatever it is."""
    with pytest.raises(ValueError, match="no index of a tar"):
        TarIndex.parse(content.encode())


def test_refused_for_other_formats(tmp_path: Path) -> None:
    """Which have no tars."""
    done = aimg2ds("fetch", "urls.txt", "--output_format", "parquet", "--tar_index", cwd=tmp_path)

    assert done.returncode == 2
    assert "tar_index is about the tars of output_format webdataset; got parquet" in done.stderr


@pytest.mark.parametrize("ordered", [False, True])
def test_a_retry_and_a_removal_make_it_anew(tmp_path: Path, photographs: Path, *, ordered: bool) -> None:
    """The shards that change have other offsets."""
    web, out = Web(tmp_path, photographs), tmp_path / "out"
    web.fetch(out, output_format="webdataset", tar_index=True, ordered=ordered)
    before = {stem: check_true(out, stem) for stem in stems(out)}
    web.retry(out)
    healed = {stem: check_true(out, stem) for stem in stems(out)}

    assert verify(str(out), progress="none").good
    assert sum(map(len, healed.values())) > sum(map(len, before.values()))
    (tmp_path / "urls.txt").write_text(f"http://127.0.0.1:{web.up}/rocket.jpg?0\n")
    purge(str(out), urls=tmp_path / "urls.txt", progress="none")
    left = {stem: check_true(out, stem) for stem in stems(out)}
    assert set(healed["00000"]) - set(left["00000"]) == {f"000000.{ending}" for ending in ("jpg", "json", "txt")}
    assert verify(str(out), progress="none").good


def test_indexes_go_with_their_shards(dataset: Callable[[bool], Path], origin: Origin, tmp_path: Path) -> None:
    """When a dataset is begun anew without them; a file of such a name without a tar is somebody else's."""
    folder = dataset(True)
    (folder / "7.json").write_text("{}")
    (folder / "00000_notes.json").write_text("{}")
    (tmp_path / "one.txt").write_text(origin.url("rocket.jpg"))
    download(tmp_path / "one.txt", output_folder=folder, incremental_mode="overwrite", **SHAPE, **QUIET)

    assert {path.name for path in folder.glob("*.json")} == {"7.json", "00000_notes.json", "00000_stats.json"}


def test_what_a_killed_run_has_left_is_told_and_goes(dataset: Callable[[bool], Path], tmp_path: Path) -> None:
    """An index that belongs to no finished shard."""
    folder = dataset(True)
    (folder / "00003_stats.json").unlink()
    (folder / "9.json").write_text("{}")
    (tmp_path / "hosts.txt").write_text("elsewhere.example\n")

    assert "00003.json belongs to no finished shard" in verify(str(folder), progress="none").unfinished
    purge(str(folder), hosts=tmp_path / "hosts.txt", progress="none")
    assert not list(folder.glob("00003*"))
    assert (folder / "9.json").exists()


@pytest.mark.parametrize("begun_with", [False, True])
def test_going_on_without_it_is_told(
    whole: Callable[[bool], Path],
    dataset: Callable[[bool], Path],
    caplog: pytest.LogCaptureFixture,
    *,
    begun_with: bool,
) -> None:
    """And is no hindrance: whoever has made indexes of a dataset that is not finished has begun it without."""
    folder, listed = dataset(begun_with), whole(True).parent / "urls.csv"
    for path in folder.glob("00003*"):
        path.unlink()
    manifest(str(folder), tar_index=True, progress="none")
    columns = {"input_format": "csv", "caption_col": "text"}
    report = download(listed, output_folder=folder, ordered=True, **columns, **SHAPE, **QUIET)

    assert (report.shards_done, report.shards_skipped) == (1, 3)
    assert "tars that lie there have an index, and this run makes none" in caplog.text
    assert manifest(str(folder), tar_index=True, progress="none").indexed == 1
    assert verify(str(folder), progress="none").good


# What is done to the first index with members, and what is said of it. The stats file agrees with the sum.
DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "moved": (lambda told: told["files"]["000010.jpg"].update(offset=513), "bytes at 513, and in 00001.tar"),
    "longer": (lambda told: told["files"]["000011.json"].update(length=1), "has 1 bytes at"),
    "resized": (lambda told: told["files"]["000010.jpg"].update(width=1), "has a size of 1x"),
    "unsized": (lambda told: told["files"]["000010.jpg"].pop("width"), "has a size of Nonex"),
    "less": (lambda told: told["files"].pop("000010.txt"), "000010.txt is not in it"),
    "more": (lambda told: told["files"].update(x={"offset": 0, "length": 1}), "x is in it and not in 00001.tar"),
    "size": (lambda told: told.update(filesize=7), "says that 00001.tar has 7 bytes"),
    "other": (lambda told: told.update(path="00002.tar"), "is of 00002.tar"),
    "none": (lambda told: told.pop("files"), "is no index of a tar"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_finds_what_is_not_true(dataset: Callable[[bool], Path], damage: str) -> None:
    """By file and member, though its sum is what the stats file says."""
    folder = dataset(True)
    change, words = DAMAGES[damage]
    told = json.loads((folder / "00001.json").read_bytes())
    change(told)
    (folder / "00001.json").write_text(json.dumps(told))
    stats = json.loads((folder / "00001_stats.json").read_bytes())
    found = sum_of(folder / "00001.json")
    stats["files"]["00001.json"] = {"bytes": found.bytes, "sha256": found.sha256}
    (folder / "00001_stats.json").write_text(json.dumps(stats))
    defects = [str(defect) for defect in verify(str(folder), progress="none").defects]

    assert len(defects) == 1
    assert defects[0].startswith("00001.json: ")
    assert words in defects[0]


def test_verify_finds_one_that_is_gone_or_another(dataset: Callable[[bool], Path]) -> None:
    """As every file that the stats file names."""
    folder = dataset(True)
    (folder / "00001.json").unlink()
    (folder / "00002.json").write_text((folder / "00002.json").read_text() + " ")
    defects = [str(defect) for defect in verify(str(folder), progress="none").defects]

    assert defects[0] == "00001.json: is not there, and the stats file names it"
    assert defects[1].startswith("00002.json: has ")
    assert len(defects) == 2


def test_index_of_others_is_nobodys_fault(dataset: Callable[[bool], Path]) -> None:
    """One that the stats file does not name, as webshart's own program makes it."""
    folder = dataset(False)
    (folder / "00001.json").write_text("{}")

    assert verify(str(folder), progress="none").good


def test_a_dataset_gets_them_later(dataset: Callable[[bool], Path], whole: Callable[[bool], Path]) -> None:
    """The same as a run makes, of its tars' headers; from then on it is as if made with them."""
    folder = dataset(False)
    report = manifest(str(folder), tar_index=True, progress="none")

    assert report.indexed == 4
    for stem in stems(folder):
        ours, runs = (json.loads((each / f"{stem}_stats.json").read_bytes()) for each in (folder, whole(True)))
        assert (folder / f"{stem}.json").read_bytes() == (whole(True) / f"{stem}.json").read_bytes()
        assert (ours["files"][f"{stem}.json"], ours["made_with"]) == (runs["files"][f"{stem}.json"], runs["made_with"])
    assert verify(str(folder), progress="none").good
    assert sha256sum_checks(folder) == 16
    assert manifest(str(folder), tar_index=True, progress="none").indexed == 0
    assert "indexes of" not in aimg2ds("manifest", str(folder)).stdout


def test_tars_of_img2dataset_get_them_too(dataset: Callable[[bool], Path]) -> None:
    """Beside stats files that stay as they are."""
    folder = as_img2dataset_leaves_it(dataset(False))
    before = [path.read_bytes() for path in sorted(folder.glob("*_stats.json"))]
    with pytest.raises(OptionsError, match="--compute"):
        manifest(str(folder), tar_index=True, progress="none")
    manifest(str(folder), tar_index=True, compute=True, progress="none")

    assert [len(check_true(folder, stem)) for stem in stems(folder)] == [0, 6, 3, 3]
    assert [path.read_bytes() for path in sorted(folder.glob("*_stats.json"))] == before
    assert sha256sum_checks(folder) == 16


def test_retry_behind_it_makes_them_anew(tmp_path: Path, photographs: Path) -> None:
    """Of the shards that it replaces."""
    web, out = Web(tmp_path, photographs), tmp_path / "out"
    web.fetch(out, output_format="webdataset")
    manifest(str(out), tar_index=True, progress="none")
    web.retry(out)

    assert {stem for stem in stems(out) if check_true(out, stem)} == set(stems(out))
    assert verify(str(out), progress="none").good


@pytest.mark.parametrize("bytes_left", [700, 512 * 5, -512])
def test_a_damaged_tar_gets_none(dataset: Callable[[bool], Path], bytes_left: int) -> None:
    """What it said would be wrong; nor does its stats file change."""
    folder = dataset(False)
    before = (folder / "00001_stats.json").read_bytes()
    (folder / "00001.tar").write_bytes((folder / "00001.tar").read_bytes()[:bytes_left])
    with pytest.raises(StorageError, match=r"00001\.tar is (not what was written|cut off)"):
        manifest(str(folder), tar_index=True, progress="none")

    assert (folder / "00001_stats.json").read_bytes() == before
    assert not (folder / "00001.json").exists()
    assert not list(folder.glob("*.partial"))


def test_a_dataset_without_tars_is_refused(origin: Origin, tmp_path: Path) -> None:
    """There is nothing to index."""
    (tmp_path / "one.txt").write_text(origin.url("rocket.jpg"))
    download(tmp_path / "one.txt", output_folder=tmp_path / "out", output_format="parquet", **QUIET)
    with pytest.raises(OptionsError, match="there is no tar in this dataset"):
        manifest(str(tmp_path / "out"), tar_index=True, progress="none")


def test_made_on_any_file_system(dataset: Callable[[bool], Path]) -> None:
    """The same as on disk."""
    folder = dataset(False)
    manifest(f"simplecache::file://{folder}", tar_index=True, progress="none")

    assert [len(check_true(folder, stem)) for stem in stems(folder)] == [0, 6, 3, 3]
    assert verify(str(folder), progress="none").good
    assert LocalStore(folder).is_in_use() is False
