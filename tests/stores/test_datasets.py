"""Datasets elsewhere: what a run leaves in an object store, or on another machine, is what it leaves on a disk."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from async_img2ds import download
from async_img2ds.storage import SETTINGS
from processes import wait_until
from stores.program import Program
from test_run import PICTURES, QUIET

if TYPE_CHECKING:
    from pathlib import Path

    from origin import Origin
    from stores.servers import Place

FORMATS = ["files", "parquet", "tfrecord", "webdataset"]
THERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
HEALS = "heals.jpg"
# What a dataset has in it that is at rest.
OURS = re.compile(r"0000[0-2](\.(tar|tfrecord|parquet)|_stats\.json|/0000[0-2]\d\.(jpg|json))|_removed\.txt")


@pytest.fixture
def out(place: Place) -> str:
    """A folder of this test's own, at *place*."""
    return f"{place.root}/{uuid.uuid4().hex[:8]}"


def urls_of(web: Origin, rows: int = 30) -> list[str]:
    """Return URLs of two hosts; a tenth is not there, and one of these is :data:`HEALS`."""
    hosts = (THERE, ELSEWHERE)
    found = [web.url(f"{PICTURES[n % len(PICTURES)]}?{n}", hosts[n % 3 == 2]) for n in range(rows)]
    found[4::10] = [web.url(f"{HEALS}?{n}") if n == 4 else web.url(f"none-such.jpg?{n}") for n in range(4, rows, 10)]
    return found


def listed(place: Place, url: str, urls: list[str]) -> str:
    """Put a list of *urls* at *url*, and return that."""
    place.write(url, "".join(f"{line}\n" for line in urls).encode())
    return url


def rows_in(folder: Path) -> dict[str, dict[str, Any]]:
    tables = [pq.read_table(path).to_pylist() for path in sorted(folder.glob("*.parquet"))]
    return {row["key"]: row for table in tables for row in table}


def stats_of(name: str, content: bytes) -> Any:
    """Return what a file has in it, without what is another time each time."""
    if not name.endswith("_stats.json"):
        return content
    ends = ("time", "duration", "latencies_ms")
    return {key: value for key, value in json.loads(content).items() if not key.endswith(ends)}


def all_in(folder: Path) -> dict[str, Any]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != SETTINGS)
    return {str(path.relative_to(folder)): stats_of(path.name, path.read_bytes()) for path in files}


@pytest.mark.parametrize("output_format", FORMATS)
def test_dataset_is_that_of_a_disk(
    program: Program, place: Place, web: Origin, out: str, tmp_path: Path, output_format: str
) -> None:
    """From a list that lies there, too: byte for byte, under the same names, and nothing beside them."""
    urls = listed(place, f"{out}-list/urls.txt", urls_of(web))
    program.fetch(urls, out, output_format=output_format, ordered=True)
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url in urls_of(web)))
    options = {"output_format": output_format, "number_sample_per_shard": 10, "ordered": True, **QUIET}
    download(tmp_path / "urls.txt", output_folder=tmp_path / "local", **options)

    assert all_in(place.fetched(out, tmp_path / "copy")) == all_in(tmp_path / "local")
    assert program.staged() == []
    assert place.pending() == []


@pytest.mark.parametrize("output_format", FORMATS)
def test_life_of_a_dataset(
    program: Program, place: Place, web: Origin, out: str, tmp_path: Path, output_format: str
) -> None:
    """It is made, gone on with, verified, tried again and purged, and each time it is whole."""
    urls = listed(place, f"{out}-list/urls.txt", urls_of(web))
    program.fetch(urls, out, output_format=output_format)
    # Of one shard nothing is left, of another all but its marker.
    files = place.files(out)
    for name in files:
        if name.startswith("00000") or name == "00001_stats.json":
            place.fs.rm_file(f"{place.path(out)}/{name}")
    web.forget_requests()
    program.fetch(urls, out, output_format=output_format)
    asked_again = len(web.requests())
    (web.pictures / HEALS).hardlink_to(web.pictures / "rocket.jpg")
    program.run("retry", out, "--class=http_status_4xx", "--allow_net=127.0.0.0/8", "--retries=0")
    (web.pictures / HEALS).unlink()
    place.write(f"{out}-list/hosts.txt", ELSEWHERE.encode())
    said = program.run("purge", out, f"--hosts={out}-list/hosts.txt")
    verified = program.run("verify", out, "--deep")
    rows = rows_in(place.fetched(out, tmp_path / "copy")).values()

    assert asked_again == 20
    assert re.search("3 shards, 30 rows, 19 images checked in .*: good", verified)
    assert {row["error_class"] for row in rows if ELSEWHERE in row["url"]} == {"optout_removed"}, said
    assert [row["status"] for row in rows if HEALS in row["url"]] == ["success"]
    assert len(rows) == 30
    assert [name for name in place.shards(out) if not OURS.fullmatch(name)] == []
    assert program.staged() == []
    assert place.pending() == []


