"""Putting a dataset on the Hub: all of it, in few commits, once; asked of a fake Hub on loopback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors, file_download

from async_img2ds import OptionsError, StorageError, download, purge, push
from async_img2ds import hub as hub_module
from async_img2ds.dataset import push as pushing
from async_img2ds.hub import Destination, Hub
from async_img2ds.policy.card import BEGIN, END
from async_img2ds.storage import LISTINGS_BEFORE, MANIFEST, SUMS, WIDS, LocalStore, patience
from fake_hub import TOKEN, FakeHub, Repo, fake_hub
from test_cli import aimg2ds
from test_manifest import as_img2dataset_leaves_it, sha256sum_checks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from async_img2ds import PushReport
    from async_img2ds.hub import Addition
    from origin import Origin

# How huggingface_hub calls its own HTTP client is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAMES = ("rocket.jpg", "no-such.jpg", "coffee.png", "truncated.jpg")
QUIET: dict[str, Any] = {"allow_net": "127.0.0.0/8", "progress": "none", "retries": 0, "processes_count": 1}
SHAPE: dict[str, Any] = {"number_sample_per_shard": 2, "image_size": 32}
REPO = "org/name"
_GETADDRINFO = socket.getaddrinfo
PLACE = f"hf://datasets/{REPO}"
# What tells of the whole, behind the shards.
OF_ALL = {MANIFEST, SUMS, WIDS, "README.md"}


@pytest.fixture(scope="module")
def whole(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a dataset of five shards in a format, which nobody is to touch."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "urls.txt").write_text("".join(f"{origin.url(NAMES[at % 4])}?{at}\n" for at in range(10)))

    def made(name: str) -> Path:
        if not (folder / name).exists():
            download(folder / "urls.txt", output_folder=folder / name, output_format=name, **SHAPE, **QUIET)
        return folder / name

    return made


@pytest.fixture
def dataset(whole: Callable[[str], Path], tmp_path: Path) -> Path:
    """Return a copy of one of tars."""
    shutil.copytree(whole("webdataset"), tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub that is asked instead of the real one, by this process and by those that it starts."""
    with fake_hub() as server:
        for name, value in server.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        # What huggingface_hub reads when it is imported.
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", value=True)
        monkeypatch.setattr(socket, "getaddrinfo", _of_loopback)
        yield server


def _of_loopback(host: str | None, *rest: Any) -> Any:
    """Find no other host than this one: nothing here may ask the real Hub."""
    assert host in ("127.0.0.1", "localhost")
    return _GETADDRINFO(host, *rest)


def pushed(folder: Path | str, place: str = PLACE, **options: Any) -> PushReport:
    return push(str(folder), place, progress="none", **options)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*") if path.is_file()}


def test_all_of_it_is_there(hub: FakeHub, dataset: Path) -> None:
    """Each file as it is, and beside them a card, a manifest, sums and the index of the tars."""
    report = pushed(dataset)
    found = hub.repos[REPO].files

    assert {name: content for name, content in found.items() if name not in OF_ALL} == files(dataset)
    assert set(found) - set(files(dataset)) == OF_ALL
    assert (report.shards, report.rows, report.successes) == (5, 10, 5)
    assert (report.files_sent, report.files_there) == (19, 0)
    assert (report.card, report.strays, report.unfinished) == ("written", (), ())
    assert report.url == PLACE
    assert not hub.repos[REPO].is_private


def test_a_copy_of_it_can_be_checked(hub: FakeHub, dataset: Path, tmp_path: Path) -> None:
    """By the sums that are there, with a program of others; and the manifest is true."""
    pushed(dataset)
    (tmp_path / "copy").mkdir()
    for name, content in hub.repos[REPO].files.items():
        (tmp_path / "copy" / name).write_bytes(content)

    assert sha256sum_checks(tmp_path / "copy") == 15
    assert "note:" not in aimg2ds("summary", str(tmp_path / "copy")).stdout
    assert not set(files(dataset)) & OF_ALL


def test_the_same_is_not_sent_again(hub: FakeHub, dataset: Path) -> None:
    """Nor is there a commit without a change."""
    pushed(dataset)
    before = len(hub.uploads), len(hub.repos[REPO].commits)
    report = pushed(dataset)

    assert (len(hub.uploads), len(hub.repos[REPO].commits)) == before
    assert (report.files_sent, report.bytes_sent, report.commits, report.card) == (0, 0, 0, "the same")
    assert report.files_there == 15


