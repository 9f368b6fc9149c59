"""An internet of one machine: in a network namespace all addresses are this machine's, and it sees who asks whom.

Run as a program inside such a namespace, by :mod:`matrix`: it has the real program fetch the list of the matrix with
the default policy, and prints what came of each row, and who was contacted that should not have been, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from hostile import CANARY, CLOSED, PORTS, laid_out, probes, small

import name_server
import photographs as pictures
from fickle import fickle_names

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Iterator, Mapping, Sequence

    from hostile import Answer

# Where names with several addresses lead, and the only ones that are served beside those of single probes.
PUBLIC: Final = frozenset({"8.8.4.4", "1.1.1.1", "9.255.255.255", "172.15.255.255"}) | frozenset(
    {"2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808"}
)
# Longer than any of it takes, but for what does not end.
HANGS_S: Final = 240.0


@dataclass(slots=True)
class Internet:
    """All servers of the world. *hosts* are those of the probes; *picture* is what every other public one has."""

    hosts: Mapping[str, Mapping[str, Answer]]
    picture: bytes
    forbidden: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)

    async def answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer whoever connects, or note that it should not have."""
        address, port = writer.get_extra_info("sockname")[:2]
        try:
            if port != 80 or (address not in self.hosts and address not in PUBLIC):
                self.forbidden[f"{address} port {port}"] += 1
            else:
                await self._serve(address, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _serve(self, address: str, reader: StreamReader, writer: StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ")[1].partition("?")[0]
            self.told.update(
                line.partition(":")[0].lower()
                for line in head.splitlines()[1:]
                if line.lower().startswith(("authorization:", "cookie:", "proxy-authorization:", "referer:"))
            )
            if address in PUBLIC and path == "/hop":
                writer.write(b"HTTP/1.1 302 So\r\nLocation: /x.jpg\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                return
            answer = self.hosts.get(address, {}).get(path)
            if answer is None:
                length = len(self.picture)
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + self.picture
            if not isinstance(answer, bytes):
                await answer(reader, writer)
                return
            writer.write(answer)
            await writer.drain()
            if not answer.startswith(b"HTTP/1.1 302"):  # what some of them say has no other end
                return


@contextmanager
def listening(internet: Internet) -> Iterator[None]:
    """Have *internet* answer at every address until the end of the block."""
    loop, ready, stopping = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def listen() -> None:
        for port in (80, 443, 8080, *PORTS):
            for host in ("0.0.0.0", "::"):
                await asyncio.start_server(internet.answer, host, port, limit=2**16)
        ready.set()
        await stopping.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=(listen(),))
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()


def take_all_addresses() -> None:
    """Have every address there is lead to this machine: in a namespace of its own, and nowhere else."""
    ip = shutil.which("ip") or shutil.which("ip", path="/usr/sbin") or "ip"
    for words in ("link set lo up", "route add local 0.0.0.0/0 dev lo", "-6 route add local ::/0 dev lo"):
        subprocess.run([ip, *words.split()], check=True)


def reached(addresses: Sequence[str]) -> int:
    """Return how many of *addresses* anybody can connect to who does not mind: that the canary is alive."""
    count = 0
    for address in addresses:
        with suppress(OSError), socket.create_connection((address, 80), timeout=5):
            count += 1
    return count


def attacked(folder: Path) -> dict[str, Any]:
    """Have the program fetch the matrix; return what came of it."""
    pictures.write_all(folder / "photographs")
    matrix = probes(folder / "photographs")
    hosts = {f"8.16.{number >> 8}.{number & 255}": probe for number, probe in enumerate(matrix)}
    laid_out(folder / "files")
    urls = [
        probe.url.replace("{host}", host).replace("{folder}", str(folder / "files")) for host, probe in hosts.items()
    ]
    pq.write_table(pa.table({"url": urls}), folder / "urls.parquet")
    internet = Internet(
        {host: probe.answers for host, probe in hosts.items() if "{host}" in probe.url},
        small(folder / "photographs"),
    )
    records = sorted({record for probe in matrix for record in probe.records})
    with (
        listening(internet),
        fickle_names("8.8.4.4", "10.0.0.5") as fickle,
        name_server.serve(records, forwarded={"fickle.test": fickle.replace(":", "@")}) as names,
    ):
        alive = reached(CLOSED)
        while internet.forbidden.total() < alive:
            time.sleep(0.01)
        internet.forbidden.clear()
        ended = fetch(folder, names.address)
    table = pq.read_table(folder / "out" / "00000.parquet").sort_by("key").to_pylist()
    return {
        "status": ended.returncode,
        "said": ended.stdout[-4000:],
        "outcomes": [row["error_class"] or row["status"] for row in table],
        "messages": [row["error_message"] for row in table],
        "forbidden": internet.forbidden,
        "told": internet.told,
        "reachable": alive,
        "programs": sorted(programs(folder / "strace")),
        "opened": sorted(opened(folder / "strace")),
        "peak_kb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
    }


def fetch(folder: Path, dns: str) -> subprocess.CompletedProcess[str]:
    """Run the program over the list, with no network allowed beyond the default, and one folder to read."""
    options = {
        "input_format": "parquet",
        "output_folder": str(folder / "out"),
        "output_format": "webdataset",
        "number_sample_per_shard": "10000",
        "processes_count": "1",
        "dns_servers": dns,
        "allow_sources": f"file:{folder / 'files' / 'open'}",
        "retries": "0",
        "timeout": "3",
        "progress": "none",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    strace = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-e",
        "trace=execve,open,openat,openat2",
        "-o",
        str(folder / "strace"),
    ]
    command = [*strace, sys.executable, "-m", "async_img2ds", "fetch", str(folder / "urls.parquet"), *words]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=HANGS_S
    )


def programs(log: Path) -> set[str]:
    """Return the programs that strace has seen started."""
    lines = log.read_text().splitlines()
    return {line.split('"')[1] for line in lines if "execve(" in line and line.endswith("= 0")}


def opened(log: Path) -> set[str]:
    """Return the files that strace has seen opened, of those that never should be."""
    lines = log.read_text().splitlines()
    names = {line.split('"')[1] for line in lines if "open" in line and '"' in line}
    return {name for name in names if name.endswith((CANARY, "pipe.jpg", "/environ", "/mem", "/dev/zero"))}


if __name__ == "__main__":
    os.environ.pop("PYTHONWARNINGS", None)
    take_all_addresses()
    sys.stdout.write(json.dumps(attacked(Path(sys.argv[1]))))
