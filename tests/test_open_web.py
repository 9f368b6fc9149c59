"""Hosts, names, proxies and headers as the open web has them: nginx, unbound and tinyproxy, and servers that hang."""

from __future__ import annotations

import asyncio
import base64
import collections
import shutil
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

import faulty
import name_server
import origin as origin_server
from alone import Alone, failure_of, fetch
from async_img2ds import OptionsError, download
from async_img2ds.errors import ErrorClass, FetchFailure, LocalFault
from async_img2ds.fetch.client import HttpClient
from async_img2ds.fetch.connections import IDLE_MAX
from async_img2ds.fetch.fetcher import Fetcher
from async_img2ds.images.transform import Transformer
from async_img2ds.nets import parse_net
from async_img2ds.options import FetchOptions, ImageOptions
from async_img2ds.policy import urls
from async_img2ds.policy.urls import AddressPolicy
from async_img2ds.worker.process import loop_factory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_img2ds.records import Body
    from faulty import FaultyServer
    from origin import Origin

QUIET: dict[str, Any] = {"allow_net": "127.0.0.0/8", "progress": "none", "processes_count": 2, "output_format": "dummy"}


@pytest.fixture(scope="module")
def bad() -> Iterator[FaultyServer]:
    with faulty.serve() as server:
        yield server


@contextmanager
def black_hole(address: str, port: int = 0) -> Iterator[int]:
    """Yield a port of *address* where nobody takes connections and the queue of those who wait is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen(0)
        port = listening.getsockname()[1]
        for _ in range(4):  # the kernel takes one more than it was told, or two
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        time.sleep(0.05)
        yield port


# Names.


@pytest.mark.parametrize(
    ("name", "error_class"),
    [
        ("gone.example.test", ErrorClass.DNS_NXDOMAIN),
        ("empty.example.test", ErrorClass.DNS_NODATA),
        ("a.failing.test", ErrorClass.DNS_SERVFAIL),
        ("a.refusing.test", ErrorClass.DNS_SERVFAIL),
    ],
)
def test_answers_of_name_servers_become_classes(dns: str, name: str, error_class: ErrorClass) -> None:
    """That there is no name is told from there being no address, and both from name servers that fail."""
    assert failure_of(f"http://{name}/x.jpg", dns_servers=(dns,), timeout=5).error_class is error_class


def test_name_whose_servers_are_silent_times_out_alone(dns: str, origin: Origin) -> None:
    """Others are found meanwhile, so it is the name's own failure."""
    chosen = FetchOptions(timeout=5, retries=0, allow_net=("127.0.0.0/8",), dns_servers=(dns,))
    addresses = AddressPolicy(map(parse_net, chosen.allow_net))

    async def run() -> list[Any]:
        async with HttpClient.open(chosen, addresses, "test") as client:
            fetcher = Fetcher(client, chosen, addresses, lambda: 0.5)
            good = fetcher.fetch(origin.url("rocket.jpg", "pictures.example.test"), Alone())
            mute = fetcher.fetch("http://a.mute.test/x", Alone())
            return list(await asyncio.gather(good, mute, return_exceptions=True))

    good, mute = asyncio.run(run())
    assert good.http_status == 200
    assert isinstance(mute, FetchFailure)
    assert mute.error_class is ErrorClass.DNS_TIMEOUT


def test_name_with_hundreds_of_addresses_takes_no_longer(dns: str) -> None:
    """A few of them are tried, not all."""
    failure = failure_of(f"http://crowd.example.test:{origin_server.free_port()}/x.jpg", dns_servers=(dns,), timeout=5)

    assert failure.error_class is ErrorClass.CONNECT_REFUSED


def test_second_address_serves_where_the_first_is_dead(dns: str, origin: Origin) -> None:
    """The next one is tried a quarter of a second later, whichever comes first."""
    with black_hole("127.0.9.9", origin.port):
        for _ in range(2):
            body = fetch(origin.url("rocket.jpg", "dead-or-alive.example.test"), dns_servers=(dns,), timeout=5)
            assert body.http_status == 200