def test_files_by_the_names_of_versions_before_are_replaced(hub: FakeHub, dataset: Path) -> None:
    """In the commit that tells the same by the names of today."""
    pushed(dataset)
    branch = hub.repos[REPO].branches["main"]
    for new, old in zip((SUMS, WIDS, MANIFEST), LISTINGS_BEFORE, strict=True):
        branch[old] = branch.pop(new)
    hub.repos[REPO].commits.clear()
    pushed(dataset)

    assert len(hub.repos[REPO].commits) == 1
    assert set(hub.repos[REPO].files) == {*files(dataset), *OF_ALL}


def test_shards_that_changed_are_sent_alone(hub: FakeHub, dataset: Path, tmp_path: Path, origin: Origin) -> None:
    """An image that was removed is not there any more, and meanwhile nothing untrue is said of the whole."""
    pushed(dataset)
    before = hub.repos[REPO].files
    hub.repos[REPO].commits.clear()
    (tmp_path / "urls.txt").write_text(origin.url("rocket.jpg?4"))
    purge(str(dataset), urls=tmp_path / "urls.txt", progress="none")
    report = pushed(dataset)
    (_, first, gone), (_, second, _) = hub.repos[REPO].commits

    assert sorted(first) == ["00002.parquet", "00002.tar", "00002_stats.json"]
    assert sorted(gone) == sorted([MANIFEST, SUMS, WIDS])
    assert set(second) == OF_ALL
    assert len(hub.repos[REPO].files["00002.tar"]) < len(before["00002.tar"])
    assert report.card == "renewed"
    assert "4 images from 10 URLs" in hub.repos[REPO].files["README.md"].decode()


