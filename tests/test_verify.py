"""Checking a dataset: what is whole is good, and whatever is done to it is found, by file and key."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from async_img2ds import OptionsError, download, verify
from async_img2ds.dataset.shards import ShardFiles, check_shard
from async_img2ds.outputs.base import WRITERS
from async_img2ds.outputs.example import ExampleEncoder, byte_features
from async_img2ds.outputs.tfrecord import record, records_in
from async_img2ds.policy.markers import Marker
from async_img2ds.storage import SETTINGS, LocalStore, RemoteStore
from async_img2ds.storage.holders import HOLDER, locked
from async_img2ds.storage.sums import sum_of
from test_cli import aimg2ds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from origin import Origin

ROWS = 7
# What each shard has: two images, a row that was not fetched, then one of either.
PATHS = ("rocket.jpg", "coffee.png", "no-such.jpg", "truncated.jpg", "chelsea.webp", "camera-gray.jpg", "coins.gif")
QUIET: dict[str, Any] = {"allow_net": "127.0.0.0/8", "progress": "none", "retries": 0, "processes_count": 1}


@pytest.fixture(scope="module")
def whole(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a dataset of three shards in a format, which nobody is to touch."""
    folder = tmp_path_factory.mktemp("whole")
    captions = [f"caption {number}" for number in range(ROWS)]
    listed = pa.table({"url": [origin.url(path) for path in PATHS], "caption": captions})
    pq.write_table(listed, folder / "urls.parquet")
    for name in WRITERS:
        options = {"url_list": folder / "urls.parquet", "input_format": "parquet", "caption_col": "caption"}
        download(**QUIET, **options, output_folder=folder / name, output_format=name, number_sample_per_shard=3)
    return lambda name: folder / name


@pytest.fixture
def dataset(whole: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a copy of it, to be damaged."""

    def copied(name: str) -> Path:
        shutil.copytree(whole(name), tmp_path / name)
        return tmp_path / name

    return copied


def findings(folder: Path, *, deep: bool = False) -> list[str]:
    """Return the defects of the shards in *folder*, in this process."""
    store = LocalStore(folder)
    found = []
    for path in sorted(folder.glob("*_stats.json")):
        stem = path.name.removesuffix("_stats.json")
        sizes: dict[str, int | None] = {
            each.name: None if each.is_dir() else each.stat().st_size
            for each in folder.iterdir()
            if each.name.removesuffix("_stats.json").partition(".")[0] == stem
        }
        found += check_shard(store, ShardFiles(stem, sizes), deep=deep)[1]
    return [str(defect) for defect in found]


def sign_again(folder: Path, **counts: int) -> None:
    """Have the first shard's stats file tell its files as they are now, so that only their content gives them away."""
    path = folder / "00000_stats.json"
    told = json.loads(path.read_bytes())
    for name in told["files"]:
        found = sum_of(folder / name)
        told["files"][name] |= {"bytes": found.bytes, "sha256": found.sha256}
        told["files"][name] |= {"files": found.files} if found.files is not None else {}
    path.write_text(json.dumps(told | counts))


def rewrite_tar(folder: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]) -> None:
    """Have *change* at the members of the first shard's archive."""
    with tarfile.open(folder / "00000.tar") as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]  # all are files
    change(members)
    with tarfile.open(folder / "00000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def change_records(folder: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Have *change* at the data of the first shard's records."""
    path = folder / "00000.tfrecord"
    with path.open("rb") as file:
        all_ = list(records_in(file))
    path.write_bytes(b"".join(b"".join(record(data)) for data in change(all_)))


def change_table(folder: Path, column: str, values: Callable[[list[Any]], list[Any]]) -> None:
    path = folder / "00000.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index(column)
    changed = pa.array(values(table.column(column).to_pylist()), table.schema.field(column).type)
    pq.write_table(table.set_column(at, table.schema.field(column), changed), path)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_whole_dataset_is_good(name: str, whole: Callable[[str], Path]) -> None:
    """In every format, to the last pixel, and nothing is left behind by looking."""
    before = {path: path.stat().st_mtime_ns for path in whole(name).rglob("*")}
    report = verify(str(whole(name)), deep=True, progress="none", processes_count=2)

    assert report.good
    assert (report.shards, report.rows, report.successes) == (3, ROWS, 5)
    assert not report.is_in_use
    assert {path: path.stat().st_mtime_ns for path in whole(name).rglob("*")} == before


# What is done to the first shard of a format, and what is said of it. The stats file is made to agree with the sizes
# and sums, so that nothing but the content tells.


def _tar(change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]) -> Callable[[Path], object]:
    return lambda folder: rewrite_tar(folder, change)


