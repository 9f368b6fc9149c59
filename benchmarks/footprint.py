"""What a shard is beside its images, and what it asks of an object store: the figures that docs/scale.md multiplies.

Two shards of 10,000 rows, of which 65 of a hundred are alive, go to a server that speaks S3 on this machine; its log
says what was asked of it. And a list of three million rows is read by a rank that has none of its shards, which is what
one that goes on does up to where it ended.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

import corpus
import measure
import origin
import report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["examine", "examine_requests"]

SHARDS: Final = 2
ROWS: Final = 10_000
ALIVE: Final = 0.65
SKIPPED_ROWS: Final = 3_000_000
BUCKET: Final = "datasets"
CAPTION: Final = "a photograph of something that is described in the sixty characters or so of the web's captions"
# Moto is slow to be loaded.
STARTS_S: Final = 60
_ASKED: Final = re.compile(r'"(?P<verb>[A-Z]+) /[^/ ?]+/?(?P<key>[^ ?]*)\??(?P<query>[^ ]*) HTTP')
# What is a shard's begins with its number.
_OF_A_SHARD: Final = re.compile(r"(?:.*/)?([0-9]{6})[._/]")


def examine(folder: Path, rows: int | None) -> int:
    """Measure and keep it; a shard has 10,000 *rows* unless said otherwise."""
    rows = rows or ROWS
    told = {"benchmark": "footprint", **report.moment(), "machine": report.machine(), "versions": report.own_versions()}
    found: dict[str, Any] = {"shards": SHARDS, "rows_a_shard": rows}
    with origin.serve(corpus.images()) as web, _s3(folder / "s3.log") as variables:
        _write_list(folder / "urls.parquet", web.url, rows)
        words = ["--input_format", "parquet", "--caption_col", "caption", "--output_format", "webdataset"]
        words += ["--number_sample_per_shard", str(rows), "--oom_shard_count", "6", "--allow_net", "127.0.0.0/8"]
        words += ["--output_folder", f"s3://{BUCKET}/out", "--progress", "none"]
        run = measure.run(["aimg2ds", "fetch", str(folder / "urls.parquet"), *words], variables)
        found["asked"] = _asked(folder / "s3.log")
        found |= _bytes(_opened(variables), folder)
        before = len(_found(folder / "s3.log"))
        added = measure.run(["aimg2ds", "summary", f"s3://{BUCKET}/out", "--progress", "none"], variables)
        found["requests_of_summary"] = len(_found(folder / "s3.log")) - before
    skipped = _skipped(folder)
    found["skipping"] = {
        "rows": SKIPPED_ROWS,
        "bytes_a_row": round((folder / "long.parquet").stat().st_size / SKIPPED_ROWS, 1),
        "wall_s": round(skipped.wall_s, 2),
        "cpu_s": round(skipped.cpu_s, 2),
    }
    print(json.dumps(found, indent=2))
    print("kept in", report.keep_json("footprint", {**told, "figures": found}))
    return max(run.exit_status, added.exit_status, skipped.exit_status)


# Of two lists of so many shards of ten rows the difference is what a shard asks for, and not the run.
FEW: Final = 10
MANY: Final = 40
FEW_ROWS: Final = 10
_OWN: Final = re.compile(r"\b[0-9a-f]{8}\b")


def examine_requests(folder: Path, _rows: int | None) -> int:
    """Measure what a shard asks of a store, and keep it: of a rank's, and of Ray's where that is installed."""
    told = {"benchmark": "requests", **report.moment(), "machine": report.machine(), "versions": report.own_versions()}
    distributors = ["rank", *(["ray"] if importlib.util.find_spec("ray") else [])]
    found: dict[str, Any] = {}
    with origin.serve(corpus.images()) as web, _s3(folder / "s3.log") as variables:
        for distributor in distributors:
            asked = {
                shards: _asked_by(folder, web.url, variables, distributor, shards * FEW_ROWS) for shards in (FEW, MANY)
            }
            kinds = sorted({*asked[FEW], *asked[MANY]})
            each = {kind: round((asked[MANY][kind] - asked[FEW][kind]) / (MANY - FEW), 2) for kind in kinds}
            found[distributor] = {"of_a_shard": each, "in_all": round(sum(each.values()), 1)}
    print(json.dumps(found, indent=2))
    print("kept in", report.keep_json("requests", {**told, "figures": found}))
    return 0


def _asked_by(folder: Path, url: Any, variables: dict[str, str], distributor: str, rows: int) -> Counter[str]:  # noqa: ANN401  a function of the origin's
    """Return how often what was asked by a run that must end well."""
    _write_list(folder / "few.parquet", url, rows // SHARDS)
    before = len(_found(folder / "s3.log"))
    words = ["--input_format", "parquet", "--output_format", "webdataset", "--number_sample_per_shard", str(FEW_ROWS)]
    words += ["--allow_net", "127.0.0.0/8", "--processes_count", "1", "--progress", "none"]
    words += ["--distributor", distributor, *(["--rank", "0", "--world_size", "1"] if distributor == "rank" else [])]
    run = measure.run(
        [
            "aimg2ds",
            "fetch",
            str(folder / "few.parquet"),
            *words,
            "--output_folder",
            f"s3://{BUCKET}/{distributor}{rows}",
        ],
        variables,
    )
    if run.exit_status:
        raise RuntimeError(run.summary)
    return Counter(
        f"{_kind(found['verb'], found['query'])} {_named(found['key'])}".strip()
        for found in _found(folder / "s3.log")[before:]
    )


def _named(key: str) -> str:
    """Return what a key is of, without the number of its shard and the name of an attempt."""
    return _OWN.sub("OWN", re.sub(r"^[^/]+/", "", re.sub(r"\b[0-9]{5}(?![0-9a-f])", "NNNNN", key)))


def _found(log: Path) -> list[re.Match[str]]:
    return [found for found in map(_ASKED.search, log.read_text().splitlines()) if found]


@contextmanager
def _s3(log: Path) -> Iterator[dict[str, str]]:
    """Have S3 on this machine during the block; yield the variables that lead to it."""
    port = origin.free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as written, subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT) as server:
        try:
            origin.wait_for_port(port, STARTS_S)
            variables = {
                "AWS_ACCESS_KEY_ID": "none",
                "AWS_SECRET_ACCESS_KEY": "none",
                "AWS_DEFAULT_REGION": "us-east-1",
                "FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            }
            _opened(variables).call_s3("create_bucket", Bucket=BUCKET)
            yield variables
        finally:
            server.terminate()


def _opened(variables: dict[str, str]) -> Any:  # noqa: ANN401  fsspec's file systems are untyped
    return fsspec.filesystem(
        "s3",
        key="none",
        secret="none",  # noqa: S106  no secret
        endpoint_url=variables["FSSPEC_S3_ENDPOINT_URL"],
        client_kwargs={"region_name": "us-east-1"},
    )


def _write_list(path: Path, url: Any, rows: int) -> None:  # noqa: ANN401  a function of the origin's
    names = [image.name for image in sorted(corpus.images().iterdir()) if not image.name.startswith(".")]
    alive = round(ALIVE * 100)
    urls = [
        url(f"{names[row % len(names)]}?{row}" if row % 100 < alive else f"none-{row}.jpg")
        for row in range(SHARDS * rows)
    ]
    pq.write_table(pa.table({"url": urls, "caption": [f"{row} {CAPTION}" for row in range(SHARDS * rows)]}), path)


def _asked(log: Path) -> dict[str, Any]:
    """Return what was asked for each shard on average, and for all else in sum, by kind."""
    of_shards, others = Counter[str](), Counter[str]()
    for found in _found(log):
        shard = _OF_A_SHARD.match(found["key"])
        ending = re.sub(r".*/[0-9]+", "", found["key"])
        (of_shards if shard else others)[f"{_kind(found['verb'], found['query'])} {ending}".strip()] += 1
    return {
        "of_a_shard": {kind: count / SHARDS for kind, count in sorted(of_shards.items())},
        "of_a_shard_in_all": sum(of_shards.values()) / SHARDS,
        "of_a_shard_that_write": sum(n for kind, n in of_shards.items() if kind[:3] in ("PUT", "POS")) / SHARDS,
        "beside_shards": dict(sorted(others.items())),
    }


def _kind(verb: str, query: str) -> str:
    for word, kind in {"partNumber": "part", "list-type": "list", "uploads": "uploads", "uploadId": "upload"}.items():
        if word in query:
            return f"{verb} {kind}"
    return verb


def _bytes(fs: Any, folder: Path) -> dict[str, Any]:  # noqa: ANN401  fsspec's file systems are untyped
    """Return the bytes of a sample in its tar by the endings of its files, and of all files of a shard."""
    by_ending, samples, tars = Counter[str](), 0, 0
    sizes = {path.rpartition("/")[2]: entry["size"] for path, entry in fs.find(f"{BUCKET}/out", detail=True).items()}
    for name in (name for name in sizes if name.endswith(".tar")):
        fs.get_file(f"{BUCKET}/out/{name}", str(folder / name))
        with tarfile.open(folder / name) as tar:
            for member in tar:
                ending = member.name.rpartition(".")[2]
                by_ending[ending] += member.size
                samples += ending in ("jpg", "png", "webp")
        tars += sizes[name]
    return {
        "bytes_of_files": sizes,
        "samples": samples,
        "bytes_of_a_sample": {ending: round(size / samples) for ending, size in by_ending.items()},
        "bytes_of_a_sample_in_the_tar": round(tars / samples),
    }


def _skipped(folder: Path) -> measure.Run:
    rows = range(SKIPPED_ROWS)
    urls = [f"https://host{row * 7919 % 1_000_003}.example/{row * 2654435761 % 2**40:x}/{row}.jpg" for row in rows]
    pq.write_table(pa.table({"url": urls, "caption": [f"{row} {CAPTION}" for row in rows]}), folder / "long.parquet")
    words = ["--input_format", "parquet", "--caption_col", "caption", "--number_sample_per_shard", str(ROWS)]
    words += ["--oom_shard_count", "6", "--rank", "999999", "--world_size", "1000000", "--progress", "none"]
    return measure.run(
        ["aimg2ds", "fetch", str(folder / "long.parquet"), *words, "--output_folder", str(folder / "no")]
    )