def test_second_name_server_serves_where_the_first_is_dead(dns: str, origin: Origin) -> None:
    """In whatever way it is written."""
    dead = f"127.0.0.1:{origin_server.free_port()}"
    body = fetch(origin.url("rocket.jpg", "pictures.example.test"), dns_servers=(dead, dns), timeout=5)

    assert body.http_status == 200


def test_ip_version_chooses_the_addresses(dns: str, origin: Origin) -> None:
    """Of the other version nothing is looked up, and a literal of it is not asked."""
    url = origin.url("rocket.jpg", "pictures.example.test")

    assert fetch(url, dns_servers=(dns,), ip_version="4").http_status == 200
    assert failure_of(url, dns_servers=(dns,), ip_version="6").error_class is ErrorClass.DNS_NODATA
    assert failure_of(origin.url("rocket.jpg"), ip_version="6").error_class is ErrorClass.CONNECT_UNREACHABLE


def test_name_server_that_is_gone_for_a_while_costs_no_row(origin: Origin, tmp_path: Path) -> None:
    """The run waits for it, and goes on by itself; no row fails for it."""
    names = [f"host-{number}.test" for number in range(160)]
    (tmp_path / "urls.txt").write_text("".join(f"{origin.url('slow/coffee.png', name)}\n" for name in names))
    with name_server.serve(f"{name}. 300 IN A 127.0.0.1" for name in names) as server:

        def fail_and_heal() -> None:
            time.sleep(1.5)
            server.kill()
            time.sleep(4)
            server.start()

        outage = threading.Thread(target=fail_and_heal)
        outage.start()
        report = download(
            tmp_path / "urls.txt",
            output_folder=tmp_path / "out",
            dns_servers=server.address,
            thread_count=16,  # so slow that names are still wanted when there is nobody to ask
            **QUIET,
        )
        outage.join()

    assert report.error_classes == {}
    assert report.successes == len(names)
    assert report.seconds > 5, "it was over before the name server was gone"


# Connections.


def test_host_whose_queue_is_full_times_out_while_connecting() -> None:
    """Nobody says no, and nobody says yes."""
    with black_hole("127.0.9.8") as port:
        assert failure_of(f"http://127.0.9.8:{port}/x.jpg").error_class is ErrorClass.CONNECT_TIMEOUT


def test_what_is_no_image_is_not_read_to_its_end(bad: FaultyServer) -> None:
    """A page of any length costs its first bytes; those say what it is, as all of it would."""
    before = bad.sent_bytes
    body = fetch(bad.url("endless-page"), transformer=Transformer(ImageOptions()))

    assert body.content.startswith(b"<!DOCTYPE html>")
    assert len(body.content) < 300_000
    assert bad.sent_bytes - before < 20_000_000


def test_server_that_says_all_and_closes_its_half_has_said_all(bad: FaultyServer) -> None:
    """However late it is read."""
    assert len(fetch(bad.url("half-closes"), in_flight_bytes_max=1).content) == 2_000_000


@pytest.mark.parametrize("keep", [True, False])
def test_connections_to_thousands_of_hosts_leave_no_descriptor(keep: bool) -> None:  # noqa: FBT001  as pytest calls it
    """Those that nobody wants go at once; of the others a few hundred are kept, and in the end none."""
    chosen = FetchOptions(timeout=5, allow_net=("127.0.0.0/8",))

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def fall_to(most: int) -> None:
        while descriptors() > most:
            await asyncio.sleep(0.01)

    async def run(port: int) -> None:
        before = descriptors()
        async with HttpClient.open(chosen, AddressPolicy(map(parse_net, chosen.allow_net)), "test") as client:
            room = asyncio.Semaphore(100)

            async def ask(number: int) -> None:
                target = urls.parse(f"http://127.8.{number // 250}.{number % 250 + 1}:{port}/")
                async with room, client.get(target, lambda: keep) as answer:
                    assert [chunk async for chunk in answer.chunks()]

            await asyncio.gather(*(ask(number) for number in range(3000)))
            # Both ends are of this process. The loop and the resolver have some of their own.
            await fall_to(before + (2 * IDLE_MAX if keep else 0) + 10)
            assert (descriptors() > before + IDLE_MAX) == keep
        await fall_to(before + 10)

    with counting() as server, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(asyncio.wait_for(run(server.port), 60))


