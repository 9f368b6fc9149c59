"""Images that end processes, hang in a decoder or hold everything up: each costs its own row."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

import origin as origin_server
from async_img2ds import download, verify
from async_img2ds.distributors import crew, local
from async_img2ds.distributors.crew import Culprits
from async_img2ds.errors import ErrorClass, TransformFailure
from async_img2ds.recorder import RECORD_BYTES, Decoding, Recorder, decodings_in, record_file
from async_img2ds.records import Quarantine
from async_img2ds.worker import guard as guards
from async_img2ds.worker.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What a site runs at the start of each of its Python processes: a decoder with defects that real ones have had.
DEFECTS = """
import ctypes, os, signal, time
from async_img2ds.images import codec
from async_img2ds.worker import guard

guard.CPU_MOST_S, guard.LOOKS_MOST = 1.0, 6
decode = codec.Source.open.__func__

def defective(cls, content, *also):
    if content.endswith(b"CRASH"):
        os.kill(os.getpid(), signal.SIGSEGV)
    while content.endswith(b"COMPUTE"):
        pass
    if content.endswith(b"WAIT"):
        time.sleep(1000)
    if content.endswith(b"HOLD"):
        ctypes.PyDLL(None).sleep(1000)  # and lets no other thread run
    return decode(cls, content, *also)

codec.Source.open = classmethod(defective)
"""


@pytest.fixture
def web(tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[origin_server.Origin]:
    """Serves images of which some end in the name of what they do to the decoder."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DEFECTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    shutil.copytree(photographs, tmp_path / "pictures")
    for name in ("rocket", "coffee"):
        for ending in ("CRASH", "COMPUTE", "WAIT", "HOLD"):
            source = next((tmp_path / "pictures").glob(f"{name}.*"))
            (tmp_path / "pictures" / f"{name}-{ending}.jpg").write_bytes(source.read_bytes() + ending.encode())
    with origin_server.serve(tmp_path / "pictures") as serving:
        yield serving


