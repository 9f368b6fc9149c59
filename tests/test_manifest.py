"""What a dataset is said to have: true of every file, checked by other programs, and never believed once it is old."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from async_img2ds import OptionsError, StorageError, download, manifest, purge, retry, summary, verify
from async_img2ds.outputs.base import WRITERS
from async_img2ds.policy.shards import DATA_ENDINGS
from async_img2ds.storage import LISTINGS_BEFORE, MANIFEST, SETTINGS, SUMS, WIDS, LocalStore
from policy.test_markers import IMG2DATASETS
from test_cli import aimg2ds
from test_summary import markers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from origin import Origin

ROWS = 7
PATHS = ("rocket.jpg", "coffee.png", "no-such.jpg", "truncated.jpg", "chelsea.webp", "camera-gray.jpg", "coins.gif")
QUIET: dict[str, Any] = {"allow_net": "127.0.0.0/8", "progress": "none", "retries": 0, "processes_count": 1}
SHAPE: dict[str, Any] = {"number_sample_per_shard": 3, "image_size": 64}


@pytest.fixture(scope="module")
def whole(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a dataset of three shards in a format, which nobody is to touch."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "urls.txt").write_text("".join(f"{origin.url(path)}\n" for path in PATHS))
    for name in WRITERS:
        download(folder / "urls.txt", output_folder=folder / name, output_format=name, **SHAPE, **QUIET)
    return lambda name: folder / name


@pytest.fixture
def dataset(whole: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a copy of it."""

    def copied(name: str) -> Path:
        shutil.copytree(whole(name), tmp_path / name)
        return tmp_path / name

    return copied


def made(folder: Path | str, **options: Any) -> Any:
    return manifest(str(folder), progress="none", **options)


def told(folder: Path) -> Any:
    return json.loads((folder / MANIFEST).read_bytes())


def shell(line: str, folder: Path) -> str:
    """Return what a shell says to *line* in *folder*."""
    return subprocess.run(["sh", "-c", line], cwd=folder, check=True, capture_output=True, text=True).stdout


def sha256sum_checks(folder: Path) -> int:
    """Have ``sha256sum -c`` at the sums; return of how many files it says that all is well."""
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS], cwd=folder, check=False, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout
    return done.stdout.count(": OK\n")


def as_img2dataset_leaves_it(folder: Path) -> Path:
    """Take out of the stats files what img2dataset's do not have."""
    for path in folder.glob("*_stats.json"):
        stats = json.loads(path.read_bytes())
        path.write_text(json.dumps({name: stats[name] for name in IMG2DATASETS}))
    return folder


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_all_files_are_told_with_their_sums(dataset: Callable[[str], Path], name: str) -> None:
    """In every format: rows, images and files of each shard, and what they come to."""
    folder = dataset(name)
    report = made(folder)
    content = told(folder)
    files = {one["name"]: one for shard in content["shards"] for one in shard["files"]}

    assert [shard["shard"] for shard in content["shards"]] == [0, 1, 2]
    assert [(shard["rows"], shard["images"]) for shard in content["shards"]] == [(3, 2), (3, 2), (1, 1)]
    assert set(files) == {path.name for path in folder.iterdir()} - {MANIFEST, SUMS, WIDS, SETTINGS}
    for one in files.values():
        if "files" not in one:
            there = (folder / one["name"]).read_bytes()
            assert (one["bytes"], one["sha256"]) == (len(there), hashlib.sha256(there).hexdigest())
    head = content["dataset"]
    assert (head["shards"], head["rows"], head["images"]) == (3, ROWS, 5)
    assert (head["files"], head["bytes"]) == (len(files), sum(one["bytes"] for one in files.values()))
    assert [each["shards"] for each in head["made_with"]] == [3]
    assert head["made_with"][0]["options"]["output_format"] == name
    assert (report.shards, report.rows, report.successes, report.files) == (3, ROWS, 5, len(files))


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_sha256sum_checks_what_is_there(dataset: Callable[[str], Path], name: str) -> None:
    """Every file but the samples of a folder, for which the stats files have one sum."""
    folder = dataset(name)
    report = made(folder)
    in_folder = len([path for path in folder.iterdir() if path.is_file() and path.name != SETTINGS])

    assert sha256sum_checks(folder) == in_folder - len(report.written)
    assert report.folders_unlisted == (3 if name == "files" else 0)
    assert ("--compute" in aimg2ds("manifest", str(folder)).stdout) == (name == "files")