def test_second_run_into_a_folder_in_use_is_refused(program: Program, place: Place, web: Origin, out: str) -> None:
    """It is told who holds it, and touches nothing; the first goes on, and lets go of it when it ends."""
    urls = listed(place, f"{out}-list/urls.txt", [web.url(f"rocket.jpg?{n}") for n in range(600)])
    command = ["fetch", urls, f"--output_folder={out}", "--allow_net=127.0.0.0/8", "--crawl_delay=0.5", "--grace_s=0"]
    with program.start(*command) as first:
        wait_until(lambda: ".aimg2ds-run" in place.files(out))
        said = program.run(*command, status=3)
        goes_on = first.poll() is None
        first.terminate()
        first.communicate()

    assert re.search(r"another run is writing to .* \(process \d+ on ", said), said
    assert goes_on
    assert place.shards(out) == {}


@pytest.mark.parametrize("slashes", ["/", "//"])
def test_slashes_at_the_end_do_not_matter(program: Program, place: Place, web: Origin, out: str, slashes: str) -> None:
    """A folder is the same with them, of lists as of images, to the run that goes on without."""
    listed(place, f"{out}-lists/urls.txt", urls_of(web, 10))
    program.fetch(f"{out}-lists{slashes}", f"{out}{slashes}", output_format="webdataset")
    web.forget_requests()
    program.fetch(f"{out}-lists", out, output_format="webdataset")

    assert set(place.shards(out)) == {"00000.tar", "00000.parquet", "00000_stats.json"}
    assert web.requests() == []


def test_list_may_be_a_pattern_or_a_folder(program: Program, place: Place, web: Origin, out: str) -> None:
    """As on a disk."""
    for number in range(3):
        listed(place, f"{out}-lists/{number}.txt", [web.url(f"rocket.jpg?{number}")])
    program.fetch(f"{out}-lists/[12].txt", f"{out}/some", output_format="webdataset")
    program.fetch(f"{out}-lists", f"{out}/all", output_format="webdataset")

    def markers(folder: str) -> list[str]:
        return [name for name in place.files(folder) if name.endswith("_stats.json")]

    assert len(markers(f"{out}/some")) == 2
    assert len(markers(f"{out}/all")) == 3


# Other ways to write where the places are; {port} is the server's.
ALIASES = {
    "s3": ["s3a://{folder}"],
    "azure": ["abfs://{folder}", "abfs://datasets@devstoreaccount1.dfs.core.windows.net/{below}"],
    "gcs": ["gcs://{folder}"],
    "sftp": ["sftp://127.0.0.1{folder}", "ssh://127.0.0.1:{port}{folder}"],
}


@pytest.mark.parametrize(("name", "alias"), [(name, alias) for name, some in ALIASES.items() for alias in some])
def test_places_have_other_names(
    request: pytest.FixtureRequest, web: Origin, tmp_path: Path, name: str, alias: str
) -> None:
    """Each leads to the same files, with the same configuration."""
    place: Place = request.getfixturevalue(name)
    program, out = Program(place, tmp_path), f"{place.root}/{uuid.uuid4().hex[:8]}"
    folder, below = place.path(out), out.rpartition("/")[2]
    (tmp_path / "urls.txt").write_text(web.url("rocket.jpg"))
    program.fetch(str(tmp_path / "urls.txt"), alias.format(folder=folder, below=below, port=place.port))

    assert "00000/000000.jpg" in place.files(out)


