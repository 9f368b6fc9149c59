"""A machine without IPv6, as containers often are: a network namespace of our own, from which nothing leads away."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio
from async_img2ds.fetch.client import HttpClient
from async_img2ds.options import FetchOptions
from async_img2ds.policy.urls import AddressPolicy, parse
from async_img2ds.worker.process import loop_factory

async def main():
    async with HttpClient.open(FetchOptions(), AddressPolicy(), "test") as client:
        async with client.get(parse("http://[2606:4700::1111]/x.jpg")):
            pass

with asyncio.Runner(loop_factory=loop_factory()) as runner:
    try:
        runner.run(main())
    except Exception as error:
        print(type(error).__name__, getattr(error, "error_class", ""))
"""


def isolated(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["unshare", "-n", *command], check=False, capture_output=True, text=True)


@pytest.mark.parametrize("disabled", ["0", "1"])
def test_address_that_this_machine_has_no_way_to_is_unreachable(disabled: str) -> None:
    """It is no shortage of ports, for which the whole shard would wait and be given back."""
    if isolated("true").returncode:
        pytest.skip("this user may not make a network namespace")
    switch = f"echo {disabled} > /proc/sys/net/ipv6/conf/all/disable_ipv6 2> /dev/null; exec "
    done = isolated("sh", "-c", f'{switch}"$0" -c "$1"', sys.executable, SCRIPT)

    assert done.stdout.split() == ["FetchFailure", "connect_unreachable"], done.stderr