@pytest.mark.parametrize("options", [{"disable_all_reencoding": True}, {}])
def test_images_are_read_to_their_end(origin: Origin, photographs_bytes: dict[str, bytes], options: Any) -> None:
    """Whatever becomes of them."""
    for name, content in photographs_bytes.items():
        assert fetch(origin.url(name), transformer=Transformer(ImageOptions(**options))).content == content


def test_final_url_is_where_redirects_led(origin: Origin, bad: FaultyServer) -> None:
    """Of an image, and of a failure; none where there was no redirect."""
    assert fetch(origin.url("moved/rocket.jpg")).final_url == origin.url("rocket.jpg")
    assert fetch(origin.url("rocket.jpg")).final_url is None
    assert failure_of(origin.url("moved/no-such.jpg")).final_url == origin.url("no-such.jpg")
    assert failure_of(origin.url("no-such.jpg")).final_url is None
    assert failure_of(bad.url("moved-to-silence"), timeout=0.3, attempt_timeout_s=0.2).final_url == bad.url("silent")


# Headers and proxies.


def test_headers_are_sent_as_told(bad: FaultyServer) -> None:
    """Those for all hosts, those for this one instead of them, and ours where nobody says otherwise."""
    rules = '["127.0.0.1"]\nheaders = { accept-language = "de", Referer = "https://example.org/" }\n'
    fetch(bad.url("fine"), rules=rules, header=("Accept-Language: fr", "X-Mine: 1"))

    sent = bad.headers[-1].splitlines()
    assert {"accept-language: de", "Referer: https://example.org/", "X-Mine: 1"} <= set(sent)
    assert any(line.startswith("User-Agent: AsyncImgDS/") for line in sent)
    assert not any("fr" in line for line in sent if line.lower().startswith("accept-language"))


@pytest.mark.parametrize(
    ("line", "said"),
    [("nonsense", "takes lines such as"), ("Host: a", "for the program itself"), ("A b: c", "no header name")],
)
def test_headers_that_cannot_be_sent_are_refused(line: str, said: str) -> None:
    """Before anything is asked."""
    with pytest.raises(OptionsError, match=said):
        download("urls.txt", header=line)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Tinyproxy on loopback, which wants to know who asks; yields its address and port."""
    folder, port = tmp_path_factory.mktemp("proxy"), origin_server.free_port()
    lines = [f"Port {port}", "Listen 127.0.0.1", "BasicAuth user secret", f'LogFile "{folder}/log"', "MaxClients 50"]
    (folder / "tinyproxy.conf").write_text("\n".join([*lines, f'PidFile "{folder}/pid"', "ConnectPort 0", ""]))
    program = shutil.which("tinyproxy") or "/usr/bin/tinyproxy"
    with subprocess.Popen([program, "-d", "-c", str(folder / "tinyproxy.conf")]) as server:
        try:
            origin_server.wait_for_port(port)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def test_images_come_through_a_proxy(proxy: str, origin: Origin, photographs_bytes: dict[str, bytes]) -> None:
    """Which is told who asks."""
    body = fetch(origin.url("rocket.jpg"), proxy=f"http://user:secret@{proxy}", timeout=5)

    assert body.content == photographs_bytes["rocket.jpg"]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["inside.example.test", "mixed.example.test", "10.0.0.5", "gone.example.test"])
def test_proxy_is_no_way_round_the_policy(dns: str, scheme: str, host: str) -> None:
    """What may not be asked for is not asked for by others, nor over a connection to them that is there already.

    Of a name with several addresses all must be good, as the proxy looks it up by itself.
    """
    tunnel = Tunnel(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + faulty.JPEG)
    allowed = ("127.0.0.0/8",)
    with pytest.raises(FetchFailure) as caught:
        through(tunnel, "http://pictures.example.test/x.jpg", f"{scheme}://{host}/x.jpg", dns=dns, allowed=allowed)

    wanted = ErrorClass.DNS_NXDOMAIN if host == "gone.example.test" else ErrorClass.ADDR_BLOCKED
    assert caught.value.error_class is wanted
    assert len(tunnel.heads) == 1


class Tunnel:
    """A proxy that leads on by CONNECT, or says why not; the one in Debian takes no port but those it knows."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.writers: list[asyncio.StreamWriter] = []

    @property
    def still_open(self) -> int:
        """Connections that the other side has not ended."""
        return sum(not writer.is_closing() for writer in self.writers)

    async def end(self) -> None:
        """Drop every connection."""
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            self.heads.append(head)
            writer.write(self.answer)
            if head.startswith("CONNECT") and b" 200 " in self.answer:
                host, _, port = head.split()[1].rpartition(":")
                inner_reader, inner_writer = await asyncio.open_connection(host.strip("[]"), int(port))
                self.writers.append(inner_writer)
                await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
    writer.close()