def _table(column: str, values: Callable[[list[Any]], list[Any]]) -> Callable[[Path], object]:
    return lambda folder: change_table(folder, column, values)


def _bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def _rows(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], object]:
    path = "00000.parquet"
    return lambda folder: pq.write_table(change(pq.read_table(folder / path)), folder / path)


def _unlinked(pattern: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        for path in (folder / "00000").glob(pattern):
            path.unlink()

    return change


def _renamed(member: tarfile.TarInfo, name: str) -> tarfile.TarInfo:
    member.name = name
    return member


KEY = "000000"  # of the first row; the third was not fetched
DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "sample gone": ("webdataset", _tar(lambda members: members.__delitem__(slice(0, 3))), "00000.tar: 00000"),
    "json gone": ("webdataset", _tar(lambda members: members.pop(1)), "has jpg, txt, not one image and its json"),
    "caption gone": (
        "webdataset",
        _tar(lambda members: members.pop(5)),
        "has jpg, json, and those before jpg, json, txt",
    ),
    "sample twice": (
        "webdataset",
        _tar(lambda members: members.extend(members[:3])),
        "apart from each other, or twice",
    ),
    "other order": (
        "webdataset",
        _tar(lambda members: members.extend([members.pop(0) for _ in range(3)])),
        "order",
    ),
    "strange member": (
        "webdataset",
        _tar(lambda members: members.append((tarfile.TarInfo("../evil.jpg"), b"x"))),
        "has '../evil.jpg', which is no file of a sample",
    ),
    "empty image": (
        "webdataset",
        _tar(lambda members: members.__setitem__(0, (members[0][0], b""))),
        "has an empty jpg",
    ),
    "failed row with image": (
        "webdataset",
        _tar(
            lambda members: members.extend(
                [(_renamed(tarfile.TarInfo(), f"000002.{end}"), b"{}") for end in ("jpg", "json", "txt")]
            )
        ),
        "000002 has an image, and the table says that there is none",
    ),
    "cut off": ("webdataset", _bytes("00000.tar", lambda content: content[:-9000]), "does not end as an archive does"),
    "no end": ("webdataset", _bytes("00000.tar", lambda content: content.rstrip(b"\0") + bytes(100)), "does not end"),
    "more behind": ("webdataset", _bytes("00000.tar", lambda content: content + b"x" * 512), "does not end as"),
    "damaged header": (
        "webdataset",
        _bytes("00000.tar", lambda content: content.replace(b"ustar", b"zzzzz", 5)),
        "00000.tar: ",
    ),
    "row gone": ("webdataset", _rows(lambda table: table.slice(1)), "00000.parquet: lacks 1 of its rows"),
    "row twice": (
        "webdataset",
        _rows(lambda table: pa.concat_tables([table, table.slice(0, 1)])),
        "is there more than once",
    ),
    "other shard's key": (
        "webdataset",
        _table("key", lambda keys: ["000010", *keys[1:]]),
        "000010 is no key of this shard",
    ),
    "unknown status": (
        "webdataset",
        _table("status", lambda all_: ["fine", *all_[1:]]),
        "has the unknown status 'fine'",
    ),
    "failure called success": (
        "webdataset",
        _table("status", lambda all_: ["success"] * len(all_)),
        "has status success and error_class http_status_4xx",
    ),
    "unknown class": (
        "webdataset",
        _table("error_class", lambda all_: [one and "bad_luck" for one in all_]),
        "000002 has the unknown error_class 'bad_luck'",
    ),
    "other HTTP status": (
        "webdataset",
        _table("http_status", lambda all_: [500] * len(all_)),
        "000002 has error_class http_status_4xx and http_status 500",
    ),
    "escape in message": (
        "webdataset",
        _table("error_message", lambda all_: [one and f"\x1b[2J{one}" for one in all_]),
        "000002 has control characters in its error_message",
    ),
    "no attempts": ("webdataset", _table("attempts", lambda all_: [-1] * len(all_)), "has -1 attempts"),
    "no table": ("webdataset", _bytes("00000.parquet", lambda content: content[:-10]), "00000.parquet: cannot be read"),
    "no column": ("webdataset", _rows(lambda table: table.drop_columns(["status"])), "has no column status"),
    "image gone": ("parquet", _table("jpg", lambda all_: [None] * len(all_)), f"{KEY} has no image"),
    "image of a failure": ("parquet", _table("jpg", lambda all_: [b"x"] * len(all_)), "000002 has an image"),
    "file gone": ("files", lambda folder: (folder / "00000" / f"{KEY}.json").unlink(), "has jpg, txt, not one image"),
    "files gone": (
        "files",
        _unlinked(f"{KEY}.*"),
        f"00000: {KEY} has no image",
    ),
    "record damaged": (
        "tfrecord",
        _bytes("00000.tfrecord", lambda content: content[:99] + b"?" + content[100:]),
        "at its record 0",
    ),
    "record cut off": ("tfrecord", _bytes("00000.tfrecord", lambda content: content[:-4]), "at its record 1"),
    "records in another order": (
        "tfrecord",
        lambda folder: change_records(folder, lambda all_: all_[::-1]),
        "has its samples in another order than the table",
    ),
    "record that is no sample": (
        "tfrecord",
        _bytes("00000.tfrecord", lambda content: content + b"".join(record(b"\x0a\x05no"))),
        "has no sample in its record 2",
    ),
    "length damaged": (
        "tfrecord",
        _bytes("00000.tfrecord", lambda content: b"\xff" * 8 + content[8:]),
        "at its record 0",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(damage: str, dataset: Callable[[str], Path]) -> None:
    """By what is there, though sizes and sums have been made to fit it; and the other shards are still good."""
    name, change, said = DAMAGES[damage]
    folder = dataset(name)
    change(folder)
    sign_again(folder)
    found = findings(folder)

    assert any(said in line for line in found), found
    assert all(line.startswith("00000") for line in found)


def _picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (9, 5)).save(content, "JPEG")
    return content.getvalue()


def _records_of(image: Callable[[], bytes]) -> Callable[[Path], object]:
    """Have each record have *image*, under the key that it has."""
    encoder = ExampleEncoder("jpg", pa.schema([("key", pa.string())]))

    def changed(data: bytes) -> bytes:
        return b"".join(encoder.encode(image(), {"key": byte_features(data, {"key"})["key"].decode()}, None))

    return lambda folder: change_records(folder, lambda all_: list(map(changed, all_)))


DEEP_DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "half an image": (
        "webdataset",
        _tar(lambda members: members.__setitem__(0, (members[0][0], members[0][1][: len(members[0][1]) // 2]))),
        "has an image that cannot be decoded: decode_truncated",
    ),
    "other size": (
        "webdataset",
        _tar(lambda members: members.__setitem__(0, (members[0][0], _picture()))),
        "has an image of 9x5, and the table says 256x256",
    ),
    "json of another": (
        "webdataset",
        _tar(lambda members: members.__setitem__(1, (members[1][0], members[4][1]))),
        "has the json of another sample",
    ),
    "no json": (
        "files",
        lambda folder: (folder / "00000" / f"{KEY}.json").write_bytes(b"{"),
        "has a json that is none",
    ),
    "no image": ("parquet", _table("jpg", lambda all_: [one and b"\xff\xd8\xff" for one in all_]), "be decoded"),
    "record of no image": ("tfrecord", _records_of(lambda: b"\xff\xd8\xff"), "be decoded"),
    "record of another image": ("tfrecord", _records_of(_picture), "has an image of 9x5"),
}


@pytest.mark.parametrize("damage", DEEP_DAMAGES)
def test_damage_inside_samples_is_found_by_looking_deep(damage: str, dataset: Callable[[str], Path]) -> None:
    """And not without, which is quicker."""
    name, change, said = DEEP_DAMAGES[damage]
    folder = dataset(name)
    change(folder)
    sign_again(folder)

    assert findings(folder) == []
    assert any(said in line for line in findings(folder, deep=True))


def test_bodies_that_are_stored_as_they_came_have_the_hash_of_the_table(origin: Origin, tmp_path: Path) -> None:
    """Decoded or not."""
    (tmp_path / "urls.txt").write_text(origin.url("rocket.jpg"))
    out = tmp_path / "out"
    options = {"output_folder": out, "disable_all_reencoding": True, "compute_hash": "md5"}
    download(**QUIET, **options, url_list=tmp_path / "urls.txt")
    assert findings(out, deep=True) == []
    _bytes("00000/000000000.jpg", lambda content: content + b"x")(out)
    sign_again(out)

    assert findings(out, deep=True) == ["00000: 000000000 has an image whose md5 is not that of the table"]


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"dummy"}))
def test_any_changed_byte_is_found(name: str, dataset: Callable[[str], Path]) -> None:
    """By the sums of the stats file, in whichever file it is."""
    folder = dataset(name)
    for path in sorted(path for path in folder.rglob("00000*") if path.is_file() and "stats" not in path.name):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if path.suffix != ".parquet" else content + b"PAR1")
        assert findings(folder), path
        path.write_bytes(content)
    assert findings(folder) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda _told: b"{}", "00000_stats.json: is not the stats of a shard"),
        (lambda told: json.dumps(told | {"count": 4}).encode(), "00000_stats.json: counts rows that are neither"),
        (lambda told: json.dumps(told | {"count": 2, "successes": 1}).encode(), "and the stats file counts"),
        (
            lambda told: json.dumps(told | {"error_classes": {}}).encode(),
            "the error classes that the stats file counts",
        ),
        (lambda told: json.dumps(told | {"files": {}}).encode(), "00000.tar: is not named by the stats file"),
    ],
)
def test_stats_that_are_not_of_the_shard_are_found(
    dataset: Callable[[str], Path], content: Callable[[dict[str, Any]], bytes], said: str
) -> None:
    """Whatever they say instead."""
    folder = dataset("webdataset")
    marker = folder / "00000_stats.json"
    marker.write_bytes(content(json.loads(marker.read_bytes())))

    assert any(said in line for line in findings(folder))


