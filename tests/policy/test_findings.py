"""What figures of a machine mean: which are well, which could be better, and by which a run would fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from async_img2ds.policy.findings import (
    Disk,
    Finding,
    Images,
    Lookups,
    Verdict,
    of_clock,
    of_cores,
    of_descriptors,
    of_disk,
    of_extras,
    of_images,
    of_lookups,
    of_loop,
    of_memory,
    of_proxies,
    of_ways,
)

OK, ADVICE, PROBLEM = Verdict.OK, Verdict.ADVICE, Verdict.PROBLEM
FAST = Lookups("names", "a server", [0.01] * 18, found=17, missing=1, faults={})
IMAGES = Images("Pillow 12", False, False, ["jpg", "png", "webp", "avif"], [], True, True)
DISK = Disk("output", "/data", free=10**12, least=1e8, bytes_per_s=2e8)


@pytest.mark.parametrize(
    ("finding", "verdict", "word"),
    [
        (of_cores(4, 4, None), OK, "4"),
        (of_cores(4, 64, None), OK, "of 64"),
        (of_cores(4, 4, 8), ADVICE, "--processes_count 8"),
        (of_descriptors(32_000, 65_536, 1024), OK, "32,000"),
        (of_descriptors(400, 1000, 1024), ADVICE, "ulimit -Hn"),
        (of_descriptors(28, 256, 1024), PROBLEM, "ulimit -Hn"),
        (of_descriptors(28, 256, 8), OK, "28"),
        (of_memory(None, 4), OK, "not checked"),
        (of_memory(64 * 10**9, 4), OK, "64.0 GB"),
        (of_memory(2 * 10**9, 4), ADVICE, "--processes_count 2"),
        (of_memory(10**9, 4), PROBLEM, "--processes_count 1"),
        (of_ways(True, True, "any"), OK, "IPv4 and IPv6"),
        (of_ways(True, False, "any"), OK, "none by IPv6"),
        (of_ways(False, True, "any"), ADVICE, "NAT64"),
        (of_ways(False, False, "any"), PROBLEM, "no way out"),
        (of_ways(True, False, "6"), PROBLEM, "--ip_version 6"),
        (of_loop("0.21", True), OK, "0.21"),
        (of_loop(None, True), ADVICE, "pip install uvloop"),
        (of_loop(None, False), OK, "asyncio"),
        (of_clock(2e9, 1e9, "2033"), OK, "not compared"),
        (of_clock(0.0, 1e9, "1970"), PROBLEM, "tls_expired"),
        (of_proxies([], ""), OK, "none"),
        (of_proxies(["http_proxy"], "--proxy"), ADVICE, "http_proxy is set, and not used"),
        (of_extras(["s3"], ["gcs", "ray"]), OK, "async-img2ds[gcs]"),
        (of_extras(["s3"], []), OK, "s3"),
        (of_images(IMAGES), OK, "libjpeg-turbo"),
        (of_images(replace(IMAGES, may_be_simd=True)), ADVICE, "async-img2ds[simd]"),
        (of_images(replace(IMAGES, missing=["avif"])), ADVICE, "decode_unsupported"),
        (of_images(replace(IMAGES, missing=["jpg"])), PROBLEM, "most images"),
        (of_images(replace(IMAGES, has_turbo=False)), ADVICE, "turbo"),
        (of_disk(DISK), OK, "1,000.0 GB free, written at 200 MB/s"),
        (of_disk(replace(DISK, free=10**9)), ADVICE, "aimg2ds plan"),
        (of_disk(replace(DISK, free=10**7)), PROBLEM, "--output_folder"),
        (of_disk(replace(DISK, bytes_per_s=1e6)), ADVICE, "slow"),
        (of_disk(replace(DISK, use="temp", fault="cannot be written to")), PROBLEM, "TMPDIR"),
        (of_lookups(FAST), OK, "17 of 18 names found"),
        (of_lookups(Lookups("", "", [], 0, 0, {})), OK, "not checked"),
        (of_lookups(replace(FAST, seconds=[0.4] * 18)), ADVICE, "slow"),
        (of_lookups(replace(FAST, seconds=[0.01] * 15 + [2.0] * 3)), ADVICE, "p95 2000 ms"),
        (of_lookups(replace(FAST, faults={"timed out": 3})), ADVICE, "3 timed out"),
        (of_lookups(replace(FAST, faults={"timed out": 30})), PROBLEM, "--dns_servers"),
        (of_lookups(replace(FAST, seconds=[], found=0, missing=0, faults={"x": 5})), PROBLEM, "no name server answers"),
        (of_lookups(replace(FAST, found=0, missing=18)), PROBLEM, "closed network"),
    ],
)
def test_figures_are_judged(finding: Finding, verdict: Verdict, word: str) -> None:
    """Each by what it does to a run; whatever is not well comes with what to do."""
    assert finding.verdict is verdict, finding
    assert word in f"{finding.said} {finding.advice}"
    assert finding.advice or verdict is OK