def through(tunnel: Tunnel, *urls_in_turn: str, dns: str = "", allowed: tuple[str, ...] = ("127.0.0.0/8",)) -> Body:
    """Fetch some URLs one after the other by way of *tunnel*; return what the last one was."""

    async def run() -> Body:
        async with await asyncio.start_server(tunnel.serve, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            chosen = FetchOptions(
                timeout=5,
                retries=0,
                allow_net=allowed,
                ignore_ssl_certificate=True,
                dns_servers=(dns,) if dns else (),
                proxy=f"http://user:secret@127.0.0.1:{port}",
            )
            addresses = AddressPolicy(map(parse_net, chosen.allow_net))
            try:
                async with HttpClient.open(chosen, addresses, "test") as client:
                    fetcher = Fetcher(client, chosen, addresses, lambda: 0.5)
                    *first, last = urls_in_turn
                    for url in first:
                        await fetcher.fetch(url, Alone())
                    return await fetcher.fetch(last, Alone())
            finally:
                for _ in range(100):
                    if not tunnel.still_open:
                        break
                    await asyncio.sleep(0.01)
                leaked = tunnel.still_open
                await tunnel.end()
                assert not leaked, "connections were left open"

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run())


def test_encrypted_images_come_through_a_tunnel(
    tmp_path: Path, photographs: Path, photographs_bytes: dict[str, bytes]
) -> None:
    """The proxy hears where to, and who asks; the rest is not for it."""
    import authority

    _, certificates = authority.certify(tmp_path, ["127.0.0.1"])
    tunnel = Tunnel()
    with origin_server.serve(photographs, certificates=certificates) as server:
        body = through(tunnel, server.secure_url("rocket.jpg", "127.0.0.1"))

    assert body.content == photographs_bytes["rocket.jpg"]
    assert tunnel.heads[0].startswith(f"CONNECT 127.0.0.1:{server.secure_port} HTTP/1.1\r\n")
    assert base64.b64encode(b"user:secret").decode() in tunnel.heads[0]
    assert "rocket" not in tunnel.heads[0]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["nobody", "stranger", "silent", "no proxy"])
def test_fault_of_a_proxy_is_not_the_urls(monkeypatch: pytest.MonkeyPatch, scheme: str, kind: str) -> None:
    """Neither that it is not there, nor that it does not know us; and no password is told."""
    monkeypatch.setattr("async_img2ds.fetch.fetcher.LOCAL_FAULT_MOST_S", 0.0)
    url = f"{scheme}://127.0.0.1:2/x.jpg"
    strange = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"

    def ask() -> None:
        if kind == "stranger":
            through(Tunnel(strange), url)
        elif kind == "no proxy":
            through(Tunnel(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), f"https://127.0.0.1:2/{scheme}.jpg")
        elif kind == "silent":
            with black_hole("127.0.9.5") as port:
                fetch(url, proxy=f"http://user:secret@127.0.9.5:{port}")
        else:
            fetch(url, proxy=f"http://user:secret@127.0.0.1:{origin_server.free_port()}")

    with pytest.raises(LocalFault, match="the proxy") as caught:
        ask()
    assert "secret" not in str(caught.value)


