"""TLS, verified: good, bad and missing certificates, each from a real handshake."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from async_img2ds.errors import ErrorClass, FetchFailure, OptionsError
from async_img2ds.fetch.client import HttpClient
from async_img2ds.nets import parse_net
from async_img2ds.options import FetchOptions, Options
from async_img2ds.policy.urls import AddressPolicy, parse
from async_img2ds.worker.process import loop_factory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nimage"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The one that the client is told to trust."""
    return trustme.CA()


def fetch_from(
    certificate: trustme.LeafCert | None,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: int = 1,
    **chosen: Any,
) -> list[tuple[bytes, bool | None]]:
    """Return what a client that trusts *authority* gets, *times*, from a server with *certificate*, and if verified.

    *certificate* is None for a server without TLS.
    """
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    async def run() -> list[tuple[bytes, bool | None]]:
        options = FetchOptions(allow_net=("127.0.0.0/8",), timeout=5, **chosen)
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            addresses = AddressPolicy(map(parse_net, options.allow_net))
            got = []
            async with HttpClient.open(options, addresses, "test") as client:
                for _ in range(times):
                    async with client.get(parse(f"https://127.0.0.1:{port}/x.jpg")) as response:
                        content = b"".join([chunk async for chunk in response.chunks()])
                        got.append((content, response.tls_verified))
            return got

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run())


def test_good_certificate_of_an_authority_in_ssl_cert_file_is_accepted(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE is how a private authority is added, as for other programs that use OpenSSL."""
    assert fetch_from(authority.issue_cert("127.0.0.1"), authority, tmp_path, monkeypatch) == [(b"image", True)]


LONG_AGO = datetime.now(UTC) - timedelta(days=9)
CERTIFICATES: dict[str, Callable[[trustme.CA], trustme.LeafCert | None]] = {
    "expired": lambda authority: authority.issue_cert(
        "127.0.0.1", not_before=LONG_AGO, not_after=LONG_AGO + timedelta(days=7)
    ),
    "other host": lambda authority: authority.issue_cert("elsewhere.test"),
    "other authority": lambda _: trustme.CA().issue_cert("127.0.0.1"),
    "no tls": lambda _: None,
}


@pytest.mark.parametrize(
    ("fault", "error_class"),
    [
        ("expired", ErrorClass.TLS_EXPIRED),
        ("other host", ErrorClass.TLS_HOSTNAME),
        ("other authority", ErrorClass.TLS_UNTRUSTED),
        ("no tls", ErrorClass.TLS_PROTOCOL),
    ],
)
def test_bad_certificates_are_told_apart(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, error_class: ErrorClass
) -> None:
    """Each fault of a certificate has its class, and nothing is fetched."""
    with pytest.raises(FetchFailure) as caught:
        fetch_from(CERTIFICATES[fault](authority), authority, tmp_path, monkeypatch)
    assert caught.value.error_class is error_class


@pytest.mark.parametrize("fault", ["expired", "other host", "other authority"])
def test_any_certificate_will_do_when_told_to_ignore_them(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The option does what it says: no date, name or authority matters any more."""
    certificate = CERTIFICATES[fault](authority)

    for chosen in ({"ignore_ssl_certificate": True}, {"tls": "off"}):
        assert fetch_from(certificate, authority, tmp_path, monkeypatch, **chosen) == [(b"image", False)]


@pytest.mark.parametrize("fault", ["expired", "other host", "other authority"])
def test_bad_certificate_can_be_recorded(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The image is kept, and it is told that nobody vouches for it; for the next one nothing is tried again."""
    certificate = CERTIFICATES[fault](authority)

    assert fetch_from(certificate, authority, tmp_path, monkeypatch, 3, tls="record") == [(b"image", False)] * 3
    good = authority.issue_cert("127.0.0.1")
    assert fetch_from(good, authority, tmp_path, monkeypatch, tls="record") == [(b"image", True)]


def test_server_without_tls_is_no_matter_of_certificates(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails whatever is done with them."""
    for chosen in ("verify", "record", "off"):
        with pytest.raises(FetchFailure) as caught:
            fetch_from(None, authority, tmp_path, monkeypatch, tls=chosen)
        assert caught.value.error_class is ErrorClass.TLS_PROTOCOL


def test_contradiction_is_refused() -> None:
    """Certificates that are not looked at cannot be told of."""
    with pytest.raises(OptionsError, match="choose one"):
        Options.of(url_list="x", ignore_ssl_certificate=True, tls="record")