def test_shards_of_img2dataset_are_checked_by_what_they_have(dataset: Callable[[str], Path]) -> None:
    """Their stats say nothing of files, their tables have no classes, and their archives may have other headers."""
    folder = dataset("webdataset")
    for path in folder.glob("*_stats.json"):
        told = json.loads(path.read_bytes())
        path.write_text(json.dumps({name: told[name] for name in list(told)[:8]}))
    _rows(
        lambda table: table.drop_columns(
            ["error_class", "http_status", "attempts", "final_url", "optout", "tls_verified"]
        )
    )(folder)
    assert findings(folder) == []
    (folder / "00001.parquet").unlink()
    rewrite_tar(folder, lambda members: members.pop(0))

    assert len(findings(folder)) == 2


def test_dataset_elsewhere_is_checked_where_it_lies(dataset: Callable[[str], Path]) -> None:
    """Behind any fsspec file system."""
    fs = fsspec.filesystem("memory")
    folder = dataset("webdataset")
    fs.put(str(folder), "/test_verify", recursive=True)
    store = RemoteStore(fs, "/test_verify", folder / "staging")
    sizes: dict[str, int | None] = {name: size for name, size in store.names() if name.startswith("00000")}
    assert check_shard(store, ShardFiles("00000", sizes), deep=True)[1] == []
    fs.pipe("/test_verify/00000.tar", (folder / "00001.tar").read_bytes())

    assert check_shard(store, ShardFiles("00000", sizes), deep=True)[1]