def test_samples_are_summed_one_by_one_on_request(dataset: Callable[[str], Path]) -> None:
    """Then all files of the folders are checked, too, and the manifest stays the same."""
    folder = dataset("files")
    made(folder)
    before = (folder / MANIFEST).read_bytes()
    made(folder, compute=True)

    assert (
        sha256sum_checks(folder)
        == len([path for path in folder.rglob("*") if path.is_file() and path.name != SETTINGS]) - 2
    )
    assert (folder / MANIFEST).read_bytes() == before


def test_a_folder_that_was_changed_is_not_summed_anew(dataset: Callable[[str], Path]) -> None:
    """What is damaged must not be signed as if it were whole, and nothing is left of the attempt."""
    folder = dataset("files")
    next(folder.glob("00001/*.jpg")).write_bytes(b"x")
    with pytest.raises(StorageError, match="00001 was changed since it was written"):
        made(folder, compute=True)

    assert not [path for path in folder.iterdir() if path.name.startswith("_")]


def test_a_folder_is_checked_by_hand_as_the_page_says(dataset: Callable[[str], Path]) -> None:
    """``sha256sum * | sha256sum`` in it prints the sum that the manifest has."""
    folder = dataset("files")
    made(folder)
    [one] = [one for one in told(folder)["shards"][0]["files"] if one["name"] == "00000"]

    assert shell("sha256sum * | sha256sum", folder / "00000").split()[0] == one["sha256"]


def test_wids_index_counts_what_is_in_the_tars(dataset: Callable[[str], Path]) -> None:
    """For webdataset, and for nothing else."""
    folder = dataset("webdataset")
    made(folder)
    index = json.loads((folder / WIDS).read_bytes())

    assert (index["__kind__"], index["wids_version"]) == ("wids-shard-index-v1", 1)
    assert [(each["url"], each["nsamples"]) for each in index["shardlist"]] == [
        ("00000.tar", 2),
        ("00001.tar", 2),
        ("00002.tar", 1),
    ]
    assert all(each["filesize"] == (folder / each["url"]).stat().st_size for each in index["shardlist"])
    other = dataset("parquet")
    made(other)
    assert not (other / WIDS).exists()


def test_the_first_line_is_the_dataset_and_each_other_a_shard(dataset: Callable[[str], Path]) -> None:
    """So that a manifest of any size is read without all of it being held."""
    folder = dataset("webdataset")
    made(folder)
    first, second, *shards, last = (folder / MANIFEST).read_text().splitlines()

    assert json.loads(first.rstrip(",") + "}")["dataset"] == told(folder)["dataset"]
    assert (second, last) == ('"shards": [', "]}")
    assert [json.loads(line.rstrip(","))["name"] for line in shards] == ["00000", "00001", "00002"]


def test_manifest_of_a_version_before_is_read_and_replaced(dataset: Callable[[str], Path]) -> None:
    """By the names that it had: it is told to be old, and goes with the first shard that changes or with the next."""
    folder = dataset("webdataset")
    manifest(str(folder), progress="none")
    for new, old in zip((SUMS, WIDS, MANIFEST), LISTINGS_BEFORE, strict=True):
        (folder / new).rename(folder / old)
    true = summary(str(folder), progress="none").manifest
    (folder / "00000_stats.json").unlink()
    old = summary(str(folder), progress="none").manifest
    manifest(str(folder), progress="none")

    assert true == ""
    assert f"{LISTINGS_BEFORE[-1]} is not of the shards that are there" in old
    assert not {*LISTINGS_BEFORE} & {path.name for path in folder.iterdir()}


def test_the_same_dataset_has_the_same_manifest(dataset: Callable[[str], Path]) -> None:
    """Byte for byte, so that a copy's can be compared."""
    folder = dataset("webdataset")
    made(folder)
    before = (folder / MANIFEST).read_bytes()
    made(folder)

    assert (folder / MANIFEST).read_bytes() == before


def test_the_digest_of_the_markers_is_what_a_shell_says(dataset: Callable[[str], Path]) -> None:
    """Whoever has no program of ours can see whether the manifest is true."""
    folder = dataset("webdataset")
    made(folder)

    assert told(folder)["dataset"]["markers_sha256"] == shell("sha256sum *_stats.json | sha256sum", folder).split()[0]


