"""The matrix: each kind of attack on whoever fetches a list from the web, as URLs, answers and images, with its end."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import struct
import zlib
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias

from PIL import Image, PngImagePlugin
from signals import NOT_RESERVING, RESERVING, TDM, USAGE

from handmade import chunk, gif, png, saved, webp

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["CANARY", "CLOSED", "GROUPS", "PORTS", "Answer", "Probe", "images", "laid_out", "probes", "small"]

# The bytes of an answer, or what a server does instead, after which it closes the connection.
Answer: TypeAlias = "bytes | Callable[[StreamReader, StreamWriter], Awaitable[None]]"

GROUPS: Final = ("addresses", "files", "headers", "answers", "images")
OK: Final = b"HTTP/1.1 200 OK\r\n"
SUCCESS: Final = "success"


@dataclass(frozen=True, slots=True)
class Probe:
    """One row of the list.

    Attributes:
        group: of what it is an attack: ``addresses``, ``files``, ``headers``, ``answers`` or ``images``.
        kind: which attack, as the table calls it.
        url: what the list has; ``{host}`` stands for a public address of its own, ``{folder}`` for a folder in which
            ``open`` may be read and nothing else may, as :func:`laid_out` makes it.
        expected: the reasons of which the row may fail for one; ``success`` if it may have an image.
        answers: what its own host says, by path.
        records: what the name server says of its names.

    """

    group: str
    kind: str
    url: str
    expected: frozenset[str]
    answers: Mapping[str, Answer] = field(default_factory=dict)
    records: tuple[str, ...] = ()


def probes(photographs: Path) -> list[Probe]:
    """Return all of them, in an order that stays."""
    picture = small(photographs)
    return [
        *_addresses(),
        *_urls(picture),
        *_files(),
        *_headers(picture),
        *_answers(picture),
        *_images(),
        *_damaged(photographs),
    ]


def small(photographs: Path) -> bytes:
    """Return a photograph of a few kilobytes."""
    with Image.open(photographs / "rocket.jpg") as image:
        return saved(image.resize((200, 150)), "JPEG")


# Addresses.

BLOCKS: Final = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4", "::/128", "::1/128", "::/96", "::ffff:0:0/96", "64:ff9b:1::/48", "100::/64"),
    *("100:0:0:1::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10"),
    *("fec0::/10", "ff00::/8"),
]
# What clouds tell their machines, and private addresses in every wrapping of IPv6.
SINGLE: Final = [
    *("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.0.8"),
    *("fd00:ec2::254", "fd20:ce::254", "127.0.0.1", "::1", "::ffff:10.0.0.5", "::ffff:127.0.0.1", "::ffff:8.8.8.8"),
    *("::10.0.0.5", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:5", "64:ff9b::7f00:1", "64:ff9b:1::a00:5", "2002:a00:5::1"),
    *("2002:7f00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:20::1", "fe80::1", "ff02::1", "10.0.0.5"),
]
# Every closed address that is tried, from both edges of each block.
CLOSED: Final = sorted(
    {str(edge) for block in map(ip_network, BLOCKS) for edge in (block[0], block[-1])} | set(SINGLE),
    key=lambda address: (ip_address(address).version, int(ip_address(address))),
)
OPEN: Final = ["1.1.1.1", "9.255.255.255", "172.15.255.255", "2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808"]
SPELLINGS: Final = [
    *(
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7f.0.0.1",
        "127.0.0.1.",
    ),
    *(
        "127.0.0.01",
        "010.0.0.5",
        "0xA.0.0.5",
        "167772165",
        "10.5",
        "2852039166",
        "0xa9fea9fe",
        "169.254.43518",
        "0",
        "0x0",
    ),
    *("１２７.0.0.1", "127。0。0。1", "①②⑦.0.0.1", "%31%32%37.0.0.1", "127.0.0.1%00.example.test", "[::127.0.0.1]"),
    *("[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[::1%25lo]", "[fe80::1%25lo]", "[::ffff:a9fe:a9fe]", "[127.0.0.1]"),
    *("256.256.256.256", "1.2.3.4.5", "user@127.0.0.1", "8.8.8.8@127.0.0.1", "localhost"),
    *("localhost.", "LOCALHOST", "ip6-localhost", "localhost.localdomain"),
]
SCHEMES: Final = [
    *("file:///etc/passwd", "file://localhost/etc/passwd", "FILE:///etc/passwd", "ftp://{host}/x", "gopher://{host}/1"),
    *(
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "s3://bucket/key",
        "gs://bucket/key",
        "jar:http://{host}!/x",
    ),
    *(
        "dict://{host}:11211/",
        "ldap://{host}/",
        "unix:///run/docker.sock",
        "http+unix://%2Frun%2Fdocker.sock/",
        "ssh://{host}",
    ),
    *("/etc/passwd", "C:\\x.jpg", "view-source:http://{host}/", "blob:http://{host}/1", "about:blank", "ws://{host}/"),
]
# WHATWG Fetch, "port blocking".
PORTS: Final = [
    *(
        1,
        7,
        9,
        11,
        13,
        15,
        17,
        19,
        20,
        21,
        22,
        23,
        25,
        37,
        42,
        43,
        53,
        69,
        77,
        79,
        87,
        95,
        101,
        102,
        103,
        104,
        109,
        110,
    ),
    *(
        111,
        113,
        115,
        117,
        119,
        123,
        135,
        137,
        139,
        143,
        161,
        179,
        389,
        427,
        465,
        512,
        513,
        514,
        515,
        526,
        530,
        531,
        532,
    ),
    *(540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061),
    *(6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10_080),
]

_REFUSED: Final = frozenset({"addr_blocked"})
_ODD: Final = frozenset({"addr_blocked", "url_invalid", "dns_nxdomain"})
_LED: Final = frozenset({"redirect_blocked"})
_LED_ODD: Final = frozenset({"redirect_blocked", "redirect_invalid", "dns_nxdomain"})


def _addresses() -> Iterator[Probe]:
    for address in CLOSED:
        literal = f"[{address}]" if ":" in address else address
        yield Probe("addresses", "closed, in the URL", f"http://{literal}/x.jpg", _REFUSED)
    for number, address in enumerate(CLOSED):
        name, kind = f"c{number}.closed.test", "AAAA" if ":" in address else "A"
        records = (f"{name}. 300 IN {kind} {address}",)
        yield Probe("addresses", "closed, behind a name", f"http://{name}/x.jpg", _REFUSED, records=records)
    for number, address in enumerate(CLOSED):
        literal = f"[{address}]" if ":" in address else address
        there = {"/": _moved(f"http://{literal}/x.jpg"), "/name": _moved(f"http://c{number}.closed.test/x.jpg")}
        yield Probe("addresses", "closed, behind a redirect", "http://{host}/", _LED, there)
        yield Probe("addresses", "closed, behind a redirect to a name", "http://{host}/name", _LED | _REFUSED, there)
    for spelling in SPELLINGS:
        yield Probe("addresses", "closed, oddly spelt", f"http://{spelling}/x.jpg", _ODD)
        yield Probe(
            "addresses",
            "closed, oddly spelt, behind a redirect",
            "http://{host}/",
            _LED_ODD,
            {"/": _moved(f"http://{spelling}/x")},
        )
    for number in range(10):
        name = f"r{number}.fickle.test"
        yield Probe(
            "addresses",
            "a name that answers otherwise the second time",
            f"http://{name}/hop",
            frozenset({SUCCESS, "addr_blocked", "redirect_blocked"}),
        )
    for number, address in enumerate(address for address in CLOSED if ":" not in address):
        name = f"m{number}.mixed.test"
        mixed = (f"{name}. 300 IN A {address}", f"{name}. 300 IN A 8.8.4.4")
        yield Probe(
            "addresses",
            "a name with a public address beside a closed one",
            f"http://{name}/x.jpg",
            frozenset({SUCCESS}),
            records=mixed,
        )


def _urls(picture: bytes) -> Iterator[Probe]:
    whole = _sized(picture)
    for port in PORTS:
        yield Probe(
            "addresses", "ports of other services", f"http://{{host}}:{port}/x.jpg", frozenset({"port_blocked"})
        )
    for url in SCHEMES:
        yield Probe("addresses", "other schemes", url, frozenset({"url_scheme", "url_invalid", "source_blocked"}))
        if ":" in url:  # else it is a path there
            refused = frozenset({"redirect_blocked", "redirect_invalid"})
            yield Probe("addresses", "other schemes, behind a redirect", "http://{host}/", refused, {"/": _moved(url)})
    for user in ("user", "user:pass", "127.0.0.1\\", "user:p%40ss", ":", "a:b@c", "%00:x"):
        yield Probe(
            "addresses",
            "credentials in the URL: nobody is sent them",
            f"http://{user}@{{host}}/x.jpg",
            frozenset({SUCCESS}),
            {"/x.jpg": whole},
        )
    for address in OPEN:
        literal = f"[{address}]" if ":" in address else address
        yield Probe("addresses", "open, so that they are asked", f"http://{literal}/x.jpg", frozenset({SUCCESS}))


# Headers.


# Files. They are tried with one folder opened, as otherwise none is looked at.

CANARY: Final = "canary.jpg"
# To whom a URL is none of the one folder, though it may look as if it were.
_OTHER_KINDS: Final = [
    *("file://host{folder}/open/x.jpg", "file://localhost.{folder}/open/x.jpg", "file://127.0.0.1{folder}/open/x.jpg"),
    *("file:/{folder}/canary.jpg", "/{folder}/open/x.jpg", "local:{folder}/canary.jpg", "file:open/x.jpg"),
    *("local://{folder}/canary.jpg", "LOCAL://{folder}/canary.jpg", "memory://canary.jpg", "dir://{folder}/open"),
    *("simplecache::file://{folder}/canary.jpg", "filecache::local://{folder}/canary.jpg", "url://{folder}/open/x.jpg"),
    *("blockcache::file://{folder}/open/x.jpg", "zip://canary.jpg::file://{folder}/canary.zip", "libarchive://x"),
    *("zip://canary.jpg::file://{folder}/open/canary.zip", "tar://canary.jpg::file://{folder}/open/x.tar"),
    *("simplecache::s3://bucket/key", "s3://bucket/key", "s3a://bucket/key", "gs://bucket/key", "gcs://bucket/key"),
    *("az://container/key", "abfs://container/key", "abfs://container@{host}/key", "adl://{host}/key", "hf://x/y/z"),
    *("ssh://{host}{folder}/canary.jpg", "sftp://{host}/x", "ftp://{host}/x", "smb://{host}/x", "hdfs://{host}/x"),
    *("webhdfs://{host}/x", "github://a:b@c/x", "git://{folder}:x", "jupyter://{host}/x", "reference://x", "dask://x"),
    *("cached::file://{folder}/canary.jpg", "root://{host}/x", "oci://b@n/x", "oss://b/x", "arrow_hdfs://{host}/x"),
]
_OUTSIDE: Final = [
    *("/etc/passwd", "file:///etc/passwd", "FILE:///etc/passwd", "/proc/self/environ", "file:///proc/self/environ"),
    *("{folder}/canary.jpg", "file://{folder}/canary.jpg", "file://{folder}/open/../canary.jpg", "{folder}/open"),
    *("file:{folder}/canary.jpg", "file://localhost{folder}/canary.jpg", "FILE://LOCALHOST{folder}/canary.jpg"),
    *("file:{folder}/open/../canary.jpg", "file://localhost{folder}/open/%2e%2e/canary.jpg"),
    *("{folder}/open/../canary.jpg", "{folder}/open/./../canary.jpg", "{folder}/open/deep/../../canary.jpg"),
    *("file://{folder}/open/%2e%2e/canary.jpg", "file://{folder}/open/%2E./canary.jpg", "{folder}/opened/canary.jpg"),
    *("file://{folder}/open%2F..%2Fcanary.jpg", "{folder}/open-more/canary.jpg", "/dev/stdin", "/dev/zero"),
]
# Links in the folder, by name, and where they lead; pipes lie beside them.
_LINKS: Final = {
    "link.jpg": "../canary.jpg",
    "chain.jpg": "link.jpg",
    "up": "..",
    "root": "/",
    "sideways": "../open-more",
    "proc": "/proc/self",
    "self.jpg": "self.jpg",
    "zero.jpg": "/dev/zero",
}
_LED_OUT: Final = [
    *("link.jpg", "chain.jpg", "up/canary.jpg", "root/etc/passwd", "sideways/canary.jpg", "proc/environ", "proc/mem"),
    *("proc/root/etc/passwd", "proc/cwd/canary.jpg", "zero.jpg", "deep/out.jpg", "pipe.jpg", "deep"),
]


def laid_out(folder: Path) -> None:
    """Make in *folder* what the probes of files are about."""
    for name in ("open/deep", "open-more", "opened"):
        (folder / name).mkdir(parents=True)
    (folder / "open" / "x.jpg").write_bytes((folder.parent / "photographs" / "rocket.jpg").read_bytes())
    for name in (".", "open-more", "opened"):
        (folder / name / CANARY).write_bytes(b"whoever reads this has been led astray")
    for name, target in _LINKS.items():
        (folder / "open" / name).symlink_to(target)
    (folder / "open" / "deep" / "out.jpg").symlink_to(folder / CANARY)
    os.mkfifo(folder / "open" / "pipe.jpg")


def _files() -> Iterator[Probe]:
    outside = frozenset({"source_blocked"})
    for url in _OTHER_KINDS:
        expected = frozenset({"url_scheme", "url_invalid"})
        yield Probe("files", "other file systems, chains of them, other machines", url, expected)
    for url in _OUTSIDE:
        yield Probe("files", "outside of the folder that is open", url, outside)
    for name in _LED_OUT:
        yield Probe("files", "links that lead out, pipes, devices", f"{{folder}}/open/{name}", outside)
        if "/" not in name:
            yield Probe("files", "links that lead out, pipes, devices", f"file://{{folder}}/open/{name}", outside)
    for name in ("self.jpg", "none.jpg", "x.jpg/x", "n" * 300, "%00.jpg"):
        expected = frozenset({"http_status_4xx"})
        yield Probe("files", "in the folder, but not there", f"{{folder}}/open/{name}", expected)
    yield Probe("files", "in the folder", "{folder}/open/x.jpg", frozenset({SUCCESS}))
    yield Probe("files", "in the folder", "file://{folder}/open/x.jpg", frozenset({SUCCESS}))
    for url in ("file:///open/x.jpg", "file:///etc/passwd", "local:///etc/passwd", "memory://x", "s3://bucket/key"):
        yield Probe("files", "behind a redirect", "http://{host}/", _LED, {"/": _moved(url)})


def _headers(picture: bytes) -> Iterator[Probe]:
    def answered(kind: str, lines: list[str], expected: str, name: str) -> Iterator[Probe]:
        head = b"".join(f"{name}: {line}\r\n".encode() for line in lines)
        yield Probe("headers", kind, "http://{host}/x.jpg", frozenset({expected}), {"/x.jpg": _sized(picture, head)})

    for line in RESERVING:
        yield from answered("X-Robots-Tag that reserves", [line], "optout_header", "X-Robots-Tag")
        yield from answered(
            "X-Robots-Tag that reserves, in the second line", ["all", line], "optout_header", "X-ROBOTS-TAG"
        )
        moved = (
            b"HTTP/1.1 302 So\r\nX-Robots-Tag: " + line.encode() + b"\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
        )
        there = {"/x.jpg": moved, "/there": _sized(picture)}
        yield Probe(
            "headers",
            "X-Robots-Tag that reserves, of a redirect",
            "http://{host}/x.jpg",
            frozenset({"optout_header"}),
            there,
        )
    for line in NOT_RESERVING:
        yield from answered("X-Robots-Tag that does not", [line], SUCCESS, "X-Robots-Tag")
    for lines, reserves in TDM:
        kind = "TDM-Reservation that reserves" if reserves else "TDM-Reservation that does not"
        yield from answered(kind, lines, "optout_tdm" if reserves else SUCCESS, "tdm-reservation")
    for lines, reserved in USAGE:
        kind = "Content-Usage that reserves" if reserved else "Content-Usage that does not"
        yield from answered(kind, lines, "optout_usage" if reserved else SUCCESS, "Content-Usage")


# Answers.


def _answers(picture: bytes) -> Iterator[Probe]:
    zipped = gzip.compress(picture)
    bomb = gzip.compress(bytes(200_000_000), 9)
    length = f"Content-Length: {len(picture)}\r\n".encode()
    chunk = f"{len(picture):x}\r\n".encode() + picture + b"\r\n"
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    table: dict[str, list[tuple[Answer, set[str]]]] = {
        "not HTTP/1": [
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", {"http_malformed"}),
            (picture, {"http_malformed"}),
            (b"<html>HTTP/0.9</html>", {"http_malformed"}),
            (b"ICY 200 OK\r\n\r\n" + picture, {"http_malformed"}),
            (bytes(range(256)) * 4, {"http_malformed"}),
            (b"HTTP/1.1 99999 OK\r\n\r\n", {"http_malformed"}),
            (b"HTTP/1.1 -1 OK\r\n\r\n", {"http_malformed"}),
            (b"HTTP/1.1 20O OK\r\n\r\n", {"http_malformed"}),
            (
                b"HTTP/1.1 999 So\r\nContent-Length: 0\r\n\r\n",
                {"http_malformed", "http_unexpected_status", "http_status_5xx"},
            ),
            (b"HTTP/2.0 200\r\n\r\n", {"http_malformed", "body_empty"}),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {"http_malformed"}),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), {"http_malformed"}),
            (b"", {"connect_reset", "http_malformed"}),
            (b"\r\n" * 100, {"http_malformed", "connect_reset"}),
        ],
        "headers without end or measure": [
            (OK + b"X: " + b"x" * 2**20 + b"\r\n" + length + b"\r\n" + picture, {"http_header_limit"}),
            (OK + b"X" * 2**20 + b": x\r\n" + length + b"\r\n" + picture, {"http_header_limit"}),
            (OK + b"X: x\r\n" * 100_000 + length + b"\r\n" + picture, {"http_header_limit"}),
            (
                OK + b"".join(b"X%d: x\r\n" % n for n in range(100_000)) + length + b"\r\n" + picture,
                {"http_header_limit"},
            ),
            (OK + b"Set-Cookie: a=b\r\n" * 10_000 + length + b"\r\n" + picture, {"http_header_limit"}),
            (
                b"HTTP/1.1 200 " + b"x" * 2**20 + b"\r\n" + length + b"\r\n" + picture,
                {"http_header_limit", "http_malformed"},
            ),
            (_drips(OK + b"X-Slow: ", b"x"), {"http_header_limit", "read_timeout", "total_timeout", "too_slow"}),
            (_drips(OK, b"X: x\r\n"), {"http_header_limit", "read_timeout", "total_timeout", "too_slow"}),
        ],
        "headers that are no text": [
            (OK + b"X: \xff\xfe\xed\xa0\x80\r\n" + length + b"\r\n" + picture, {SUCCESS, "http_malformed"}),
            (OK + b"X: a\0b\r\n" + length + b"\r\n" + picture, {SUCCESS, "http_malformed"}),
            (OK + b"X: a\r\n b\r\n" + length + b"\r\n" + picture, {SUCCESS, "http_malformed"}),
            (
                OK.replace(b"\r\n", b"\n") + length.replace(b"\r\n", b"\n") + b"\n" + picture,
                {SUCCESS, "http_malformed"},
            ),
            (OK + b"Content-Type: a\r\nContent-Type: b\r\n" + length + b"\r\n" + picture, {SUCCESS, "http_malformed"}),
            (OK + b"no colon\r\n" + length + b"\r\n" + picture, {"http_malformed"}),
            (OK + b": no name\r\n" + length + b"\r\n" + picture, {"http_malformed"}),
            (
                OK + b"X-Robots-Tag: \xff\xed\xa0\x80, noai\r\n" + length + b"\r\n" + picture,
                {"optout_header", "http_malformed"},
            ),
        ],
        "lengths that contradict": [
            (OK + length + b"Content-Length: 1\r\n\r\n" + picture, {"http_malformed"}),
            (OK + length + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n", {"http_malformed"}),
            *(
                (OK + b"Content-Length: " + value + b"\r\n\r\n" + picture, {"http_malformed"})
                for value in (b"+5", b"-1", b"5, 5", b"0x10", b"1e3", b"\xd9\xa5")
            ),
            (OK + b"Content-Length: 18446744073709551616\r\n\r\n" + picture, {"http_malformed", "body_too_large"}),
            (OK + b"Content-Length: 107374182400\r\n\r\n" + picture, {"body_too_large"}),
            (OK + b"Content-Length: %d\r\n\r\n" % (len(picture) + 1) + picture, {"body_truncated"}),
            (
                OK + b"Content-Length: %d\r\n\r\n" % (len(picture) - 1) + picture,
                {"decode_truncated", "decode_error", SUCCESS},
            ),
            (OK + b"\r\n" + picture[: len(picture) // 2], {"decode_truncated"}),
            (OK + b"\r\n" + picture, {SUCCESS}),
            (_sized(picture) + _sized(picture), {SUCCESS}),
        ],
        "chunks": [
            (chunked + b"zz\r\n" + picture, {"http_malformed"}),
            (chunked + b"8000000000000000\r\n" + picture, {"http_malformed", "body_truncated", "body_too_large"}),
            (chunked + b"-5\r\n" + picture, {"http_malformed"}),
            (chunked + chunk, {"body_truncated"}),
            (chunked + chunk + b"0\r\n", {"body_truncated", SUCCESS}),
            (
                chunked + f"{len(picture):x};".encode() + b"x" * 2**20 + b"\r\n" + picture + b"\r\n0\r\n\r\n",
                {"http_malformed", "http_header_limit", SUCCESS},
            ),
            (
                chunked + chunk + b"0\r\n" + b"X: x\r\n" * 100_000 + b"\r\n",
                {"http_malformed", "http_header_limit", "body_truncated", SUCCESS},
            ),
            (chunked + b"".join(b"1\r\n%c\r\n" % byte for byte in picture) + b"0\r\n\r\n", {SUCCESS}),
            (chunked + chunk.replace(b"\r\n", b"\n", 1) + b"0\r\n\r\n", {"http_malformed", SUCCESS}),
            (
                OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk + b"0\r\n\r\n",
                {"http_malformed", "content_encoding", SUCCESS},
            ),
            (OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + chunk + b"0\r\n\r\n", {"http_malformed", SUCCESS}),
        ],
        "bodies without end, or that hardly come": [
            (_endless(chunked, b"10000\r\n" + bytes(65_536) + b"\r\n"), {"body_too_large", "not_image"}),
            (_endless(OK + b"\r\n" + picture[:600], bytes(65_536)), {"body_too_large"}),
            (_endless(chunked + b"3\r\n\xff\xd8\xff\r\n", b"10000\r\n" + bytes(65_536) + b"\r\n"), {"body_too_large"}),
            (_drips(OK + b"Content-Length: 1000000\r\n\r\n" + picture[:600], b"x"), {"too_slow"}),
            (_stalls(OK + b"Content-Length: 1000000\r\n\r\n" + picture), {"read_timeout"}),
            (_stalls(b""), {"read_timeout"}),
            (OK + b"Content-Length: 0\r\n\r\n", {"body_empty"}),
        ],
        "what is packed": [
            (OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(zipped) + zipped, {SUCCESS}),
            (
                OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb,
                {"body_too_large", "not_image"},
            ),
            (_packed("gzip", _bomb_of(picture)), {"body_too_large"}),
            (_packed("gzip, gzip", gzip.compress(zipped)), {"content_encoding"}),
            (_packed(", ".join(["gzip"] * 10), zipped), {"content_encoding"}),
            (_packed("zip", picture), {SUCCESS}),
            (_packed("compress", b"\x1f\x9d\x90" + bytes(600)), {"content_encoding"}),
            (_packed("gzip", picture), {"content_encoding"}),
            (_packed("gzip", zipped[: len(zipped) // 2]), {"content_encoding", "body_truncated", "decode_truncated"}),
            (_packed("br", b"\xff" * 100), {"content_encoding"}),
            (_packed("zstd", b"\x28\xb5\x2f\xfd" + b"\xff" * 100), {"content_encoding"}),
            (_packed("gzip", gzip.compress(b"") * 100_000), {"content_encoding", "body_empty"}),
            (_packed("deflate", zlib.compress(picture)), {SUCCESS}),
            (_packed("identity", picture), {SUCCESS}),
        ],
        "statuses without a whole image": [
            *(
                (
                    b"HTTP/1.1 %d So\r\n" % status + length + b"\r\n" + picture,
                    {"http_unexpected_status", "http_malformed", "redirect_invalid"},
                )
                for status in (201, 202, 204, 205, 206, 207, 300, 304, 305)
            ),
            (
                b"HTTP/1.1 206 So\r\nContent-Range: bytes 0-9/100\r\n" + length + b"\r\n" + picture,
                {"http_unexpected_status"},
            ),
            (
                b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
                {"http_unexpected_status", "http_malformed", "connect_reset"},
            ),
            (b"HTTP/1.1 100 Continue\r\n\r\n" + _sized(picture), {SUCCESS}),
            (b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 8 + _sized(picture), {SUCCESS}),
            (b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + _sized(picture), {"http_malformed"}),
            (_endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 100), {"http_malformed"}),
            *(
                (b"HTTP/1.1 %d So\r\n" % status + length + b"\r\n" + picture, {"http_status_4xx"})
                for status in (400, 401, 403, 404, 407, 410, 418, 451)
            ),
            *(
                (b"HTTP/1.1 %d So\r\n" % status + length + b"\r\n" + picture, {"http_status_5xx"})
                for status in (500, 501, 502, 503, 504, 505)
            ),
            (b"HTTP/1.1 429 So\r\nRetry-After: 1e99\r\n" + length + b"\r\n" + picture, {"http_rate_limited"}),
        ],
        "redirects to nowhere, in circles, or with a bomb": [
            *(
                (_moved(to), {"redirect_invalid", "redirect_blocked", "http_malformed", "http_header_limit"})
                for to in ("", "http://", "http://[", "http://h:99999/", "x" * 70_000, "/a\0b", "http:///x", "//")
            ),
            (_moved("/"), {"redirect_limit"}),
            (b"HTTP/1.1 302 So\r\nContent-Length: 0\r\n\r\n", {"redirect_invalid"}),
            (
                b"HTTP/1.1 302 So\r\nContent-Encoding: gzip\r\nLocation: /there\r\nContent-Length: %d\r\n\r\n"
                % len(bomb)
                + bomb,
                {SUCCESS},
            ),
            (
                b"HTTP/1.1 404 So\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb,
                {"http_status_4xx"},
            ),
        ],
    }
    for kind, cases in table.items():
        for answer, expected in cases:
            there = {"/": answer, "/there": _sized(picture)}
            yield Probe("answers", kind, "http://{host}/", frozenset(expected), there)


# Images.


def shown(kind: str, content: bytes, *expected: str) -> Probe:
    """Return the probe of an image."""
    return Probe("images", kind, "http://{host}/x.jpg", frozenset(expected), {"/x.jpg": _sized(content)})


_REFUSED_IMAGES: Final = ("decode_error", "decode_truncated", "decode_bomb")


def images() -> list[bytes]:
    """Return images and files that are none, each hostile in a way of its own."""
    return [*NO_IMAGES, *_bombs(), *_metadata(), *_animations(), *_modes(), *_sizes()]


def _images() -> Iterator[Probe]:
    for content in NO_IMAGES:
        yield shown("no image, or one of a format that is not decoded", content, "not_image", "decode_unsupported")
    for content in _bombs():
        yield shown("more pixels, scans or frames than are safe", content, "decode_bomb")
    for content in _metadata():
        yield shown("metadata that is broken, or unpacks to much", content, SUCCESS, *_REFUSED_IMAGES)
    for content in _animations():
        yield shown("thousands of frames: the first alone", content, SUCCESS)
    for content in _modes():
        yield shown("odd kinds of pixels, and turned ones", content, SUCCESS)
    for content in _sizes():
        yield shown("sides of nothing, or of one pixel", content, SUCCESS, "decode_error", "decode_truncated")


def _damaged(photographs: Path) -> Iterator[Probe]:
    for name in ("rocket.jpg", "chelsea.png", "chelsea.webp", "coins.gif"):
        whole = (photographs / name).read_bytes()
        for part in range(40):
            length = 64 + part * (len(whole) - 128) // 40
            yield shown("cut off", whole[:length], "decode_truncated", "decode_error")
    chance = random.Random("trust")  # noqa: S311  the same damage every time
    for name in ("rocket.jpg", "chelsea-cmyk.jpg", "chelsea.png", "chelsea.webp", "coins.gif"):
        whole = (photographs / name).read_bytes()
        for _ in range(40):
            damaged = bytearray(whole)
            for _ in range(chance.choice([1, 4, 16])):
                place = chance.randrange(chance.choice([64, 1024, len(whole)]))
                damaged[place : place + chance.choice([0, 4])] = chance.randbytes(chance.choice([0, 4]))
            yield shown("changed, lost and added bytes", bytes(damaged), *_DAMAGED)


_DAMAGED: Final = [
    *(SUCCESS, "not_image", "decode_error", "decode_truncated", "decode_bomb", "decode_unsupported", "encode_error"),
    *("body_empty", "too_small"),
]


NO_IMAGES: Final = [
    *(b"<!DOCTYPE html><html></html>", b"<html>", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'),
    *(b"<svg onload='x'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\xc5\xd0\xd3\xc6" + bytes(60)),
    *(b"%PDF-1.7\n", b"8BPS\0\x01" + bytes(60), b"\0\0\0\x20ftypisom" + bytes(60), b"\0\0\0\x20ftypheic" + bytes(60)),
    *(
        b'{"error": 404}',
        b"PK\3\4" + bytes(60),
        b"\x1f\x8b" + bytes(60),
        b"SIMPLE  =  T" + bytes(60),
        b"icns" + bytes(60),
    ),
    *(
        b"\xd7\xcd\xc6\x9a" + bytes(60),
        b"\1\0\0\0" + bytes(40) + b" EMF",
        b"\0\0\1\0\1\0" + bytes(60),
        b"\0\0\2\0" + bytes(60),
    ),
    *(
        b"\x0a\5\1\10" + bytes(60),
        b"P6 9 9 255\n" + bytes(243),
        b"P4\n9 9\n" + bytes(60),
        b"#define x_width 9\n",
        b"/* XPM */",
    ),
    *(
        b"\x01\xda\x01\1" + bytes(60),
        b"Y\xa6j\x95" + bytes(60),
        b"qoif" + bytes(60),
        b"DDS " + bytes(124),
        b"\x76\x2f\x31\x01",
    ),
    *(
        b"II*\0" + bytes(60),
        b"MM\0*" + bytes(60),
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
        b"\xff\x4f\xff\x51" + bytes(60),
    ),
    *(b"\xff\x0a" + bytes(60), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), b"BPG\xfb" + bytes(60), b"FLIF" + bytes(60)),
    *(
        b"\x1a\x45\xdf\xa3" + bytes(60),
        b"OggS" + bytes(60),
        b"ID3" + bytes(60),
        b"MZ" + bytes(60),
        b"\x7fELF" + bytes(60),
    ),
    *(
        b"#!/bin/sh\n",
        b"<?php",
        b"x",
        b"\xff",
        b"\xff\xd8",
        b"\x89PNG",
        b"GIF8",
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        bytes(1000),
    ),
]


def _bombs() -> Iterator[bytes]:
    yield png((50_000, 50_000), 1, 0, bytes(64))
    yield png((9_460, 9_460), 8, 2, bytes(64))
    yield png((65_501, 1), 8, 0, bytes(64))
    yield png((1, 65_501), 8, 0, bytes(64))
    yield png((2**31 - 1, 2**31 - 1), 16, 6, bytes(64))
    yield png((30_000, 30_000), 8, 0, bytes(30_001 * 1000))
    yield gif(65_535, 65_535)
    yield b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0)
    yield webp(b"VP8X", b"\0\0\0\0" + (16_382).to_bytes(3, "little") * 2)
    yield webp(b"VP8X", b"\0\0\0\0" + (2**24 - 1).to_bytes(3, "little") * 2)
    yield webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + (16_383).to_bytes(2, "little") * 2)
    yield webp(b"VP8L", b"\x2f" + (16_382 | 16_382 << 14).to_bytes(4, "little") + bytes(5))
    small = saved(Image.new("L", (8, 8)), "JPEG")
    yield small.replace(b"\0\x0b\x08\0\x08\0\x08", b"\0\x0b\x08\xff\xdc\xff\xdc")
    whole = saved(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    yield whole[:last] + whole[last:-2] * 1_000 + whole[-2:]
    yield whole[:last] + whole[last:-2] * 20_000 + whole[-2:]


def _metadata() -> Iterator[bytes]:
    grey = bytes(9) * 8
    megabytes = zlib.compress(bytes(100_000_000), 9)
    yield png((8, 8), 8, 0, grey, chunk(b"zTXt", b"k\0\0" + megabytes))
    yield png((8, 8), 8, 0, grey, chunk(b"iTXt", b"k\0\1\0\0\0" + megabytes))
    yield png((8, 8), 8, 0, grey, chunk(b"iCCP", b"k\0\0" + megabytes))
    yield png((8, 8), 8, 0, grey, *[chunk(b"tEXt", b"k\0v")] * 300_000)
    yield png((8, 8), 8, 0, grey, chunk(b"eXIf", b"MM\0*" + b"\xff" * 1000))
    yield png((8, 8), 8, 0, grey, chunk(b"tRNS", b""))
    yield png((8, 8), 8, 3, bytes([0, *[255] * 8]) * 8, chunk(b"PLTE", b"\xff" * 6))
    whole = png((8, 8), 8, 0, grey)
    yield whole.replace(b"IDAT", b"IDAT", 1)[:-16] + b"\0\0\0\0" + whole[-12:]
    red = Image.new("RGB", (40, 30), "red")
    for exif in (
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0" + b"\xff" * 500,
        b"Exif\0\0" + bytes(2000),
        _looped_exif(),
    ):
        yield saved(red, "JPEG", exif=exif)
        yield saved(red, "WEBP", exif=exif)
    for profile in (b"", b"x", bytes(128), b"\xff" * 4000):
        yield saved(red, "JPEG", icc_profile=profile)
        yield saved(red, "PNG", icc_profile=profile)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>' * 1000)
    yield saved(red, "PNG", pnginfo=info)
    yield saved(red, "JPEG", comment=b"\0" * 60_000)


def _looped_exif() -> bytes:
    """Return EXIF whose only directory is its own next one."""
    return b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\x08"


def _animations() -> Iterator[bytes]:
    first, *rest = [Image.new("P", (16, 16), number % 8) for number in range(2_000)]
    yield saved(first, "GIF", save_all=True, append_images=rest)
    first, *rest = [Image.new("RGB", (16, 16), (number % 256, 0, 0)) for number in range(500)]
    yield saved(first, "PNG", save_all=True, append_images=rest)
    yield saved(first, "WEBP", save_all=True, append_images=rest[:100])


def _modes() -> Iterator[bytes]:
    red = Image.new("RGB", (40, 30), "red")
    yield from (saved(red.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"))
    yield saved(red.convert("CMYK"), "JPEG")
    yield saved(red.convert("L"), "JPEG")
    yield saved(red.convert("P"), "PNG", transparency=0)
    yield saved(red.convert("P"), "GIF", transparency=0)
    yield saved(red.convert("RGBA"), "WEBP", lossless=True)
    for turned in range(10):
        exif = Image.Exif()
        exif[0x0112] = turned
        yield saved(red, "JPEG", exif=exif.tobytes())


def _sizes() -> Iterator[bytes]:
    yield from (png(size, 8, 0, b"") for size in ((0, 0), (0, 9), (9, 0)))
    yield gif(0, 0)
    for size in ((1, 1), (1, 5_000), (5_000, 1)):
        yield saved(Image.new("RGB", size, "red"), "PNG")
        yield saved(Image.new("RGB", size, "red"), "JPEG")


# Answers as bytes, and servers that do otherwise.


def _sized(content: bytes, head: bytes = b"") -> bytes:
    return OK + head + b"Content-Length: %d\r\n\r\n" % len(content) + content


def _packed(coding: str, content: bytes) -> bytes:
    return _sized(content, f"Content-Encoding: {coding}\r\n".encode())


def _moved(location: str) -> bytes:
    return b"HTTP/1.1 302 Found\r\nLocation: " + location.encode() + b"\r\nContent-Length: 0\r\n\r\n"


def _bomb_of(picture: bytes) -> bytes:
    """Return a small body that begins as a picture and unpacks to a hundred megabytes."""
    return gzip.compress(picture + bytes(100_000_000), 9)


def _endless(head: bytes, piece: bytes) -> Answer:
    async def answer(_reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()

    return answer


def _drips(head: bytes, piece: bytes) -> Answer:
    async def answer(_reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.2)

    return answer


def _stalls(head: bytes) -> Answer:
    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(head)
        await reader.read(1)

    return answer