def test_what_is_not_finished_is_told(dataset: Callable[[str], Path]) -> None:
    """Files without a marker look finished to whoever takes all archives of a folder; other people's do not matter."""
    folder = dataset("webdataset")
    (folder / "00001_stats.json").unlink()
    (folder / "00007.tar.partial").mkdir()
    (folder / "notes.txt").touch()
    report = verify(str(folder), progress="none")

    assert report.defects == ()
    assert not report.good
    assert set(report.unfinished) == {
        "00001.tar belongs to no finished shard",
        "00001.parquet belongs to no finished shard",
        "00007.tar.partial was left by a run that was killed",
        "shard 1 is not there",
    }


def test_what_a_run_is_writing_is_left_out(dataset: Callable[[str], Path]) -> None:
    """It will be finished."""
    folder = dataset("webdataset")
    (folder / "00001_stats.json").unlink()
    held = locked(folder / HOLDER)
    assert held is not None
    report = verify(str(folder), progress="none")
    os.close(held)

    assert report.is_in_use
    assert not report.defects
    assert not report.unfinished
    assert not report.good  # it is not complete
    assert report.shards == 2


def test_shard_of_other_columns_is_found(dataset: Callable[[str], Path]) -> None:
    """Readers of many files want one schema."""
    folder = dataset("webdataset")
    path = folder / "00000.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index("width")
    pq.write_table(table.set_column(at, "width", pc.cast(table.column("width"), pa.int64())), path)
    sign_again(folder)
    report = verify(str(folder), progress="none", repair=True)
    [said] = report.strangers

    assert said.startswith("00000.parquet has other columns than most")
    assert report.good
    assert report.set_back == ()