def test_commits_are_few_and_have_shards_as_wholes(
    hub: FakeHub, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many files as the Hub advises at the most, and no shard in two of them."""
    monkeypatch.setattr(pushing, "COMMIT_FILES", 7)
    report = pushed(dataset)
    commits = hub.repos[REPO].commits

    assert [message for message, *_ in commits] == [
        "Add shards 0 to 1",
        "Add shards 2 to 3",
        "Add shard 4",
        "Tell what the dataset has",
    ]
    assert [len(paths) for _, paths, _ in commits] == [6, 6, 3, 4]
    assert report.commits == 4


def test_what_was_cut_off_is_gone_on_with(hub: FakeHub, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed stays, what was sent for the next commit is not sent twice, and the end is the same."""
    monkeypatch.setattr(pushing, "COMMIT_FILES", 6)
    monkeypatch.setattr(hub_module, "OUTAGE_MOST_S", 0.0)

    def refuses(method: str, path: str) -> int:
        begun = hub.repos[REPO].commits if REPO in hub.repos else []
        return 500 if method == "POST" and "/commit/" in path and len(begun) == 1 else 0

    hub.refuses = refuses
    with pytest.raises(StorageError, match=r"the Hub: .*500.*; the same command goes on"):
        pushed(dataset)
    assert len(hub.repos[REPO].commits) == 1
    hub.refuses = lambda _method, _path: 0
    report = pushed(dataset)

    assert len(hub.uploads) == len(set(hub.uploads)) == 10
    assert (report.files_there, report.commits) == (6, 3)
    assert {name: content for name, content in hub.repos[REPO].files.items() if name not in OF_ALL} == files(dataset)


def test_an_outage_is_outlasted(
    hub: FakeHub, dataset: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the Hub has done what it was asked, and nobody heard: it is not done twice, and nothing is missing."""
    pushed(dataset)
    del hub.repos[REPO].branches["main"]["00003.tar"]
    monkeypatch.setattr(patience, "PAUSE_S", 0.0)
    commits = [True, False, False, True]
    asked = iter([503, 429, 503])
    hub.refuses = lambda _method, path: next(asked, 0) if "/commit/" in path or "/resolve/" in path else 0
    hub.loses = lambda _method, path: "/commit/" in path and commits.pop()
    hub.repos[REPO].commits.clear()
    report = pushed(dataset)

    assert (report.commits, report.files_there) == (2, 14)
    assert {name: content for name, content in hub.repos[REPO].files.items() if name not in OF_ALL} == files(dataset)
    assert set(hub.repos[REPO].files) >= OF_ALL
    assert "the Hub cannot be reached at the moment" in caplog.text
    assert TOKEN not in caplog.text


def test_a_file_that_is_cut_off_is_told_before_anything_is_sent(hub: FakeHub, dataset: Path) -> None:
    """As is one that is missing, with what makes its shard anew."""
    (dataset / "00001.parquet").unlink()
    with pytest.raises(StorageError, match=r"00001\.parquet is not there; aimg2ds verify --repair"):
        pushed(dataset)
    (dataset / "00001.parquet").write_bytes(b"cut")
    with pytest.raises(StorageError, match=r"00001\.parquet has 3 bytes and not [0-9,]+; aimg2ds verify --repair"):
        pushed(dataset)

    assert hub.asked == []


def test_a_file_that_was_changed_is_not_committed(hub: FakeHub, dataset: Path) -> None:
    """What its stats file tells of must be what is sent."""
    with (dataset / "00001.tar").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(StorageError, match=r"00001\.tar was changed since it was written"):
        pushed(dataset)

    assert not hub.repos[REPO].commits


@pytest.mark.parametrize("change", ["marker", "gap", "empty", "writing", "leftover"])
def test_a_dataset_that_is_not_finished_is_refused(hub: FakeHub, dataset: Path, change: str) -> None:
    """Before anything is asked of the Hub; on request what is finished goes, and it is said what did not."""
    store = None
    if change == "marker":
        (dataset / "00004_stats.json").unlink()
    elif change == "gap":
        for path in dataset.glob("00001*"):
            path.unlink()
    elif change == "empty":
        (dataset / "00004_stats.json").write_bytes(b"")
    elif change == "writing":
        store = LocalStore(dataset)
        store.prepare()
    else:
        (dataset / "00005.tar.partial").mkdir()
    try:
        with pytest.raises(OptionsError, match=r"the dataset is not finished: .*--partial"):
            pushed(dataset)
        assert hub.asked == []
        report = pushed(dataset, partial=True)
    finally:
        if store is not None:
            store.close()

    finished = {name: name[:5] for name in files(dataset) if f"{name[:5]}_stats.json" in files(dataset)}
    expected = {name for name, stem in finished.items() if files(dataset)[f"{stem}_stats.json"]}
    assert {name for name in hub.repos[REPO].files if name not in OF_ALL} == expected
    assert report.shards == (5 if change in ("writing", "leftover") else 4)
    assert report.unfinished


def test_a_shard_that_is_half_replaced_waits(hub: FakeHub, dataset: Path) -> None:
    """Its files may be those of two versions."""
    (dataset / "00002.redo").touch()
    report = pushed(dataset, partial=True)

    assert not [name for name in hub.repos[REPO].files if name.startswith("00002")]
    assert report.shards == 4


def test_private_is_private(hub: FakeHub, dataset: Path) -> None:
    """A repository that is made, and none that is public already."""
    pushed(dataset, private=True)
    assert hub.repos[REPO].is_private
    hub.repos[REPO] = Repo(is_private=False)
    with pytest.raises(OptionsError, match="is there, and public"):
        pushed(dataset, private=True)

    assert not hub.repos[REPO].commits


def test_a_branch_is_made(hub: FakeHub, dataset: Path) -> None:
    """And what is on others stays as it is."""
    report = pushed(dataset, f"{PLACE}@new%2Fv2")

    assert not hub.repos[REPO].files
    assert set(files(dataset)) < set(hub.repos[REPO].branches["new/v2"])
    assert report.url == f"{PLACE}@new%2Fv2"
    assert pushed(dataset, report.url).commits == 0


def test_a_pull_request_is_added_to(hub: FakeHub, dataset: Path) -> None:
    """It has a branch that is there, and that nobody can make."""
    hub.repos[REPO] = Repo(is_private=False)
    hub.repos[REPO].branches["refs/pr/3"] = {}
    report = pushed(dataset, f"{PLACE}@refs/pr/3")

    assert set(files(dataset)) < set(hub.repos[REPO].branches["refs/pr/3"])
    assert report.url == f"{PLACE}@refs%2Fpr%2F3"
    assert not [path for _, path in hub.asked if "/branch/" in path]


def test_a_card_of_somebodys_own_stays(hub: FakeHub, dataset: Path) -> None:
    """With a word on how to have both."""
    hub.repos[REPO] = Repo(is_private=False)
    hub.repos[REPO].branches["main"]["README.md"] = b"---\nlicense: mit\n---\n# Mine\n"
    report = pushed(dataset)

    assert hub.repos[REPO].files["README.md"] == b"---\nlicense: mit\n---\n# Mine\n"
    assert report.card == "left"


def test_a_card_is_renewed_between_the_marks(hub: FakeHub, dataset: Path) -> None:
    """What people have written around them stays."""
    hub.repos[REPO] = Repo(is_private=False)
    hub.repos[REPO].branches["main"]["README.md"] = f"# Mine\n\n{BEGIN}\nold\n{END}\n\nThanks\n".encode()
    report = pushed(dataset)
    text = hub.repos[REPO].files["README.md"].decode()

    assert report.card == "renewed"
    assert text.startswith(f"# Mine\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nThanks\n")
    assert "5 images from 10 URLs (50.0%)" in text
    assert "\nold\n" not in text


def test_a_card_that_lies_in_the_folder_is_taken(hub: FakeHub, dataset: Path) -> None:
    """If the Hub has none."""
    (dataset / "README.md").write_text("# Mine\n")
    pushed(dataset)

    assert hub.repos[REPO].files["README.md"] == b"# Mine\n"


@pytest.mark.parametrize("output_format", ["webdataset", "parquet", "tfrecord"])
def test_card_says_what_programs_read(
    hub: FakeHub, whole: Callable[[str], Path], output_format: str, tmp_path: Path
) -> None:
    """Which files have the examples, in YAML that a reader of it understands."""
    yaml = pytest.importorskip("yaml")
    pushed(whole(output_format))
    text = hub.repos[REPO].files["README.md"].decode()
    head = yaml.safe_load(text.split("---\n")[1])
    ending = "tar" if output_format == "webdataset" else "parquet"

    assert head["configs"][0]["data_files"] == [{"split": "train", "path": f"*.{ending}"}]
    assert ("dataset_info" in head) == (output_format != "tfrecord")
    assert ("the images are in the records" in text) == (output_format == "tfrecord")
    assert head["license"] == "unknown"
    assert f"| output_format | {output_format} |".replace("_", "\\_") in text.replace("_", "\\_")
    assert not list(tmp_path.glob("out"))


def test_a_large_dataset_lies_in_parts(
    hub: FakeHub, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a folder takes so many files: sums, indexes and card lead there, and the next push finds them there."""
    monkeypatch.setattr(pushing, "FOLDER_FILES_MAX", 14)
    monkeypatch.setattr(pushing, "PART_SHARDS", 2)
    pushed(dataset)
    for name, content in hub.repos[REPO].files.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    index = json.loads((tmp_path / "copy" / WIDS).read_bytes())["shardlist"]
    listed = json.loads((tmp_path / "copy" / MANIFEST).read_bytes())["shards"][4]["files"]

    assert sha256sum_checks(tmp_path / "copy") == 15
    assert [each["url"] for each in index] == [f"part-{at // 2:05d}/{at:05d}.tar" for at in range(5)]
    assert listed[0]["name"] == "part-00002/00004.parquet"
    assert 'path: "part-*/*.tar"' in (tmp_path / "copy" / "README.md").read_text()
    assert pushed(dataset).commits == 0


def test_more_files_than_a_repository_takes_are_refused(
    hub: FakeHub, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is sent."""
    monkeypatch.setattr(pushing, "REPO_FILES_MAX", 14)
    with pytest.raises(OptionsError, match="15 files are more than the 14 that the Hub takes"):
        pushed(dataset)

    assert hub.asked == []


@pytest.mark.parametrize(
    ("output_format", "words"), [("files", "samples that lie in folders"), ("dummy", "nothing that could be pushed")]
)
def test_formats_that_the_hub_has_no_use_for_are_refused(
    hub: FakeHub, whole: Callable[[str], Path], output_format: str, words: str
) -> None:
    """With the reason."""
    with pytest.raises(OptionsError, match=words):
        pushed(whole(output_format))

    assert hub.asked == []


def test_shards_of_img2dataset_go_too(hub: FakeHub, dataset: Path) -> None:
    """Their sums are computed, so that a second push finds them there."""
    as_img2dataset_leaves_it(dataset)
    pushed(dataset)

    assert set(files(dataset)) < set(hub.repos[REPO].files)
    assert "by img2dataset, which does not say" in hub.repos[REPO].files["README.md"].decode()
    assert pushed(dataset).commits == 0


def test_files_of_shards_that_are_no_more_are_named(hub: FakeHub, dataset: Path) -> None:
    """They are not deleted: perhaps they are somebody's."""
    pushed(dataset)
    for path in dataset.glob("00004*"):
        path.unlink()
    hub.repos[REPO].branches["main"]["notes.json"] = b"{}"
    report = pushed(dataset)

    assert report.strays == ("00004.parquet", "00004.tar", "00004_stats.json")
    assert not report.pruned
    assert "00004.tar" in hub.repos[REPO].files


def test_files_of_shards_that_are_no_more_are_deleted_on_request(
    hub: FakeHub, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those alone, and meanwhile nothing untrue is said of the whole."""
    monkeypatch.setattr(pushing, "COMMIT_FILES", 4)
    pushed(dataset)
    for path in [*dataset.glob("00004*"), *dataset.glob("00003*")]:
        path.unlink()
    hub.repos[REPO].branches["main"]["notes.json"] = b"{}"
    hub.repos[REPO].commits.clear()
    report = pushed(dataset, prune=True)
    (first, _, gone), (_, _, others), (_, last, _) = hub.repos[REPO].commits

    assert first == "Delete 4 files of shards that are no more"
    assert {MANIFEST, SUMS, WIDS} < set(gone)
    assert {*gone, *others} == {MANIFEST, SUMS, WIDS, *report.strays}
    assert set(last) == OF_ALL
    assert set(hub.repos[REPO].files) == {*files(dataset), *OF_ALL, "notes.json"}
    assert report.pruned


def test_what_is_not_finished_is_not_taken_for_what_is_no_more(dataset: Path) -> None:
    """Or the shards of a dataset that is fetched on would be deleted."""
    with pytest.raises(OptionsError, match="leave out prune or partial"):
        pushed(dataset, prune=True, partial=True)


def test_what_must_not_be_public_stays(hub: FakeHub, dataset: Path, tmp_path: Path) -> None:
    """Who asked for removal, and whatever else lies in the folder."""
    (tmp_path / "hosts.txt").write_text("somebody.example\n")
    purge(str(dataset), hosts=tmp_path / "hosts.txt", progress="none")
    (dataset / "secret.txt").write_text("secret")
    (dataset / "1.txt").write_text("secret")
    pushed(dataset)

    assert (dataset / "_removed.txt").exists()
    assert not {"_removed.txt", "secret.txt", "1.txt"} & set(hub.repos[REPO].files)


def test_little_of_a_dataset_elsewhere_is_on_this_disk(
    hub: FakeHub, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of files at a time, and those that go as text until their commit; nothing when it is over."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(pushing, "GROUP_BYTES", 1)
    monkeypatch.setattr(pushing, "COMMIT_FILES", 6)
    staged: list[int] = []
    send = Hub.send

    def watched(self: Hub, additions: list[Addition]) -> list[bool]:
        some = (tmp_path / "temporary").glob(f"aimg2ds-{'[0-9a-f]' * 32}/*")
        staged.append(len([path for path in some if path.is_file() and path.stat().st_size]))
        return send(self, additions)

    monkeypatch.setattr(Hub, "send", watched)
    pushed(f"simplecache::file://{dataset}")

    assert {name: content for name, content in hub.repos[REPO].files.items() if name not in OF_ALL} == files(dataset)
    assert max(staged) <= 3
    assert min(staged[:-1]) >= 1
    assert not [path for path in (tmp_path / "temporary").iterdir() if path.name.startswith("aimg2ds")]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HF_TOKEN": "hf_wrong"}, ["the Hub does not let you write to org/name", "hf auth login", "HF_TOKEN"]),
        ({"HF_TOKEN": "", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}, ["the Hub does not let you", "hf auth login"]),
    ],
)
def test_whoever_may_not_is_told_what_to_type(
    hub: FakeHub, dataset: Path, environment: dict[str, str], words: list[str]
) -> None:
    """In a line, with status 2, and no token in it."""
    command = [sys.executable, "-m", "async_img2ds", "push", str(dataset), PLACE, "--progress", "none"]
    done = subprocess.run(command, env={**os.environ, **environment}, check=False, capture_output=True, text=True)

    assert done.returncode == 2
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert "hf_wrong" not in done.stderr
    assert not hub.repos


def test_a_hub_that_fails_is_told_in_a_line(hub: FakeHub, dataset: Path) -> None:
    """With status 3, what it says, and what to do."""
    hub.refuses = lambda _method, path: 500 if path == "/api/repos/create" else 0
    done = aimg2ds("push", str(dataset), PLACE)

    assert done.returncode == 3
    assert "aimg2ds: the Hub: " in done.stderr
    assert "as the test wants it" in done.stderr
    assert "the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr


def test_command_line(hub: FakeHub, dataset: Path) -> None:
    """What was sent and what is there, and no bars of other programs."""
    done = aimg2ds("push", str(dataset), PLACE, "--private", "--contact", "images@example.org", "--progress", "none")
    text = hub.repos[REPO].files["README.md"]
    again = aimg2ds("push", f"--destination={PLACE}", f"--output-folder={dataset}", "--progress", "none")

    assert (done.returncode, done.stderr) == (0, "")
    assert "5 shards, 10 rows, 5 images: 19 files of" in done.stdout
    assert "sent in 2 commits" in done.stdout
    assert f"dataset: {PLACE}\n" in done.stdout
    assert hub.repos[REPO].is_private
    assert b"Write to images@example.org" in text
    assert again.returncode == 0
    assert "15 files were there" in again.stdout


@pytest.mark.parametrize(
    "url",
    [
        *("org/name", "hf://org/name", "hf://datasets/name", "hf://datasets/org/name/folder", "hf://spaces/org/name"),
        *(f"{PLACE}@", f"{PLACE}@a/b", f"{PLACE}@v2/folder", f"{PLACE}?x"),
    ],
)
def test_other_places_are_refused(dataset: Path, url: str) -> None:
    """With what is meant."""
    with pytest.raises(OptionsError, match=r"destination takes .* hf://datasets/ORG/NAME@BRANCH .*; got"):
        pushed(dataset, url)


def test_a_commit_is_no_branch(dataset: Path) -> None:
    """It would be made as one of that name."""
    with pytest.raises(OptionsError, match="is a commit, to which nothing can be added"):
        pushed(dataset, f"{PLACE}@{'0a' * 20}")


def test_destination_is_read_as_it_is_typed() -> None:
    """Also with a slash at its end; the branch as fsspec reads it."""
    assert Destination.parse("hf://datasets/org/na.me-1/") == Destination("org/na.me-1", "main")
    assert Destination.parse(f"{PLACE}@a%2Fb") == Destination(REPO, "a/b")
    assert Destination.parse(f"{PLACE}@refs/pr/12") == Destination(REPO, "refs/pr/12")
    assert Destination.parse(Destination(REPO, "a b%").url) == Destination(REPO, "a b%")


@pytest.mark.parametrize(
    "words",
    [
        ["fetch", "urls.txt", "--output_folder", PLACE],
        ["fetch", "urls.txt", "--output_folder", f"simplecache::{PLACE}"],
        ["retry", PLACE],
        ["purge", PLACE, "--hosts", "hosts.txt"],
        ["manifest", PLACE],
        ["verify", PLACE, "--repair"],
    ],
)
def test_nothing_else_writes_to_the_hub(words: list[str], tmp_path: Path) -> None:
    """A run makes thousands of files, and each would be a commit: refused in words that name push."""
    (tmp_path / "urls.txt").write_text("http://x.test/\n")
    done = aimg2ds(*words, cwd=tmp_path)

    assert done.returncode == 2
    assert "aimg2ds push FOLDER hf://datasets/ORG/NAME" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_list_is_written_to_the_hub(tmp_path: Path) -> None:
    """A list is no dataset with a card, so another command is named."""
    (tmp_path / "urls.txt").write_text("http://x.test/\n")
    done = aimg2ds("partition", "urls.txt", "--output_folder", PLACE, cwd=tmp_path)

    assert done.returncode == 2
    assert "hf upload ORG/NAME FOLDER --repo-type dataset" in done.stderr


def test_without_the_package_its_extra_is_named(dataset: Path) -> None:
    """As for every optional package."""
    script = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'huggingface_hub' else find(name, *rest)\n"
        "from async_img2ds.cli import app\n"
        f"app(['push', {str(dataset)!r}, {PLACE!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)

    assert done.returncode == 2
    assert "pip install 'async-img2ds[hf]'" in done.stderr


def test_the_fake_asks_for_a_token(hub: FakeHub) -> None:
    """Or the tests of those that have none would pass for nothing."""
    assert os.environ["HF_TOKEN"] == TOKEN
    with pytest.raises(errors.HfHubHTTPError):
        huggingface_hub.HfApi(token="hf_wrong").create_repo(REPO, repo_type="dataset")

    assert not hub.repos