def test_host_behind_a_proxy_that_wants_a_proxy_to_be_known_fails_by_itself(tmp_path: Path, photographs: Path) -> None:
    """An answer of 407 that comes through a tunnel is none of the proxy's."""
    import authority

    _, certificates = authority.certify(tmp_path, ["127.0.0.1"])
    with (
        origin_server.serve(photographs, certificates=certificates) as server,
        pytest.raises(FetchFailure) as caught,
    ):
        through(Tunnel(), server.secure_url("stranger", "127.0.0.1"))

    assert caught.value.http_status == 407


@pytest.mark.parametrize(
    ("answer", "error_class"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", ErrorClass.CONNECT_UNREACHABLE),
        (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", ErrorClass.CONNECT_TIMEOUT),
    ],
)
def test_host_that_a_proxy_does_not_reach_fails_by_itself(answer: bytes, error_class: ErrorClass) -> None:
    """The proxy did what it could."""
    with pytest.raises(FetchFailure) as caught:
        through(Tunnel(answer), "https://127.0.0.1:2/x.jpg")

    assert caught.value.error_class is error_class
    assert "Tunnel connection failed: 50" in caught.value.message


# Whole runs.


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = [row for file in folder.glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    return sorted(rows, key=lambda row: str(row["key"]))


def test_identical_urls_are_fetched_once_when_asked_to(photographs: Path, tmp_path: Path) -> None:
    """Over all shards; each row is accounted for, and without being asked for, all are fetched."""
    with origin_server.serve(photographs, logged=True) as server:
        urls = [server.url(f"rocket.jpg?{number % 7}") for number in range(40)] + ["", ""]
        (tmp_path / "urls.csv").write_text("url\n" + "".join(f'"{url}"\n' for url in urls))
        listed = {"input_format": "csv", "number_sample_per_shard": 9, **QUIET, "output_format": "webdataset"}
        once = download(tmp_path / "urls.csv", output_folder=tmp_path / "once", dedupe=True, **listed)
        asked = collections.Counter(server.requests())
        rows = rows_of(tmp_path / "once")
        each = download(tmp_path / "urls.csv", output_folder=tmp_path / "each", **listed)

    assert set(asked.values()) == {1}
    assert len(rows) == len({row["key"] for row in rows}) == 42
    assert once.error_classes == {"duplicate": 33, "url_invalid": 2}
    assert [row["error_class"] for row in rows][:8] == [None] * 7 + ["duplicate"]
    assert each.error_classes == {"url_invalid": 2}


class Counting:
    """Answers after a while, and counts how many asked at a time, by path."""

    def __init__(self) -> None:
        self.now: collections.Counter[str] = collections.Counter()
        self.most: collections.Counter[str] = collections.Counter()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split()[1].decode().split("?")[0]
                self.now[path] += 1
                self.most[path] = max(self.most[path], self.now[path])
                await asyncio.sleep(0.03)
                self.now[path] -= 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + faulty.JPEG)
        except asyncio.IncompleteReadError:
            writer.close()


@contextmanager
def counting() -> Iterator[Counting]:
    server, ready = Counting(), threading.Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        async with await asyncio.start_server(server.serve, "0.0.0.0", 0) as listener:
            server.port = listener.sockets[0].getsockname()[1]
            ready.set()
            await asyncio.Event().wait()

    task = loop.create_task(run())
    thread = threading.Thread(target=_run_until_cancelled, args=(loop, task))
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


def _run_until_cancelled(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    try:
        loop.run_until_complete(task)
    except asyncio.CancelledError:
        pass
    finally:
        loop.close()


def test_limits_of_a_host_hold_over_all_processes(tmp_path: Path) -> None:
    """As the server sees it: fewer at a time than there are processes, for all hosts or by a rule for one."""
    with counting() as server:
        urls = [f"http://127.0.{1 + n % 3}.1:{server.port}/{n % 3}?{n}" for n in range(240)]
        (tmp_path / "urls.txt").write_text("\n".join(urls))
        (tmp_path / "hosts.toml").write_text('["127.0.2.1"]\nmax_per_host = 1\n["127.0.3.1"]\nmax_per_host = 8\n')
        report = download(
            tmp_path / "urls.txt",
            output_folder=tmp_path / "out",
            number_sample_per_shard=60,
            max_per_host=2,
            hosts_file=tmp_path / "hosts.toml",
            **{**QUIET, "processes_count": 4},
            disable_all_reencoding=True,
        )

    assert report.successes == 240
    assert server.most["/0"] == 2
    assert server.most["/1"] == 1
    assert 2 < server.most["/2"] <= 8


def test_run_goes_on_around_hosts_that_hang_and_refuse(origin: Origin, tmp_path: Path) -> None:
    """Rows of dead hosts are not waited for one by one, and all others come."""
    with black_hole("127.0.9.7") as port:
        closed = origin_server.free_port()
        dead = {0: f"http://127.0.9.7:{port}/", 1: f"http://127.0.9.6:{closed}/"}
        urls = [f"{dead.get(n % 10, origin.url('rocket.jpg'))}?{n}" for n in range(300)]
        (tmp_path / "urls.txt").write_text("\n".join(urls))
        report = download(tmp_path / "urls.txt", output_folder=tmp_path / "out", timeout=1, **QUIET)

    assert report.successes == 240
    assert report.count == 300
    assert set(report.error_classes) == {"connect_timeout", "connect_refused", "host_circuit_open"}
    assert report.error_classes["host_circuit_open"] >= 40


def test_host_that_sets_a_limit_gives_all_its_images(photographs: Path, tmp_path: Path) -> None:
    """It is asked as often as it bears, however many processes ask."""
    with origin_server.serve(photographs, logged=True, rate=20) as server:
        (tmp_path / "urls.txt").write_text("".join(f"{server.url('strict/coins.gif')}?{n}\n" for n in range(100)))
        report = download(tmp_path / "urls.txt", output_folder=tmp_path / "out", number_sample_per_shard=50, **QUIET)

    assert report.successes >= 97, "a few rows may be refused three times"


def test_host_that_asks_for_a_pause_is_left_alone(tmp_path: Path) -> None:
    """By all its rows in all processes, for as long as it says: the server sees no request in between."""
    with faulty.serve() as server:
        (tmp_path / "urls.txt").write_text("".join(f"{server.url('pausing')}?{n}\n" for n in range(30)))
        report = download(
            tmp_path / "urls.txt",
            output_folder=tmp_path / "out",
            disable_all_reencoding=True,
            number_sample_per_shard=15,
            **QUIET,
        )

    assert report.successes == 30
    said = server.refused_at[-1]
    assert not [at for at in server.asked_at if said < at < said + 1.9]
    assert max(server.asked_at) > said + 1.9


def test_worst_case_is_told_when_asked_for(origin: Origin, tmp_path: Path) -> None:
    """Before the run, from the options alone."""
    (tmp_path / "urls.txt").write_text(origin.url("rocket.jpg"))
    command = ["aimg2ds", "fetch", str(tmp_path / "urls.txt"), "--output_folder", str(tmp_path / "out"), "--explain"]
    command += ["--allow_net", "127.0.0.0/8", "--row_timeout_s", "36", "--thread_count", "50", "--processes_count", "2"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "a million URLs take 100 h at the most" in said.stderr

    slow = subprocess.run(
        [*command, "--crawl_delay", "3.6", "--retries", "0"], capture_output=True, text=True, check=True
    )
    assert "a million URLs take 1,100 h at the most" in slow.stderr
    assert "all be on one host, which is asked every 3.6 s" in slow.stderr


def test_few_descriptors_are_enough(tmp_path: Path) -> None:
    """What the system allows is obeyed, and said; nothing fails for it."""
    with counting() as server:
        urls = [f"http://127.0.{n // 250}.{n % 250 + 1}:{server.port}/?{n}" for n in range(600)]
        (tmp_path / "urls.txt").write_text("\n".join(urls))
        command = ["aimg2ds", "fetch", str(tmp_path / "urls.txt"), "--output_folder", str(tmp_path / "out")]
        command += ["--output_format", "dummy", "--disable_all_reencoding", "--allow_net", "127.0.0.0/8"]
        limited = ["bash", "-c", 'ulimit -n 240; exec "$0" "$@"', *command, "--thread_count", "500"]
        said = subprocess.run(limited, capture_output=True, text=True, check=True)

    assert "600 of 600 images" in said.stdout
    assert "ulimit -n leaves room for 20 URLs under way" in said.stderr