def outcomes(web: origin_server.Origin, tmp_path: Path, bad: list[str], **options: Any) -> tuple[Counter[str], bool]:
    """Fetch forty good images and *bad* ones among them; return the reasons of the rows, and whether it is complete."""
    good = [f"{web.url('rocket.jpg')}?{number}" for number in range(40)]
    urls = [*good[:7], *(f"{web.url(name)}?{number}" for number, name in enumerate(bad)), *good[7:]]
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    quiet = {"allow_net": "127.0.0.0/8", "progress": "none", "retries": 0, "output_format": "webdataset"}
    chosen = {"processes_count": 2, "number_sample_per_shard": 20, **options}
    report = download(url_list=tmp_path / "urls.txt", output_folder=tmp_path / "out", **quiet, **chosen)
    rows = [row for path in sorted((tmp_path / "out").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert len(rows) == len(urls)
    assert all(row["error_class"] is None for row in rows if "-" not in row["url"].rpartition("/")[2])
    assert verify(str(tmp_path / "out"), progress="none").good
    return Counter(row["error_class"] or "success" for row in rows), report.complete


def test_images_that_crash_the_decoder_cost_their_rows(web: origin_server.Origin, tmp_path: Path) -> None:
    """Two of them, one in many rows; the bytes that were found out once are not decoded again."""
    bad = ["rocket-CRASH.jpg"] * 12 + ["coffee-CRASH.jpg"]

    assert outcomes(web, tmp_path, bad) == ({"success": 40, "decode_crash": 13}, True)


@pytest.mark.parametrize("name", ["rocket-COMPUTE.jpg", "rocket-WAIT.jpg"])
def test_image_that_is_never_decoded_costs_its_row(web: origin_server.Origin, tmp_path: Path, name: str) -> None:
    """Whether the decoder computes without end or waits."""
    assert outcomes(web, tmp_path, [name]) == ({"success": 40, "decode_timeout": 1}, True)


def test_image_that_holds_up_its_whole_process_costs_its_row(
    web: origin_server.Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is heard of the process any more; its supervisor sees what it was at."""
    monkeypatch.setattr(crew, "WEDGED_S", 4.0)
    monkeypatch.setattr(crew, "WATCH_S", 0.2)
    monkeypatch.setattr(local, "STUCK_OVER_S", 1.0)

    assert outcomes(web, tmp_path, ["rocket-HOLD.jpg"]) == ({"success": 40, "decode_timeout": 1}, True)


def test_worker_that_is_killed_by_hand_accuses_no_image() -> None:
    """Only what a process does itself tells of what it did."""
    assert not Culprits().convict([])
    assert Culprits().quarantine == Quarantine()


def test_image_is_found_guilty_after_it_was_alone() -> None:
    """Of several that were being decoded at the first time all are suspect; none is by the mere company."""
    culprits = Culprits()
    one, other = Decoding(b"1", "000000001", 0, hung=False), Decoding(b"2", "000000002", 0, hung=False)
    crash = ErrorClass.DECODE_CRASH

    assert not culprits.convict([(one, crash), (other, crash)])
    assert not culprits.convict([(one, crash), (other, crash)])
    assert not culprits.convict([(Decoding(b"3", "000000003", 0, hung=False), crash)])
    assert culprits.convict([(one, crash)])
    assert culprits.quarantine.verdict(b"1", "") is crash
    assert culprits.quarantine.verdict(b"", "000000001") is crash
    assert culprits.quarantine.verdict(b"2", "000000002") is None
    assert culprits.quarantine.suspects == {b"1", b"2", b"3"}


def test_image_that_hung_is_guilty_at_once() -> None:
    """Its own thread was seen not to come back."""
    culprits = Culprits()
    hung, beside = Decoding(b"1", "a", 0, hung=True), Decoding(b"2", "b", 0, hung=False)

    assert culprits.convict([(hung, ErrorClass.DECODE_TIMEOUT), (beside, ErrorClass.DECODE_TIMEOUT)])
    assert culprits.quarantine.guilty == {b"1": ErrorClass.DECODE_TIMEOUT}


def test_recorder_can_be_read_by_another_process() -> None:
    """What is there is what was being decoded when it was read."""
    file = record_file()
    try:
        memory = bytearray(RECORD_BYTES)
        recorder = Recorder(memory)
        for place in range(3):
            recorder.begin(place, bytes([place]) * 32, f"00000000{place}", 7)
        recorder.end(1)
        recorder.hung(2)
        recorder.begin(10**6, b"", "beyond all places", 0)
        os.pwrite(file, memory, 0)

        assert decodings_in(file) == [
            Decoding(bytes(32), "000000000", 7, hung=False),
            Decoding(b"\2" * 32, "000000002", 7, hung=True),
        ]
    finally:
        os.close(file)


def guarded(**chosen: Any) -> Guard:
    return Guard(Recorder(bytearray(RECORD_BYTES)), **{"cpu_s": lambda _: 0.0, **chosen})


def test_suspect_is_decoded_alone() -> None:
    """Whoever decodes meanwhile waits for it, and it for them."""
    guard = guarded()
    guard.learn(Quarantine(suspect_keys=frozenset({"suspect"})))
    together: list[set[str]] = []
    now: set[str] = set()

    def decode(number: int) -> None:
        key = "suspect" if number % 5 == 0 else str(number)
        with guard.decoding(b"", None, key):
            now.add(key)
            time.sleep(0.005)
            together.append(set(now))
            now.discard(key)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(decode, range(60)))

    assert all(company == {"suspect"} for company in together if "suspect" in company)
    assert any(len(company) > 1 for company in together)


@pytest.mark.parametrize("known", [Quarantine(guilty={b"\1" * 16 + bytes(16): ErrorClass.DECODE_CRASH}), None])
def test_guilty_image_is_not_decoded(known: Quarantine | None) -> None:
    """By its bytes, or by its row where the server sends others each time."""
    guard = guarded()
    guard.learn(known or Quarantine(guilty_keys={"key": ErrorClass.DECODE_CRASH}))
    with pytest.raises(TransformFailure) as caught, guard.decoding(b"", "01" * 16, "key"):
        raise AssertionError("decoded")

    assert caught.value.error_class is ErrorClass.DECODE_CRASH


def test_decoder_that_does_not_end_is_seen() -> None:
    """By the CPU that it has used, or by how often it was seen."""
    used = {threading.get_ident(): 5.0}
    guard = guarded(cpu_s=lambda thread: used[thread])
    assert guard.look() is None
    with guard.decoding(b"", None, "slow"):
        assert guard.look() is None
        used[threading.get_ident()] += guards.CPU_MOST_S + 1
        overdue = guard.look()
        assert overdue is not None
        assert (overdue.key, overdue.said) == ("slow", "21 s of CPU")
    assert guard.look() is None
    with guard.decoding(b"", None, "waiting"):
        seen = [guard.look() for _ in range(guards.LOOKS_MOST + 1)]
    assert seen[:-1] == [None] * guards.LOOKS_MOST
    assert seen[-1] is not None