def test_configuration_may_be_a_file(s3: Place, web: Origin, tmp_path: Path) -> None:
    """As fsspec reads it; the workers read the same."""
    (tmp_path / "fsspec").mkdir()
    told = {"endpoint_url": f"http://127.0.0.1:{s3.port}", "key": "none", "secret": "none"}
    (tmp_path / "fsspec" / "s3.json").write_text(json.dumps({"s3": told}))
    place = replace(s3, variables={"FSSPEC_CONFIG_DIR": str(tmp_path / "fsspec"), "AWS_DEFAULT_REGION": "us-east-1"})
    out = f"{s3.root}/configured"
    (tmp_path / "urls.txt").write_text(web.url("rocket.jpg"))
    Program(place, tmp_path).fetch(str(tmp_path / "urls.txt"), out)

    assert "00000/000000.jpg" in s3.files(out)


def test_missing_credentials_are_told_before_anything_is_fetched(s3: Place, web: Origin, tmp_path: Path) -> None:
    """In the library's own words, as what output_folder cannot be written to for."""
    nothing = {"FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{s3.port}", "AWS_EC2_METADATA_DISABLED": "true"}
    (tmp_path / "urls.txt").write_text(web.url("rocket.jpg"))
    web.forget_requests()
    said = Program(replace(s3, variables=nothing), tmp_path).fetch(
        str(tmp_path / "urls.txt"), f"{s3.root}/denied", status=2
    )

    assert "output_folder: cannot write to" in said
    assert "credentials" in said
    assert web.requests() == []


@pytest.mark.parametrize("command", ["summary", "verify"])
def test_store_that_cannot_be_read_is_told_in_a_line(s3: Place, tmp_path: Path, command: str) -> None:
    """For want of credentials, or of a server, with the status of what could not be done."""
    env = {"FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{s3.port}", "AWS_EC2_METADATA_DISABLED": "true"}
    said = Program(replace(s3, variables=env), tmp_path).run(command, f"{s3.root}/denied", status=3)

    assert re.fullmatch("aimg2ds: output_folder: .*credentials.*\n", said)


def test_passwords_in_urls_are_told_by_no_command(sftp: Place, web: Origin, tmp_path: Path) -> None:
    """Neither in what they print at the end, nor where they refuse something, nor in files."""
    user = sftp.variables["FSSPEC_SSH_USERNAME"]
    others = {name: value for name, value in sftp.variables.items() if name != "FSSPEC_SSH_USERNAME"}
    program = Program(replace(sftp, variables=others), tmp_path)
    at = sftp.root.replace("ssh://", f"ssh://{user}:s3cr3t@")
    listed(sftp, f"{sftp.root}/secret-list/urls.csv", [web.url("rocket.jpg")])
    out = f"{at}/secret"
    words = ["--number_sample_per_shard=10", "--allow_net=127.0.0.0/8"]
    said = [
        program.run("partition", f"{at}/secret-list/urls.csv", f"{at}/secret-by-host", *words[:1]),
        program.run("fetch", f"{at}/secret-by-host", "--input_format=parquet", f"--output_folder={out}", *words),
        program.run("fetch", f"{at}/secret-by-host", f"--output_folder={out}", *words, status=2),
        program.run("summary", out),
        program.run("verify", out),
        program.run("manifest", out),
        program.run("retry", out, "--class=http_status_5xx"),
    ]

    assert [text for text in said if "s3cr3t" in text] == []
    assert "dataset: ssh://127.0.0.1/" in said[1]


@pytest.mark.parametrize("name", ["s3", "azure", "gcs"])
def test_bucket_that_is_not_there_is_refused(
    request: pytest.FixtureRequest, web: Origin, tmp_path: Path, name: str
) -> None:
    """It is not made: that is what a misspelt name would do."""
    place: Place = request.getfixturevalue(name)
    (tmp_path / "urls.txt").write_text(web.url("rocket.jpg"))
    scheme = place.root.partition("://")[0]
    said = Program(place, tmp_path).fetch(str(tmp_path / "urls.txt"), f"{scheme}://misspelt/out", status=2)

    assert "output_folder: there is no bucket 'misspelt'" in said
    assert not place.fs.exists("misspelt")