def test_files_of_other_people_are_nobodys_defect(dataset: Callable[[str], Path]) -> None:
    """Such as a desktop leaves in every folder; a repair would have the images fetched again for nothing."""
    folder = dataset("files")
    (folder / "00000" / "Thumbs.db").touch()
    (folder / "00000" / ".DS_Store").write_bytes(b"x")

    assert findings(folder) == []


def test_dataset_of_memory_is_refused(tmp_path: Path) -> None:
    """Workers would find nothing of it, and a repair would remove it."""
    del tmp_path
    with pytest.raises(OptionsError, match="memory:// is each process's own"):
        verify("memory://dataset", repair=True)


def test_marker_that_vanishes_is_not_read_and_no_defect(dataset: Callable[[str], Path]) -> None:
    """A run with overwrite may have taken it away."""
    folder = dataset("webdataset")
    (folder / "00000_stats.json").unlink()
    with pytest.raises(FileNotFoundError):
        check_shard(LocalStore(folder), ShardFiles("00000", {"00000_stats.json": 9}), deep=False)


def test_counts_that_are_absurd_cost_no_memory(dataset: Callable[[str], Path]) -> None:
    """A digit too many in a stats file is a defect like any other."""
    folder = dataset("webdataset")
    sign_again(folder, count=10**15, successes=10**15, failed_to_download=0)

    assert any("lacks 999999999999997 of its rows" in line for line in findings(folder))


@pytest.mark.parametrize(
    "wrong", [{"status_dict": {"success": "y"}}, {"made_with": "image_size"}, {"error_classes": 7}]
)
def test_stats_of_wrong_types_are_a_defect(dataset: Callable[[str], Path], wrong: dict[str, Any]) -> None:
    """And kill nobody."""
    folder = dataset("webdataset")
    path = folder / "00000_stats.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | wrong))

    [defect] = verify(str(folder), progress="none").defects
    assert str(defect).startswith("00000_stats.json: is not the stats of a shard")


@pytest.mark.parametrize("digits", [0, 1, 5])
@pytest.mark.parametrize("rows", [1, 4, 20])
def test_keys_of_any_length_are_known(origin: Origin, tmp_path: Path, digits: int, rows: int) -> None:
    """With shard numbers of no digits, keys of the first shard have none of it."""
    (tmp_path / "urls.txt").write_text("\n".join(origin.url(f"rocket.jpg?{number}") for number in range(13)))
    options = {"url_list": tmp_path / "urls.txt", "output_folder": tmp_path / "out", "oom_shard_count": digits}
    download(**QUIET, **options, number_sample_per_shard=rows, image_size=16)

    assert verify(str(tmp_path / "out"), progress="none").good