def test_a_true_manifest_is_no_news(dataset: Callable[[str], Path]) -> None:
    """Neither to those that look nor to a fetch that has nothing to do."""
    folder = dataset("webdataset")
    made(folder)
    listed = folder.parent / "urls.txt"
    listed.write_text("".join(f"http://10.0.0.1/{at}\n" for at in range(ROWS)))
    download(listed, output_folder=folder, output_format="webdataset", resume_anyway=True, **SHAPE, **QUIET)

    assert verify(str(folder), progress="none").manifest == ""
    assert summary(str(folder), progress="none").manifest == ""
    assert verify(str(folder), progress="none").good


@pytest.mark.parametrize("change", ["more", "fewer", "other", "damaged"])
def test_an_old_manifest_is_noticed(dataset: Callable[[str], Path], change: str) -> None:
    """Whoever has changed shards without this program: said by all that look, and mended by making it anew."""
    folder = dataset("webdataset")
    made(folder)
    if change == "more":
        for path in list(folder.glob("00002*")):
            shutil.copy(path, folder / path.name.replace("00002", "00003"))
    elif change == "fewer":
        (folder / "00002_stats.json").unlink()
    elif change == "other":
        stats = json.loads((folder / "00001_stats.json").read_bytes())
        (folder / "00001_stats.json").write_text(json.dumps(stats))
    else:
        (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:100])
    words = "is not of the shards that are there" if change != "damaged" else "is none that this program has written"

    assert words in verify(str(folder), progress="none").manifest
    assert words in summary(str(folder), progress="none").manifest
    assert f"note: {MANIFEST} {words}" in aimg2ds("summary", str(folder)).stdout
    assert f"note: {MANIFEST} {words}" in aimg2ds("verify", str(folder)).stdout
    made(folder)
    assert summary(str(folder), progress="none").manifest == ""


