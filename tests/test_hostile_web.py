"""Faults of the open web as they come over the wire: of names, connections, bodies, redirects, and in whole runs."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from hypothesis import example, given
from hypothesis import strategies as st

import faulty
import name_server
import origin as origin_server
from alone import Alone, failure_of, fetch
from async_img2ds import download
from async_img2ds.errors import ErrorClass, FetchFailure
from async_img2ds.fetch.client import HttpClient
from async_img2ds.fetch.connections import ADDRESSES_TRIED_MAX, Connections
from async_img2ds.fetch.fetcher import Fetcher, retry_after_s
from async_img2ds.fetch.resolver import Resolver
from async_img2ds.nets import parse_net
from async_img2ds.options import FetchOptions
from async_img2ds.policy.urls import AddressPolicy
from async_img2ds.worker.process import loop_factory
from fickle import fickle_names
from test_open_web import QUIET, black_hole, rows_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from faulty import FaultyServer
    from origin import Origin

OK = b"HTTP/1.1 200 OK\r\n"
FINE = OK + b"Content-Length: 100\r\n\r\n" + faulty.JPEG
# Of the server that is away for a while, from its first request on.
AWAY_S = 1.2


@pytest.fixture(scope="module")
def bad() -> Iterator[FaultyServer]:
    with faulty.serve() as server:
        yield server


# Faults beyond those that every test may ask for. What some of them say is in their query.


def _query(server: FaultyServer) -> str:
    """Return the query of the request that has just come."""
    return server.headers[-1].split(" ")[1].partition("?")[2]


def _host(head: str) -> str:
    """Return the host that a request was for."""
    return next(line[6:] for line in head.splitlines() if line.startswith("Host: ")).partition(":")[0]


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST rather than FIN."""
    handle: socket.socket = writer.get_extra_info("socket")
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _says_and_resets(name: str, content: bytes) -> None:
    async def fault(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if content:
            await server.send(writer, content)
            await asyncio.sleep(0.05)  # let it be read: a reset overtakes what is still in the kernel
        _reset(writer)
        return False

    faulty.FAULTS[name] = fault


_says_and_resets("rst-at-once", b"")
_says_and_resets("rst-in-headers", OK + b"Content-Le")
_says_and_resets("rst-in-sized-body", OK + b"Content-Length: 100000\r\n\r\n" + faulty.JPEG)
_says_and_resets("rst-in-chunks", OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + faulty.JPEG + b"\r\n")
_says_and_resets("rst-in-unsized-body", OK + b"\r\n" + faulty.JPEG)


async def _once(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Serve the first request of a connection, and reset it at the second."""
    if getattr(writer, "has_served", False):
        _reset(writer)
        return False
    writer.has_served = True  # type: ignore[attr-defined]
    await server.send(writer, FINE)
    return True


async def _fast_then_stall(server: FaultyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await server.send(writer, OK + b"Content-Length: 90000000\r\n\r\n")
    for _ in range(300):
        await server.send(writer, bytes(100_000))
    await reader.read(1)
    return False


async def _redirects(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Send the asker to what the query says."""
    location = _query(server).encode("latin-1")
    await server.send(writer, b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n")
    return True


async def _goes_on(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Redirect so many times more as the query says, each time after so many milliseconds."""
    hops, _, late_ms = _query(server).partition("&")
    await asyncio.sleep(int(late_ms or 0) / 1000)
    location = f"/goes-on?{int(hops) - 1}&{late_ms}" if int(hops) > 1 else "/fine"
    await server.send(writer, f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
    return True


async def _ping(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    other = "pong" if server.asked[-1] == "ping" else "ping"
    await server.send(writer, f"HTTP/1.1 302 Found\r\nLocation: /{other}\r\nContent-Length: 0\r\n\r\n".encode())
    return True


async def _says_status(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer with the status that the query says, and the lines after it."""
    status, _, line = _query(server).partition("&")
    lines = f"{line.replace('%20', ' ')}\r\n" if line else ""
    await server.send(writer, f"HTTP/1.1 {status} So\r\n{lines}Content-Length: 0\r\n\r\n".encode())
    return True


async def _late(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await asyncio.sleep(0.03)
    await server.send(writer, FINE)
    return True


async def _is_away(server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Reset every connection for a while, and then be well."""
    first = server.asked_at[server.asked.index("is-away")]
    if time.monotonic() - first < AWAY_S:
        _reset(writer)
        return False
    await server.send(writer, FINE)
    return True


class Counted:
    """How many requests there were at a time at the most, and in all."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0

    async def fault(self, server: FaultyServer, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.now += 1
        self.all += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.002)
        self.now -= 1
        await server.send(writer, FINE)
        return True


faulty.FAULTS |= {
    "once": _once,
    "fast-then-stall": _fast_then_stall,
    "redirects": _redirects,
    "goes-on": _goes_on,
    "ping": _ping,
    "pong": _ping,
    "says-status": _says_status,
    "late": _late,
    "is-away": _is_away,
}
faulty._says("gone-at-hop", b"HTTP/1.1 302 Found\r\nLocation: /fine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def with_client(test: Callable[[Fetcher, HttpClient], Awaitable[None]], **options: Any) -> None:
    """Run *test* with one client, as a worker process has."""
    chosen = FetchOptions(**{"timeout": 2, "retries": 0, "allow_net": ("127.0.0.0/8",), **options})
    addresses = AddressPolicy(map(parse_net, chosen.allow_net))

    async def run() -> None:
        async with HttpClient.open(chosen, addresses, "test") as client:
            await asyncio.wait_for(test(Fetcher(client, chosen, addresses, lambda: 0.5), client), 30)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())


@contextmanager
def canary(address: str, port: int = 0) -> Iterator[int]:
    """Yield a port of *address* that nobody may connect to."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen()
        listening.setblocking(False)
        yield int(listening.getsockname()[1])
        with pytest.raises(BlockingIOError):
            listening.accept()


# Names.


def test_silent_name_takes_its_own_time_and_nobody_elses(
    dns: str, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look-up that nobody answers ends after its tries, and meanwhile the loop turns and other names are found."""
    monkeypatch.setattr("async_img2ds.fetch.resolver.TIMEOUT_S", 0.3)

    async def test(fetcher: Fetcher, _client: HttpClient) -> None:
        began = time.monotonic()
        mute = asyncio.create_task(fetcher.fetch("http://a.mute.test/x", Alone()))
        body = await fetcher.fetch(origin.url("rocket.jpg", "pictures.example.test"), Alone())
        assert body.http_status == 200
        assert not mute.done()
        longest_s = 0.0
        while not mute.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest_s = max(longest_s, time.monotonic() - before)
        with pytest.raises(FetchFailure) as caught:
            await mute
        assert caught.value.error_class is ErrorClass.DNS_TIMEOUT
        assert 0.5 < time.monotonic() - began < 2
        assert longest_s < 0.3

    with_client(test, dns_servers=(dns,))


def test_run_says_that_no_name_server_answers_and_goes_on_by_itself(
    origin: Origin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It pauses, the log says why, and no row is written as failed because of it."""
    names = [f"host-{number}.test" for number in range(40)]
    (tmp_path / "urls.txt").write_text("".join(f"{origin.url('coins.gif', name)}\n" for name in names))
    with name_server.serve(f"{name}. 300 IN A 127.0.0.1" for name in names) as server:
        server.kill()

        def heal() -> None:
            end = time.monotonic() + 20
            while "cannot fetch" not in caplog.text and time.monotonic() < end:
                time.sleep(0.05)
            server.start()

        healing = threading.Thread(target=heal)
        healing.start()
        report = download(
            tmp_path / "urls.txt", output_folder=tmp_path / "out", dns_servers=server.address, retries=0, **QUIET
        )
        healing.join()

    assert (report.successes, report.error_classes) == (len(names), {})
    assert "this machine cannot fetch at the moment (no name server" in caplog.text


_CHAINS = """
server:
  directory: "{folder}"
  pidfile: "{folder}/unbound.pid"
  username: ""
  chroot: ""
  use-syslog: no
  logfile: "{folder}/unbound.log"
  interface: 127.0.0.1
  port: {port}
  do-daemonize: no
  module-config: "iterator"
  local-zone: "." static
  local-zone: "chains.test." transparent
auth-zone:
  name: "chains.test."
  zonefile: "{folder}/zone"
  for-downstream: no
  for-upstream: yes
remote-control:
  control-enable: no
"""


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Unbound with names that stand for each other, and one with as many addresses as an answer can have."""
    folder, port = tmp_path_factory.mktemp("chains"), origin_server.free_port()
    zone = ["$ORIGIN chains.test.", "@ 300 IN SOA ns. me. 1 2 3 4 5", "@ 300 IN NS ns", "ns 300 IN A 127.0.0.1"]
    zone += [f"link-{number} 300 IN CNAME link-{number + 1}" for number in range(50)]
    zone += ["link-50 300 IN A 127.0.0.1", "ring 300 IN CNAME back", "back 300 IN CNAME ring", "self 300 IN CNAME self"]
    zone += [f"crowd 300 IN A 127.9.{number // 250}.{number % 250 + 1}" for number in range(4000)]
    (folder / "zone").write_text("\n".join([*zone, ""]))
    (folder / "unbound.conf").write_text(_CHAINS.format(folder=folder, port=port))
    server = name_server.NameServer(folder, port)
    server.start()
    yield server.address
    server.kill()


@pytest.mark.parametrize("name", ["ring", "self"])
def test_names_that_go_round_in_circles_are_the_name_servers_failure(chains: str, name: str) -> None:
    """They end at once."""
    began = time.monotonic()
    failure = failure_of(f"http://{name}.chains.test/x.jpg", dns_servers=(chains,), timeout=5)

    assert failure.error_class is ErrorClass.DNS_SERVFAIL
    assert time.monotonic() - began < 2


def test_long_chain_of_names_ends_at_an_address(chains: str, origin: Origin) -> None:
    """Fifty of them are followed as fast as one."""
    began = time.monotonic()

    assert fetch(origin.url("rocket.jpg", "link-0.chains.test"), dns_servers=(chains,), timeout=5).http_status == 200
    assert time.monotonic() - began < 2


def test_of_four_thousand_addresses_eight_are_tried(chains: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the answer is, which comes over TCP, the row is done with at once."""
    tried: list[Any] = []
    really = Connections._socket

    def noted(self: Connections[Any], info: Any) -> socket.socket:
        tried.append(info[4])
        return really(self, info)

    monkeypatch.setattr(Connections, "_socket", noted)
    began = time.monotonic()
    url = f"http://crowd.chains.test:{origin_server.free_port()}/x.jpg"
    failure = failure_of(url, dns_servers=(chains,), timeout=5)

    assert failure.error_class is ErrorClass.CONNECT_REFUSED
    assert len(set(tried)) == len(tried) == ADDRESSES_TRIED_MAX == 8
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("host", "is_found"),
    [
        *(("pictures.example.test.", True), ("PICTURES.Example.Test", True), ("a_b.example.test", False)),
        *(("-a-.example.test", False), ("xn--a.example.test", False), ("xn--mnchen-3ya.example.test", False)),
        *((f"{'a' * 63}.example.test", False), (".".join(["a" * 60] * 4) + ".test", False)),
        *((f"{'a' * 64}.example.test", False), ("a..example.test", False), ("pictures.example.test..", False)),
        *(("😀.example.test", False), ("\u00fc\u00df.example.test", False), ("--.example.test", False)),
    ],
)
def test_odd_names_are_found_or_not_there_or_no_urls(dns: str, origin: Origin, host: str, *, is_found: bool) -> None:
    """Whatever is let through to the resolver comes back from it as an answer about the name."""
    url = f"http://{host}:{origin.port}/rocket.jpg"
    if is_found:
        assert fetch(url, dns_servers=(dns,), timeout=5).http_status == 200
    else:
        assert failure_of(url, dns_servers=(dns,), timeout=5).error_class in (
            ErrorClass.URL_INVALID,
            ErrorClass.DNS_NXDOMAIN,
        )


def test_thousands_of_names_take_no_further_descriptors() -> None:
    """One resolver looks all of them up, over the few sockets that it has."""

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def run(address: str) -> tuple[int, int, int]:
        seen = []
        before = descriptors()
        async with Resolver.open((address,)) as resolver:
            for start in range(0, 6000, 500):
                names = [f"n{number}.test" for number in range(start, start + 500)]
                found = await asyncio.gather(*map(resolver.look_up, names), return_exceptions=True)
                assert not [error for error in found[:250] if isinstance(error, BaseException)]
                assert {getattr(error, "error_class", None) for error in found[250:]} == {ErrorClass.DNS_NXDOMAIN}
                seen.append(descriptors())
        return before, max(seen), descriptors()

    known = (number for start in range(0, 6000, 500) for number in range(start, start + 250))
    with (
        name_server.serve(f"n{number}.test. 300 IN A 127.0.0.1" for number in known) as server,
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        runner.run(asyncio.sleep(0))  # the loop has some of its own
        before, most, after = runner.run(asyncio.wait_for(run(server.address), 30))

    assert most <= before + 20
    assert after <= before + 5


_LOOK_UP = """
import sys
from alone import failure_of
for name in sys.argv[2:]:
    print(name, failure_of(f"http://{name}:81/x.jpg", dns_servers=(sys.argv[1],), timeout=5, allow_net=()).error_class)
"""


def test_hosts_file_and_search_domains_of_this_machine_lead_nowhere(dns: str, tmp_path: Path) -> None:
    """A name that the machine itself knows by an inner address is blocked, and no domain is put behind a name."""
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n127.0.0.1 planted planted.example.org\n")
    (tmp_path / "resolv.conf").write_text("search example.test\noptions ndots:3\n")
    mounts = " && ".join(f"mount --bind {tmp_path / name} /etc/{name}" for name in ("hosts", "resolv.conf"))
    if subprocess.run(["unshare", "-m", "sh", "-c", mounts], check=False, capture_output=True).returncode:
        pytest.skip("this user may not make a mount namespace")
    names = ("localhost", "planted", "planted.example.org", "pictures", "pictures.example.test")
    command = ["unshare", "-m", "sh", "-c", f'{mounts} && exec "$0" "$@"', sys.executable, "-c", _LOOK_UP, dns, *names]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)

    assert dict(line.split() for line in said.stdout.splitlines()) == {
        **dict.fromkeys(("localhost", "planted", "planted.example.org", "pictures.example.test"), "addr_blocked"),
        "pictures": "dns_nxdomain",
    }


# Connections.


def test_closed_port_is_known_at_once_and_asked_twice() -> None:
    """It costs no time, and however many retries are allowed, there is one more look."""
    hold = Alone()

    async def test(fetcher: Fetcher, _client: HttpClient) -> None:
        began = time.monotonic()
        with pytest.raises(FetchFailure) as caught:
            await fetcher.fetch(f"http://127.0.0.1:{origin_server.free_port()}/x.jpg", hold)
        assert time.monotonic() - began < 0.1
        assert (caught.value.error_class, caught.value.attempts) == (ErrorClass.CONNECT_REFUSED, 2)

    with_client(test, retries=5)
    assert len(hold.delays) == 1


_TO_A_ROUTER = """
set -e
ip link set lo up
ip link add near type veth peer name far
unshare -n sleep 20 > /dev/null 2>&1 & router=$!
trap "kill $router" EXIT
sleep 0.2
ip link set far netns $router
ip addr add 192.0.2.1/24 dev near
ip link set near up
ip route add default via 192.0.2.2
nsenter -t $router -n sh -c 'ip addr add 192.0.2.2/24 dev far && ip link set far up &&
  echo 1 > /proc/sys/net/ipv4/ip_forward && ip route add unreachable 8.8.4.0/24'
test -z "$1" || "$0" -c "$1"
"""
_ASK = """
import time
from alone import Alone, failure_of
hold, began = Alone(), time.monotonic()
failure = failure_of("http://8.8.4.4/x.jpg", hold, timeout=5, retries=5)
print(failure.error_class, failure.attempts, len(hold.delays), time.monotonic() - began < 0.5)
"""


def test_what_a_router_says_is_unreachable_is_known_at_once() -> None:
    """An ICMP message ends the attempt, not the time-out, and there is one more."""
    command = ["unshare", "-n", "sh", "-c", _TO_A_ROUTER, sys.executable]
    if subprocess.run([*command, ""], check=False, capture_output=True).returncode:
        pytest.skip("this user may not make a network namespace, or there is no iproute2")
    done = subprocess.run([*command, _ASK], check=True, capture_output=True, text=True, cwd=Path(__file__).parent)

    assert done.stdout.split() == ["connect_unreachable", "2", "1", "True"]


def test_connection_that_nobody_takes_is_given_up_when_its_time_is_over() -> None:
    """No sooner and not much later; by default after ten seconds."""

    async def test(fetcher: Fetcher, _client: HttpClient) -> None:
        with black_hole("127.0.9.4") as port:
            began = time.monotonic()
            with pytest.raises(FetchFailure) as caught:
                await fetcher.fetch(f"http://127.0.9.4:{port}/x.jpg", Alone())
        assert caught.value.error_class is ErrorClass.CONNECT_TIMEOUT
        assert 0.95 < time.monotonic() - began < 1.2

    with_client(test, timeout=1)
    assert FetchOptions().timeout == 10


class Unwanted(Alone):
    """Has each connection closed."""

    def is_host_wanted(self) -> bool:
        return False


@contextmanager
def black_hole_6(port: int) -> Iterator[None]:
    """Have nobody take connections to *port* of ::1."""
    listening, waiting = socket.socket(socket.AF_INET6), [socket.socket(socket.AF_INET6) for _ in range(4)]
    try:
        listening.bind(("::1", port))
        listening.listen(0)
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("::1", port))
        time.sleep(0.05)
        yield
    finally:
        for one in (listening, *waiting):
            one.close()


@pytest.mark.parametrize("is_silent", [True, False])
def test_host_that_is_dead_over_ipv6_is_fetched_over_ipv4(origin: Origin, *, is_silent: bool) -> None:
    """In less than a second, whichever of its addresses is tried first."""
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").read_text():
        pytest.skip("this machine has no IPv6")

    async def test(fetcher: Fetcher, _client: HttpClient) -> None:
        for _ in range(4):
            began = time.monotonic()
            body = await fetcher.fetch(origin.url("rocket.jpg", "both.test"), Unwanted())
            assert body.http_status == 200
            assert time.monotonic() - began < 1

    def check() -> None:
        records = ("both.test. 300 IN AAAA ::1", "both.test. 300 IN A 127.0.0.1")
        with name_server.serve(records) as names:
            with_client(test, timeout=10, dns_servers=(names.address,), allow_net=("127.0.0.0/8", "::1/128"))

    if is_silent:
        with black_hole_6(origin.port):
            check()
    else:
        check()


@pytest.mark.parametrize(
    ("fault", "error_class"),
    [
        ("rst-at-once", ErrorClass.CONNECT_RESET),
        ("rst-in-headers", ErrorClass.CONNECT_RESET),
        ("rst-in-sized-body", ErrorClass.BODY_RESET),
        ("rst-in-chunks", ErrorClass.BODY_RESET),
        # Fails: a body without a length that is broken off by RST is taken for a whole one, and not asked for again.
        ("rst-in-unsized-body", ErrorClass.BODY_RESET),
    ],
)
def test_reset_is_told_by_where_it_came_and_tried_again(bad: FaultyServer, fault: str, error_class: ErrorClass) -> None:
    """A connection that is reset anywhere is one that may heal, and never a whole image."""
    hold = Alone()
    failure = failure_of(bad.url(fault), hold, retries=2)

    assert (failure.error_class, failure.attempts) == (error_class, 3)
    assert hold.delays == [0.5, 1.0]


@pytest.mark.parametrize("is_taken", [True, False])
def test_server_that_is_silent_is_given_up_when_the_time_for_a_first_byte_is_over(
    bad: FaultyServer, *, is_taken: bool
) -> None:
    """Whether a program took the connection or only the system did; and it is not asked again."""
    hold = Alone()

    async def test(fetcher: Fetcher, _client: HttpClient) -> None:
        with socket.create_server(("127.0.9.3", 0)) as deaf:
            url = bad.url("silent") if is_taken else f"http://127.0.9.3:{deaf.getsockname()[1]}/x.jpg"
            began = time.monotonic()
            with pytest.raises(FetchFailure) as caught:
                await fetcher.fetch(url, hold)
        assert (caught.value.error_class, caught.value.attempts) == (ErrorClass.READ_TIMEOUT, 1)
        assert 0.95 < time.monotonic() - began < 1.3

    with_client(test, timeout=1, retries=2)
    assert hold.delays == []


def test_connection_over_which_too_much_came_is_not_used_again(bad: FaultyServer) -> None:
    """What is left over would be the beginning of the next answer."""

    async def test(fetcher: Fetcher, _client: HttpClient) -> None:
        for fault in ("surplus", "two-answers", "fine", "late-surplus", "surplus", "fine"):
            assert (await fetcher.fetch(bad.url(fault), Alone())).content == faulty.JPEG

    with_client(test)


def test_answer_that_nobody_asked_for_is_no_answer_to_the_next_request(bad: FaultyServer) -> None:
    """Though it has come while this process was busy, and nobody has looked at it when the connection is taken."""

    async def test(fetcher: Fetcher, _client: HttpClient) -> None:
        assert (await fetcher.fetch(bad.url("answers-twice"), Alone())).content == faulty.JPEG
        time.sleep(0.1)  # noqa: ASYNC251  nobody looks at what comes meanwhile
        assert (await fetcher.fetch(bad.url("fine"), Alone())).content == faulty.JPEG

    with_client(test)


def test_answer_that_is_there_before_its_request_is_none(bad: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is dropped, and another one asked, which is no further attempt."""
    unheard = iter([True])
    monkeypatch.setattr("async_img2ds.fetch.client._is_unheard", lambda _: next(unheard, False))

    async def test(fetcher: Fetcher, _client: HttpClient) -> None:
        await fetcher.fetch(bad.url("fine"), Alone())
        body = await fetcher.fetch(bad.url("fine"), Alone())
        assert (body.content, body.attempts) == (faulty.JPEG, 1)
        assert next(unheard, None) is None

    with_client(test)


def test_connection_that_is_reset_as_it_is_used_again_costs_no_attempt(bad: FaultyServer) -> None:
    """The row is asked for over a new one, and never knows."""
    asked_before = bad.asked.count("once")

    async def test(fetcher: Fetcher, _client: HttpClient) -> None:
        for _ in range(3):
            hold = Alone()
            body = await fetcher.fetch(bad.url("once"), hold)
            assert (body.attempts, len(body.content), hold.delays) == (1, 100, [])

    with_client(test)
    assert bad.asked.count("once") - asked_before == 5, "the second and the third each broke a connection"


class Slow(Alone):
    """Waits before it reads on."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def hold(self, count: int) -> bool:
        assert count > 0
        return False

    async def wait_to_read(self) -> None:
        self.waits += 1
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_server_that_closes_its_half_while_we_read_slowly_has_said_all(*, is_encrypted: bool) -> None:
    """Its end of the connection comes long before the last bytes are taken from it."""
    context = None
    if is_encrypted:  # the loop reads the end whether or not it is told to pause
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 2000000\r\n\r\n" + bytes(2_000_000))
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
            await reader.read(1)
        writer.close()

    async def test(fetcher: Fetcher, _client: HttpClient) -> None:
        async with await asyncio.start_server(say, "127.0.0.1", 0, ssl=context) as listener:
            url = f"http{'s' if is_encrypted else ''}://127.0.0.1:{listener.sockets[0].getsockname()[1]}/x.jpg"
            hold = Slow()
            body = await fetcher.fetch(url, hold)
            await asyncio.sleep(0.05)
        assert len(body.content) == 2_000_000
        assert hold.waits > 3

    with_client(test, ignore_ssl_certificate=True)


# Bodies.


def test_drip_is_too_slow_long_before_the_attempt_is_over(bad: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time for the limit of silence; the rate is what is too little."""
    monkeypatch.setattr("async_img2ds.fetch.fetcher.RATE_GRACE_S", 0.3)
    monkeypatch.setattr("async_img2ds.fetch.fetcher.RATE_WINDOW_S", 0.4)
    began = time.monotonic()
    failure = failure_of(bad.url("drip"), timeout=0.5, attempt_timeout_s=20)

    assert (failure.error_class, failure.http_status) == (ErrorClass.TOO_SLOW, 200)
    assert 0.7 <= time.monotonic() - began < 1.5


def test_body_that_stalls_after_it_came_fast_is_a_time_out(bad: FaultyServer) -> None:
    """What came before does not matter: silence is silence, and is measured from the last byte."""
    began = time.monotonic()
    failure = failure_of(bad.url("fast-then-stall"), timeout=1, body_bytes_max=100_000_000)

    assert (failure.error_class, failure.http_status) == (ErrorClass.READ_TIMEOUT, 200)
    assert 1 <= time.monotonic() - began < 3


# Redirects.


@pytest.mark.parametrize("path", ["ping", "goes-on?11", "goes-on?1000000"])
def test_redirects_without_end_have_one(bad: FaultyServer, path: str) -> None:
    """To and fro, one too many, or ever elsewhere: eleven requests, and no second attempt."""
    asked_before = len(bad.asked)
    failure = failure_of(bad.url(path), retries=2)

    assert (failure.error_class, failure.http_status, failure.attempts) == (ErrorClass.REDIRECT_LIMIT, 302, 1)
    assert len(bad.asked) - asked_before == 11


def test_ten_redirects_are_followed(bad: FaultyServer) -> None:
    """The last that is allowed leads to the image."""
    body = fetch(bad.url("goes-on?10"))

    assert (body.http_status, body.final_url) == (200, bad.url("fine"))


def test_all_hops_together_have_the_time_of_one_attempt(bad: FaultyServer) -> None:
    """None of them is late by itself."""
    began = time.monotonic()
    failure = failure_of(bad.url("goes-on?10&150"), timeout=1, attempt_timeout_s=0.5)

    assert failure.error_class is ErrorClass.TOTAL_TIMEOUT
    assert 0.5 <= time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("location", "error_class"),
    [
        ("", ErrorClass.REDIRECT_INVALID),
        # Fails: urljoin() takes a scheme without a host for where we are, so that is asked eleven times.
        ("http://", ErrorClass.REDIRECT_INVALID),
        ("http://[", ErrorClass.REDIRECT_INVALID),
        ("http://127.0.0.1:99999/", ErrorClass.REDIRECT_INVALID),
        ("http://2130706433/", ErrorClass.REDIRECT_INVALID),
        # So long a line is refused as a header, before it is known to be a Location.
        ("/" + "x" * 65_536, ErrorClass.HTTP_HEADER_LIMIT),
        ("/fi\rne", ErrorClass.HTTP_MALFORMED),
        ("/fi\0ne", ErrorClass.HTTP_MALFORMED),
        *((f"{scheme}:///etc/passwd", ErrorClass.REDIRECT_BLOCKED) for scheme in ("file", "ftp", "gopher")),
        ("data:image/png;base64,AAAA", ErrorClass.REDIRECT_BLOCKED),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_location_that_leads_nowhere_is_not_followed(bad: FaultyServer, location: str, error_class: ErrorClass) -> None:
    """As it stands in a header over the wire; one request, and no second attempt."""
    faulty._says(
        "leads", f"HTTP/1.1 301 Gone\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode(), stays=True
    )
    asked_before = len(bad.asked)
    failure = failure_of(bad.url("leads"), retries=2)

    assert (failure.error_class, failure.attempts) == (error_class, 1)
    assert len(bad.asked) - asked_before == 1


def test_location_may_be_relative(bad: FaultyServer) -> None:
    """A path, a name beside it, another host with the same scheme, and a line end that is quoted."""
    for location in ("/fine", "fine", "./x/../fine", f"//127.0.0.1:{bad.port}/fine", "/fine?%0d%0aX-Mine:%201"):
        assert fetch(bad.url(f"redirects?{location}")).http_status == 200
        assert "\r\nX-Mine" not in bad.headers[-1]


@pytest.mark.parametrize(
    "host",
    [
        *("10.0.0.5", "169.254.169.254", "[::ffff:127.0.0.1]", "127.0.0.2", "0.0.0.0"),
        # These fail: a name is looked up when its turn comes, and is then refused as a first URL would be, as
        # addr_blocked and with no attempt, though one request was made.
        *("localhost", "inside.example.test"),
    ],
)
def test_redirect_inside_is_blocked_and_nobody_there_is_asked(dns: str, bad: FaultyServer, host: str) -> None:
    """By address and by name; it was asked for once, and led on."""
    asked_before = len(bad.asked)
    with canary("127.0.0.2") as port:
        failure = failure_of(
            bad.url(f"redirects?http://{host}:{port}/fine"),
            dns_servers=(dns,),
            timeout=2,
            allow_net=(f"127.0.0.1:{bad.port}",),
        )

    assert bad.asked[asked_before:] == ["redirects"]
    assert (failure.error_class, failure.attempts) == (ErrorClass.REDIRECT_BLOCKED, 1)


@pytest.mark.parametrize(("path", "retries"), [("gone-at-hop", 0), ("closed", 1)])
def test_name_that_moves_inside_is_not_followed_there(
    bad: FaultyServer, monkeypatch: pytest.MonkeyPatch, path: str, retries: int
) -> None:
    """Neither at a redirect nor at a further attempt: what is connected to is what was found to be allowed."""
    monkeypatch.setattr("async_img2ds.fetch.resolver.KEPT_LEAST_S", 0.0)
    asked_before = len(bad.asked)
    with canary("127.0.0.2", bad.port), fickle_names("127.0.0.1", "127.0.0.2") as names:
        failure = failure_of(
            f"http://fickle.test:{bad.port}/{path}",
            dns_servers=(names,),
            timeout=2,
            retries=retries,
            allow_net=(f"127.0.0.1:{bad.port}",),
        )

    assert bad.asked[asked_before:] == [path]
    assert failure.error_class in (ErrorClass.ADDR_BLOCKED, ErrorClass.REDIRECT_BLOCKED)


def test_name_that_moves_inside_is_remembered_where_it_was(bad: FaultyServer) -> None:
    """An answer that is to be kept for no time serves a burst of requests all the same, so none of them goes inside."""
    asked_before = len(bad.asked)
    with canary("127.0.0.2", bad.port), fickle_names("127.0.0.1", "127.0.0.2") as names:
        url = f"http://fickle.test:{bad.port}/gone-at-hop"
        body = fetch(url, dns_servers=(names,), timeout=2, allow_net=(f"127.0.0.1:{bad.port}",))

    assert (body.http_status, bad.asked[asked_before:]) == (200, ["gone-at-hop", "fine"])


def test_redirect_from_https_to_http_is_followed_and_recorded(bad: FaultyServer) -> None:
    """As img2dataset does; the final URL shows it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def test(fetcher: Fetcher, _client: HttpClient) -> None:
        secure = faulty.FaultyServer()
        async with await asyncio.start_server(secure.answer, "127.0.0.1", 0, ssl=context) as listener:
            port = listener.sockets[0].getsockname()[1]
            body = await fetcher.fetch(f"https://127.0.0.1:{port}/redirects?{bad.url('fine')}", Unwanted())
            await asyncio.sleep(0.05)
        assert (body.http_status, body.final_url) == (200, bad.url("fine"))

    with_client(test, ignore_ssl_certificate=True)


def test_reservation_of_the_host_that_a_redirect_led_to_counts(bad: FaultyServer, origin: Origin) -> None:
    """It is the image's own host that says so."""
    failure = failure_of(bad.url(f"redirects?{origin.url('reserved/coffee.png')}"))

    assert (failure.error_class, failure.final_url) == (ErrorClass.OPTOUT_HEADER, origin.url("reserved/coffee.png"))


def test_page_that_a_redirect_led_to_is_no_image(origin: Origin, tmp_path: Path) -> None:
    """A server that says 200 to what it does not have sends a page, and that is what is recorded."""
    (tmp_path / "urls.txt").write_text(origin.url("moved/page.jpg") + "\n")
    options = {**QUIET, "processes_count": 1, "output_format": "webdataset"}
    download(tmp_path / "urls.txt", output_folder=tmp_path / "out", **options)
    [row] = rows_of(tmp_path / "out")

    assert (row["status"], row["error_class"]) == ("failed_to_resize", "not_image")
    assert row["final_url"] == origin.url("page.jpg")


# Refusals.


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_answer_that_says_no_is_asked_for_once(bad: FaultyServer, status: int) -> None:
    """However many retries there are."""
    asked_before = len(bad.asked)
    failure = failure_of(bad.url(f"says-status?{status}"), retries=5)

    assert (failure.error_class, failure.http_status, failure.attempts) == (ErrorClass.HTTP_STATUS_4XX, status, 1)
    assert len(bad.asked) - asked_before == 1


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 522, 524])
def test_answer_that_says_not_now_is_asked_for_again(bad: FaultyServer, status: int) -> None:
    """Twice more by default, after delays of chance below bounds that double; then it is what it said."""
    hold = Alone()
    asked_before = len(bad.asked)
    failure = failure_of(bad.url(f"says-status?{status}"), hold, retries=FetchOptions().retries)

    kind = ErrorClass.HTTP_STATUS_4XX if status == 408 else ErrorClass.HTTP_STATUS_5XX
    assert (failure.error_class, failure.http_status, failure.attempts) == (kind, status, 3)
    assert hold.delays == [0.5, 1.0]
    assert len(bad.asked) - asked_before == 3


@pytest.mark.parametrize(("status", "error_class"), [(429, "http_rate_limited"), (503, "http_status_5xx")])
@pytest.mark.parametrize(
    ("said", "delay_s"),
    [
        *(("3", 3.0), ("Thu,%2001%20Jan%202015%2000:00:00%20GMT", 0.5), ("soon", 0.5), ("-3", 0.5), ("1e12", 0.5)),
        *(("1000000000000", 60.0), ("Fri,%2031%20Dec%209999%2023:59:59%20GMT", 60.0), ("3,%209", 0.5), ("3.5", 0.5)),
    ],
)
def test_retry_after_of_any_kind_becomes_a_delay(
    bad: FaultyServer, said: str, delay_s: float, status: int, error_class: str
) -> None:
    """What is no time says nothing, what is past asks for nothing, and nobody is waited for longer than a minute."""
    hold = Alone()
    failure = failure_of(bad.url(f"says-status?{status}&Retry-After:%20{said}"), hold, retries=1)

    assert (failure.error_class, failure.attempts) == (error_class, 2)
    assert hold.delays == [delay_s]


@given(text=st.text() | st.from_regex(r"\A[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{2,6} \d\d:\d\d:\d\d [-+A-Z0-9]{3,6}\Z"))
@example(text="Mon, 01 Jan 0001 00:00:00 +2359")
@example(text="Fri, 31 Dec 9999 23:59:59 -2359")
@example(text="Thu, 01 Jan 0000 00:00:00 -0000")
def test_retry_after_is_a_time_or_nothing_whatever_it_says(text: str) -> None:
    """A stranger's header never breaks a row."""
    seconds = retry_after_s(text, now=60.0)

    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


# Whole runs.


@contextmanager
def named(*names: str) -> Iterator[tuple[FaultyServer, str]]:
    """Serve faults under many names; yield the server, and where the names are known."""
    with faulty.serve() as server, name_server.serve(f"{name}. 300 IN A 127.0.0.1" for name in names) as known:
        yield server, known.address


def asked_at(server: FaultyServer, of: Callable[[str], bool]) -> list[float]:
    """Return when requests came for hosts that are *of* some kind."""
    return [at for at, head in zip(server.asked_at, server.headers, strict=True) if of(_host(head))]


def test_host_that_swallows_its_rows_holds_up_no_other(tmp_path: Path) -> None:
    """The others are served before its first time-out is over, and it is asked a few times, not once for each row."""
    live = [f"live-{number}.test" for number in range(40)]
    with named("tarpit.test", *live) as (server, dns):
        urls = [f"http://{live[n % 40]}:{server.port}/fine?{n}" for n in range(400)]
        for number in range(200):
            urls.insert(3 * number, f"http://tarpit.test:{server.port}/silent?{number}")
        (tmp_path / "urls.txt").write_text("\n".join(urls))
        report = download(
            tmp_path / "urls.txt",
            output_folder=tmp_path / "out",
            dns_servers=dns,
            timeout=1.5,
            disable_all_reencoding=True,
            number_sample_per_shard=300,
            **QUIET,
        )
    served = asked_at(server, lambda host: host != "tarpit.test")
    hung = asked_at(server, lambda host: host == "tarpit.test")

    assert (report.count, report.successes) == (600, 400)
    assert set(report.error_classes) == {"read_timeout", "host_circuit_open"}
    assert sum(report.error_classes.values()) == 200
    assert max(served) < min(hung) + 1.5
    assert len(hung) <= 12


def test_host_that_has_most_of_a_list_leaves_the_others_their_turn(tmp_path: Path) -> None:
    """They are served while it is, not after it."""
    small = [f"small-{number}.test" for number in range(10)]
    with named("big.test", *small) as (server, dns):
        urls = [f"http://big.test:{server.port}/late?{n}" for n in range(270)]
        urls += [f"http://{small[n % 10]}:{server.port}/late?{n}" for n in range(30)]
        (tmp_path / "urls.txt").write_text("\n".join(urls))
        report = download(
            tmp_path / "urls.txt",
            output_folder=tmp_path / "out",
            dns_servers=dns,
            max_per_host=4,
            disable_all_reencoding=True,
            **{**QUIET, "processes_count": 1},
        )
    big, others = (asked_at(server, lambda host: (host == "big.test") == is_big) for is_big in (True, False))  # noqa: B023

    assert report.successes == 300
    assert max(others) - min(big) < (max(big) - min(big)) / 3


def test_dead_host_is_given_up_and_one_that_comes_back_is_not(tmp_path: Path) -> None:
    """A host that resets everything costs a few requests; of one that is well when it is looked at, all rows come."""
    live = [f"live-{number}.test" for number in range(20)]
    with named("dead.test", "away.test", *live) as (server, dns):
        urls = [f"http://{live[n % 20]}:{server.port}/fine?{n}" for n in range(200)]
        urls += [f"http://dead.test:{server.port}/closed?{n}" for n in range(100)]
        urls += [f"http://away.test:{server.port}/is-away?{n}" for n in range(40)]
        (tmp_path / "urls.txt").write_text("\n".join(urls))
        began = time.monotonic()
        report = download(
            tmp_path / "urls.txt",
            output_folder=tmp_path / "out",
            dns_servers=dns,
            disable_all_reencoding=True,
            **{**QUIET, "processes_count": 1},
        )

    assert (report.count, report.successes) == (340, 240)
    assert report.error_classes["host_circuit_open"] >= 90
    assert set(report.error_classes) <= {"host_circuit_open", "connect_reset"}
    assert len(asked_at(server, lambda host: host == "dead.test")) <= 8
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("kind", ["one URL", "redirects"])
def test_host_is_asked_politely_however_its_rows_come(tmp_path: Path, kind: str) -> None:
    """Whether all rows are the same URL or come from elsewhere: its limit holds over all processes, as it sees it."""
    counted = Counted()
    faulty.FAULTS["counted"] = counted.fault
    old = [f"old-{number}.test" for number in range(20)]
    with named("busy.test", *old) as (server, dns):
        busy = f"http://busy.test:{server.port}/counted"
        rows = 1000 if kind == "one URL" else 300
        urls = [
            busy if kind == "one URL" else f"http://{old[n % 20]}:{server.port}/redirects?{busy}" for n in range(rows)
        ]
        (tmp_path / "urls.txt").write_text("\n".join(urls))
        report = download(
            tmp_path / "urls.txt",
            output_folder=tmp_path / "out",
            dns_servers=dns,
            max_per_host=2,
            disable_all_reencoding=True,
            number_sample_per_shard=rows // 4,
            **{**QUIET, "output_format": "parquet", "processes_count": 3},
        )
    written = rows_of(tmp_path / "out")

    assert report.successes == counted.all == rows
    assert len({row["key"] for row in written}) == len(written) == rows
    assert counted.most == 2


def test_host_with_a_limit_is_soon_asked_no_more_than_it_bears(photographs: Path, tmp_path: Path) -> None:
    """It refuses some at first and few afterwards, and hardly a row is lost."""
    with origin_server.serve(photographs, logged=True, rate=200) as server:
        (tmp_path / "urls.txt").write_text("".join(f"{server.url('strict/coins.gif')}?{n}\n" for n in range(200)))
        report = download(tmp_path / "urls.txt", output_folder=tmp_path / "out", number_sample_per_shard=50, **QUIET)
        statuses = [status for status, _ in server.answers()]
    later = statuses[len(statuses) // 2 :]

    assert report.successes >= 198
    assert later.count(429) < 0.1 * len(later)