def test_column_of_the_list_that_is_called_like_an_image_is_none(origin: Origin, tmp_path: Path) -> None:
    """The images are where the stats file says."""
    listed = pa.table({"url": [origin.url("rocket.jpg"), origin.url("no-such.jpg")], "jpg": ["a", "b"]})
    pq.write_table(listed, tmp_path / "urls.parquet")
    options = {"url_list": tmp_path / "urls.parquet", "input_format": "parquet", "output_folder": tmp_path / "out"}
    images = {"output_format": "parquet", "encode_format": "png", "encode_quality": 9}
    download(**QUIET, **options, **images, save_additional_columns=["jpg"])

    assert verify(str(tmp_path / "out"), progress="none", deep=True).good


def test_damaged_text_in_a_table_is_a_defect(dataset: Callable[[str], Path]) -> None:
    """Arrow reads it, and Python cannot."""
    folder = dataset("dummy")
    shutil.copy(dataset("webdataset") / "00000.tar", folder)
    keys = pa.array([b"00000\x80", b"000001", b"000002"], pa.binary())
    table = pq.read_table(folder.parent / "webdataset" / "00000.parquet")
    damaged = table.set_column(table.schema.get_field_index("key"), "key", keys.view(pa.string()))
    pq.write_table(damaged, folder.parent / "webdataset" / "00000.parquet")

    assert any("00000.parquet: cannot be read" in line for line in findings(folder.parent / "webdataset"))


def test_repair_lets_the_fetch_make_it_again(origin: Origin, tmp_path: Path) -> None:
    """Defective shards and leftovers go, whole ones stay untouched, and afterwards the dataset is good."""
    (tmp_path / "urls.txt").write_text("\n".join(map(origin.url, PATHS)))
    out = tmp_path / "out"
    options = {"url_list": tmp_path / "urls.txt", "output_folder": out, "number_sample_per_shard": 3}
    download(**QUIET, **options)
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("00002*")}
    (out / "00000" / f"{KEY}.jpg").unlink()
    _bytes("00001_stats.json", lambda _: b"{}")(out)
    report = verify(str(out), repair=True, progress="none")

    assert report.set_back == ("00000", "00001")
    assert {path.name for path in out.iterdir()} - {SETTINGS} == {"00002", "00002.parquet", "00002_stats.json"}
    assert download(**QUIET, **options).shards_done == 2
    assert verify(str(out), progress="none", deep=True).good
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_command_says_what_is_wrong_and_ends_with_it(dataset: Callable[[str], Path], tmp_path: Path) -> None:
    """Status 0 if it is good, 1 if not, 2 if there is nothing to check."""
    folder = dataset("files")
    good = aimg2ds("verify", "files", cwd=tmp_path)
    (folder / "00000" / f"{KEY}.json").unlink()
    bad = aimg2ds("verify", "files", "--deep", cwd=tmp_path)
    repaired = aimg2ds("verify", "--output_folder", "files", "--repair=True", cwd=tmp_path)
    nothing = aimg2ds("verify", "elsewhere", cwd=tmp_path)

    assert (good.returncode, good.stdout.splitlines()[-1][-6:]) == (0, ": good")
    assert bad.returncode == 1
    assert f"00000: {KEY} has jpg, txt, not one image and its json\n" in bad.stdout
    assert "--repair removes" in bad.stdout
    assert "removed: shards 00000;" in repaired.stdout
    assert nothing.returncode == 2
    assert "there is no dataset in elsewhere" in nothing.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_marker_is_read_as_it_was_written(whole: Callable[[str], Path]) -> None:
    """The stats file of a real shard."""
    content = (whole("webdataset") / "00000_stats.json").read_bytes()

    assert Marker.parse(content).to_json() == content