def test_whoever_changes_shards_removes_it_and_says_so(
    dataset: Callable[[str], Path], origin: Origin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A retry, a removal, a repair, more rows, a fetch from the beginning: what it said would not be true any more."""
    folder = dataset("webdataset")
    (tmp_path / "more.txt").write_text(origin.url("rocket.jpg?more"))
    (tmp_path / "hosts.txt").write_text("127.0.0.1\n")

    def repair() -> None:
        (folder / "00000.tar").unlink()
        verify(str(folder), repair=True, progress="none")

    commands: list[Callable[[], object]] = [
        lambda: retry(str(folder), error_class=["decode_truncated"], **QUIET),
        lambda: download(
            tmp_path / "more.txt",
            output_folder=folder,
            output_format="webdataset",
            incremental_mode="extend",
            **SHAPE,
            **QUIET,
        ),
        lambda: purge(str(folder), hosts=tmp_path / "hosts.txt", progress="none"),
        repair,
        lambda: download(
            tmp_path / "more.txt",
            output_folder=folder,
            output_format="webdataset",
            incremental_mode="overwrite",
            **SHAPE,
            **QUIET,
        ),
    ]
    for command in commands:
        made(folder)
        caplog.clear()
        command()

        assert not [path for path in folder.iterdir() if path.name in (MANIFEST, SUMS, WIDS)]
        assert f"removed {SUMS}, {WIDS}, {MANIFEST}, as shards change" in caplog.text


def test_those_that_change_nothing_leave_it(dataset: Callable[[str], Path], tmp_path: Path) -> None:
    """A retry and a removal that find nothing to do, and a repair of what is whole."""
    folder = dataset("webdataset")
    (tmp_path / "hosts.txt").write_text("elsewhere.example\n")
    made(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name in (MANIFEST, SUMS, WIDS)}
    retry(str(folder), error_class=["dns_timeout"], **QUIET)
    purge(str(folder), hosts=tmp_path / "hosts.txt", progress="none")
    verify(str(folder), repair=True, progress="none")

    assert len(before) == 3
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())


def test_shards_of_img2dataset_are_refused_unless_their_files_may_be_read(dataset: Callable[[str], Path]) -> None:
    """Their stats files have no sums: rather none at all than a list in which their files are missing."""
    folder = as_img2dataset_leaves_it(dataset("webdataset"))
    with pytest.raises(OptionsError, match=r"00000_stats.json was written by img2dataset.*--compute"):
        made(folder)

    assert not [path for path in folder.iterdir() if path.name.startswith("_")]


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_sums_of_img2datasets_files_are_computed(dataset: Callable[[str], Path], name: str) -> None:
    """The same as of ours."""
    folder = dataset(name)
    made(folder, compute=True)
    ours = told(folder)
    sums = [line for line in (folder / SUMS).read_text().splitlines() if not line.endswith("_stats.json")]
    as_img2dataset_leaves_it(folder)
    made(folder, compute=True)
    theirs = told(folder)

    assert [shard["files"][:-1] for shard in theirs["shards"]] == [shard["files"][:-1] for shard in ours["shards"]]
    assert [line for line in (folder / SUMS).read_text().splitlines() if not line.endswith("_stats.json")] == sums
    assert (theirs["dataset"]["made_with"][0]["options"], theirs["dataset"]["schema_versions"]) == (None, [])


@pytest.mark.parametrize("content", [b"", b"{}"])
def test_a_damaged_stats_file_is_refused(dataset: Callable[[str], Path], content: bytes) -> None:
    """A manifest that leaves a shard out would look whole."""
    folder = dataset("webdataset")
    (folder / "00001_stats.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"00001_stats\.json is"):
        made(folder)

    assert not (folder / MANIFEST).exists()


def test_a_shard_that_is_half_replaced_is_refused(dataset: Callable[[str], Path]) -> None:
    """On an object store its files may not be those of which its stats file tells."""
    folder = dataset("webdataset")
    (folder / "00001.redo").touch()
    with pytest.raises(StorageError, match="shard 00001 is half replaced"):
        made(folder)


def test_a_folder_that_is_written_to_is_refused(dataset: Callable[[str], Path]) -> None:
    """What is written down would be of a moment."""
    folder = dataset("webdataset")
    store = LocalStore(folder)
    store.prepare()
    try:
        done = aimg2ds("manifest", str(folder))
    finally:
        store.close()

    assert done.returncode == 3
    assert "another run is writing" in done.stderr
    assert not (folder / MANIFEST).exists()


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    """And none is made."""
    with pytest.raises(OptionsError, match="no finished shard"):
        made(tmp_path / "not-there")

    assert not (tmp_path / "not-there").exists()


def test_it_is_written_to_any_file_system(dataset: Callable[[str], Path]) -> None:
    """The same as on disk."""
    folder = dataset("webdataset")
    made(folder)
    before = {name: (folder / name).read_bytes() for name in (MANIFEST, SUMS, WIDS)}
    for name in before:
        (folder / name).unlink()
    made(f"simplecache::file://{folder}")

    assert {name: (folder / name).read_bytes() for name in before} == before
    assert not [path for path in folder.iterdir() if path.name.startswith(".") and path.name != SETTINGS]


def test_what_a_killed_attempt_has_left_is_swept(dataset: Callable[[str], Path]) -> None:
    """By the next run, and told by those that look."""
    folder = dataset("webdataset")
    for name in (MANIFEST, SUMS, WIDS):
        (folder / f"{name}.partial").mkdir()
        (folder / f"{name}.partial" / "01234567").touch()

    assert len(verify(str(folder), progress="none").unfinished) == 3
    made(folder)
    assert not list(folder.glob("*.partial"))


def test_an_index_of_tars_that_are_gone_goes(dataset: Callable[[str], Path]) -> None:
    """A folder that has tables now and had tars before."""
    folder = dataset("parquet")
    (folder / WIDS).write_text("{}")
    made(folder)

    assert not (folder / WIDS).exists()


def test_options_are_told_by_their_place(tmp_path: Path) -> None:
    """Each shard says which of the sets it was made with; missing numbers are told."""
    folder = markers(tmp_path / "out", 0, 3)
    markers(folder, 2, made_with={"image_size": 512})
    report = made(folder)
    content = told(folder)

    assert [each["options"] for each in content["dataset"]["made_with"]] == [{"image_size": 256}, {"image_size": 512}]
    assert [shard["made_with"] for shard in content["shards"]] == [0, 1, 0]
    assert (report.missing, content["dataset"]["missing"], content["dataset"]["missing_first"]) == (1, 1, [[1, 1]])


def test_endings_are_those_of_every_format(whole: Callable[[str], Path]) -> None:
    """Those that are looked for where the stats files do not tell them."""
    there = {path.suffix[1:] for name in WRITERS for path in whole(name).iterdir() if path.stem.isdigit()} - {""}

    assert there == DATA_ENDINGS
