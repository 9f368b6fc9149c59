"""The main job on real photographs: serve them on loopback, fetch them into a webdataset, show what came of it."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import origin
import photographs

HERE = Path(__file__).parent.parent / ".demo"


def main() -> int:
    """Run the demo; return the exit status of the tool."""
    shutil.rmtree(HERE, ignore_errors=True)
    captions = photographs.write_all(HERE / "pictures")
    broken = (HERE / "pictures" / "rocket.jpg").read_bytes()
    (HERE / "pictures" / "truncated.jpg").write_bytes(broken[: len(broken) // 2])
    with origin.serve(HERE / "pictures") as server:
        rows = [(server.url(name), caption) for name, caption in captions.items()]
        rows += [
            (server.url("moved/rocket.jpg"), "a picture that has moved"),
            (server.url("no-such-picture.jpg"), "a picture that is gone"),
            (server.url("page.jpg"), "a web page that calls itself a JPEG"),
            (server.url("truncated.jpg"), "half a picture"),
            (server.url("reserved/coffee.png"), "a picture whose owner has opted out"),
            (server.url("loop"), "a redirect to itself"),
            (server.url("busy"), "a server that is too busy"),
            (f"http://127.0.0.1:{origin.free_port()}/x.jpg", "a server that is not there"),
            ("http://no-such-host.invalid/x.jpg", "a host that does not exist"),
            ("http://192.168.0.1/x.jpg", "an address inside somebody's network"),
            ("ftp://example.org/x.jpg", "not the web"),
            ("", "no URL at all"),
        ]
        with (HERE / "urls.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("url", "caption"), *rows])
        command = ["aimg2ds", "fetch", str(HERE / "urls.csv"), "--input_format", "csv", "--caption_col", "caption"]
        command += [
            "--output_folder",
            str(HERE / "dataset"),
            "--output_format",
            "webdataset",
            "--number_sample_per_shard",
            "25",
        ]
        command += ["--processes_count", "2", "--allow_net", "127.0.0.0/8"]
        print(f"{len(rows)} URLs, {len(captions)} of them photographs, served on port {server.port} of this machine\n")
        print("$", " ".join(command), flush=True)
        status = subprocess.run(command, check=False).returncode
    print()
    for path in sorted((HERE / "dataset").iterdir()):
        print(f"{path.stat().st_size:>9,}  {path}")
    first = next(iter(sorted((HERE / "dataset").glob("*.tar"))))
    with tarfile.open(first) as tar:
        print(f"\nthe first sample of {first.name}:", ", ".join(member.name for member in tar.getmembers()[:3]))
    return status


if __name__ == "__main__":
    sys.exit(main())
