"""Which URLs and which addresses may be asked."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from async_img2ds.errors import ErrorClass, FetchFailure
from async_img2ds.nets import parse_net
from async_img2ds.policy.urls import URL_CHARACTERS_MAX, AddressPolicy, Target, parse, redirect, refused

SOURCE = parse("https://h.example/a/b?c")


def refusal(url: str | None) -> FetchFailure:
    with pytest.raises(FetchFailure) as caught:
        parse(url)
    return caught.value


@pytest.mark.parametrize(
    ("listed", "sent"),
    [
        pytest.param("http://h.example/x.jpg", "http://h.example/x.jpg", id="plain"),
        pytest.param(" \t http://h.example/x.jpg\r\n", "http://h.example/x.jpg", id="spaces around"),
        pytest.param("HTTP://H.Example/X.jpg", "http://h.example/X.jpg", id="case of scheme and host only"),
        pytest.param("http://h.example", "http://h.example/", id="no path"),
        pytest.param("http://h.example?q", "http://h.example/?q", id="no path, a query"),
        pytest.param("http://h.example/x?a=1&b=%20#part", "http://h.example/x?a=1&b=%20", id="fragment"),
        pytest.param("http://h.example:80/", "http://h.example/", id="default port"),
        pytest.param("https://h.example:443/", "https://h.example/", id="default port of https"),
        pytest.param("https://h.example:80/", "https://h.example:80/", id="other port"),
        pytest.param("http://h.example:/", "http://h.example/", id="empty port"),
        pytest.param("http://h.example./", "http://h.example./", id="absolute name"),
        pytest.param("http://a_b.example/", "http://a_b.example/", id="underscore"),
        pytest.param(
            "http://é.example/ü?ä=ö", "http://xn--9ca.example/%C3%BC?%C3%A4=%C3%B6", id="letters beyond ASCII"
        ),
        pytest.param("http://xn--mnchen-3ya.example/", "http://xn--mnchen-3ya.example/", id="host in ASCII form"),
        pytest.param("http://h.example/a b", "http://h.example/a%20b", id="space in path"),
        pytest.param("http://h.example/%zz?100%", "http://h.example/%zz?100%", id="stray percent"),
        pytest.param("http://h.example/a%2Fb%20c", "http://h.example/a%2Fb%20c", id="quoted already"),
        pytest.param("http://h.example/s?g=a+b/c==|{}^`", "http://h.example/s?g=a+b/c==|{}^`", id="signed"),
        pytest.param("http://8.8.8.8:8080/x", "http://8.8.8.8:8080/x", id="IPv4"),
        pytest.param("http://[2001:DB8::0:1]:8080/x", "http://[2001:db8::1]:8080/x", id="IPv6"),
        pytest.param("http://\uff11\uff12\uff17\u30020.0.1/", "http://127.0.0.1/", id="fullwidth digits"),
    ],
)
def test_url_is_sent_as_a_browser_would(listed: str, sent: str) -> None:
    """What stands in a list is brought to the form that goes over the wire."""
    assert parse(listed).url == sent


def test_parts_of_a_target_are_those_of_its_url() -> None:
    """Host, port and whether the host is an address come with the URL."""
    assert parse("http://h.example/x") == Target("http://h.example/x", "http", "h.example", 80)
    assert parse("https://[::1]/") == Target("https://[::1]/", "https", "::1", 443, is_literal=True)
    assert parse("http://127.0.0.1.:81/") == Target("http://127.0.0.1:81/", "http", "127.0.0.1", 81, is_literal=True)


@pytest.mark.parametrize(
    "url",
    [
        *(None, "", "  ", "x.jpg", "/x.jpg", "//h.example/x", "h.example", "http", "http:", "http:x", "http://"),
        *("http:///x", "http://?q", "1http://h/", "http://h.example:99999/", "http://h.example:-1/"),
        *("http://h.example:x/", "http://h.example:8 0/", "http://:80/", "http://user@/", "http://h example/"),
        *("http://a..example/", "http://.example/", "http://./", "http://h.example../", "http://1.2.3.4../"),
        *("http://h\tx.example/", "http://h.example/a\nb", "http://h.example/\x00", "http://h.example/\x7f"),
        *("http://h.example/\ufffd", "http://h.example/\ud800", "http://h.example/?\udcff", "http://\ud800.example/"),
        *("http://127.1/", "http://2130706433/", "http://017700000001/", "http://0x7f000001/", "http://0x7f.1/"),
        *("http://127.0.0.08/", "http://1.2.3.4.5/", "http://256.0.0.1/", "http://h.example.0x/", "http://1.2.3.04/"),
        *("http://0/", "http://[::1/", "http://::1/", "http://[]/", "http://[1.2.3.4]/", "http://[::1]x/"),
        *("http://x[::1]/", "http://[v1.h.example]/", "http://[::g]/", "http://😀.example/", "http://\u200d.example/"),
        *("http://ex℀mple.example/", "http://a%41.example/", "http://a,b.example/", "http://a\\b.example/"),
        *(f"http://{'a' * 64}.example/", f"http://{'a.' * 127}example/", f"http://{'é' * 60}.example/"),
        "http://h.example/" + "x" * URL_CHARACTERS_MAX,
        pytest.param("http://h.example/" + "é" * (URL_CHARACTERS_MAX // 2), id="too long once it is quoted"),
    ],
    ids=lambda url: ascii(url)[:40],
)
def test_malformed_url_is_refused(url: str | None) -> None:
    """What is no URL, or spells its host in a way that others read differently, is not asked for."""
    assert refusal(url).error_class is ErrorClass.URL_INVALID


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "ftp://h.example/x.jpg", "FTP://h.example/", "data:image/png;base64,AAAA"),
        *("javascript:alert(1)", "s3://bucket/x.jpg", "gopher://h.example/", "ws://h.example/", "mailto:a@h.example"),
        *("blob:http://h.example/x", "httpx://h.example/", "c:\\x.jpg", "about:blank"),
    ],
)
def test_other_schemes_are_refused(url: str) -> None:
    """Only http and https are fetched."""
    assert refusal(url).error_class is ErrorClass.URL_SCHEME


@pytest.mark.parametrize(
    ("url", "message"),
    [
        *((None, "unknown url type: 'None'"), ("", "unknown url type: ''"), ("x.jpg", "unknown url type: 'x.jpg'")),
        ("http:///x", "<urlopen error no host given>"),
    ],
)
def test_common_refusals_keep_their_words(url: str | None, message: str) -> None:
    """People group rows by these texts, so they are those of img2dataset."""
    assert refusal(url).message == message


ODD = st.text(st.sampled_from("htps:/@?#[]%.\\ aA1x0é。１\u00ad\u200d\u2100\ud800\n-_~"), max_size=30)
ANY_URL = st.text() | ODD | st.builds("http://{}".format, ODD) | st.builds("https://{}/{}".format, ODD, st.text())


@given(url=ANY_URL)
@example(url="http://h.example/\ud800")
@example(url="http://ex\u2100mple\udcff/")
@example(url="http://[v1.a:\udcff]/")
@settings(deadline=None)
def test_any_text_is_a_target_or_a_refusal(url: str) -> None:
    """Whatever stands in a list: a URL in ASCII that reads as itself, or a failure whose message can be stored."""
    try:
        target = parse(url)
    except FetchFailure as caught:
        failure = caught
    else:
        assert target.url.isascii()
        assert target.url.isprintable()
        assert parse(target.url) == target
        return

    assert failure.error_class in (ErrorClass.URL_INVALID, ErrorClass.URL_SCHEME)
    assert len(failure.message.encode()) < 1000


@given(user=st.text("abc%40.~!&", min_size=1), password=st.none() | st.text("abc:%2F@.~!&"))
def test_credentials_never_survive(user: str, password: str | None) -> None:
    """User and password are neither sent nor kept."""
    credentials = user if password is None else f"{user}:{password}"

    assert parse(f"http://{credentials}@h.example:81/x@y") == parse("http://h.example:81/x@y")


@pytest.mark.parametrize(
    ("location", "url"),
    [
        *(("x", "https://h.example/a/x"), ("/x", "https://h.example/x"), ("?q", "https://h.example/a/b?q")),
        *(("../../../x", "https://h.example/x"), ("//o.example/x", "https://o.example/x")),
        *(("http://o.example", "http://o.example/"), ("#f", "https://h.example/a/b?c")),
        *((" /x ", "https://h.example/x"), ("/ü x", "https://h.example/%C3%BC%20x")),
        *(("HTTPS://u:p@O.example:443/", "https://o.example/"), ("https:x", "https://h.example/a/x")),
    ],
)
def test_redirect_is_resolved_against_its_source(location: str, url: str) -> None:
    """A Location may be relative, in the ways of RFC 3986."""
    assert redirect(SOURCE, location).url == url


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://h.example/", "data:,x", "javascript:1", "mailto:x"])
def test_redirect_to_another_scheme_is_blocked(location: str) -> None:
    """A redirect leads nowhere that a list may not."""
    with pytest.raises(FetchFailure) as caught:
        redirect(SOURCE, location)

    assert caught.value.error_class is ErrorClass.REDIRECT_BLOCKED


@pytest.mark.parametrize(
    "location",
    [
        *("", "http://", "http://[", "http://a b/", "/x\r\nSet-Cookie: y", "/" + "x" * 65_536, "/\udcff"),
        *("http://ex\u2100mple\udcff/", "http://[v1.a:\udcff]/"),
    ],
    ids=lambda location: ascii(location)[:30],
)
def test_redirect_to_nowhere_is_refused_in_words_that_can_be_stored(location: str) -> None:
    """A Location is a stranger's bytes: it may be no URL, and its text may not even be text."""
    with pytest.raises(FetchFailure) as caught:
        redirect(SOURCE, location)

    assert caught.value.error_class is ErrorClass.REDIRECT_INVALID
    assert len(caught.value.message.encode()) < 1000


@given(location=st.text() | st.builds("//{}".format, ODD) | st.builds("http://{}/{}".format, ODD, st.text()))
@example(location="\ud800")
@example(location="\udcff")
@example(location="//[v1.a:\udcff]/")
@settings(deadline=None)
def test_any_location_is_a_target_or_a_refusal(location: str) -> None:
    """It leads to http or https, or fails in words that can be stored."""
    try:
        target = redirect(SOURCE, location)
    except FetchFailure as caught:
        failure = caught
    else:
        assert target.url.isascii()
        assert parse(target.url) == target
        return

    assert failure.error_class in (ErrorClass.REDIRECT_INVALID, ErrorClass.REDIRECT_BLOCKED)
    assert len(failure.message.encode()) < 1000


CLOSED: list[IPv4Network | IPv6Network] = [
    ip_network(block)
    for block in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32", "::/3", "2001::/23", "2001:db8::/32", "2002::/16"),
        *("3fff::/20", "4000::/2", "8000::/1"),
    )
]


@pytest.mark.parametrize("block", CLOSED, ids=str)
def test_block_is_closed_from_edge_to_edge_and_no_further(block: IPv4Network | IPv6Network) -> None:
    """The first and last address of a block are closed, those next to it open unless they lie in another."""
    policy, make = AddressPolicy(), type(block[0])
    beside = [make(n) for n in (int(block[0]) - 1, int(block[-1]) + 1) if 0 <= n < 2**block.max_prefixlen]

    assert not policy.allows(str(block[0]), 80)
    assert not policy.allows(str(block[-1]), 80)
    for address in beside:
        assert policy.allows(str(address), 80) == (not any(address in other for other in CLOSED))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.5", "169.254.169.254", "100.100.100.200", "192.0.0.8", "192.0.0.192", "224.0.0.1"),
        *("::1", "::ffff:10.0.0.5", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "::10.0.0.5"),
        *("::8.8.8.8", "100::1", "100:0:0:1::1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:5", "64:ff9b:1::1"),
        *("64:ff9b:1::a00:5", "2002:a00:1::", "2002:a00:5::1", "2002:808:808::1"),
        *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1"),
        *("5f00::1", "fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "ff02::1"),
        *("ff0e::1", "", "localhost", "h.example", "127.1", "0x7f.0.0.1", "2130706433", "[::1]", "8.8.8.8:80"),
        " 8.8.8.8",
    ],
)
def test_address_that_is_not_public_is_closed(address: str) -> None:
    """Nothing inside a network can be reached, however it is wrapped; what is no address is closed, too."""
    assert not AddressPolicy().allows(address, 80)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "2001:4860:4860::8888", "2A00::1", "64:ff9b::808:808"],
)
def test_public_address_is_open(address: str) -> None:
    """Public unicast addresses may be asked at any port."""
    assert AddressPolicy().allows(address, 80)
    assert AddressPolicy().allows(address, 8443)


@pytest.mark.parametrize(
    ("net", "address", "port", "allowed"),
    [
        *(("127.0.0.0/8", "127.255.255.255", 80, True), ("127.0.0.0/8", "10.0.0.1", 80, False)),
        *(("127.0.0.0/8", "::ffff:127.0.0.1", 80, False), ("127.0.0.1:8080", "127.0.0.1", 8080, True)),
        *(("127.0.0.1:8080", "127.0.0.1", 80, False), ("127.0.0.1:8080", "127.0.0.2", 8080, False)),
        *(("[::1]/128:8080", "::1", 8080, True), ("[::1]/128:8080", "::1", 80, False)),
        *(("fd00::/8", "fd12::1", 80, True), ("8.8.8.8:443", "8.8.8.8", 80, True)),
        *(("10.0.0.0/8", "64:ff9b::a00:5", 80, True), ("127.0.0.0/8:25", "127.0.0.1", 25, True)),
        *(("127.0.0.0/8", "127.0.0.1", 25, False), ("8.8.8.8:25", "8.8.8.8", 587, False)),
        *(("0.0.0.0/0", "169.254.169.254", 80, False), ("169.254.0.0/16", "169.254.169.254", 80, False)),
        *(("169.254.169.254", "169.254.169.254", 80, True), ("::/0", "fd00:ec2::254", 80, False)),
        *(("fd00:ec2::254/128", "fd00:ec2::254", 80, True), ("0.0.0.0/0", "64:ff9b::a9fe:a9fe", 80, False)),
        *(("::/0", "::ffff:169.254.169.254", 80, False), ("::/0", "::ffff:127.0.0.1", 80, False)),
        *(("::/0", "64:ff9b:1::a9fe:a9fe", 80, False), ("::/0", "2002:a9fe:a9fe::1", 80, False)),
        *(("::ffff:0:0/96", "::ffff:10.0.0.5", 80, False), ("::/0", "fd12::1", 80, True)),
    ],
)
def test_allowed_net_opens_itself_and_nothing_else(net: str, address: str, port: int, *, allowed: bool) -> None:
    """A network the user opens is open at its port, or at all; it closes nothing and opens no other spelling."""
    assert AddressPolicy([parse_net(net)]).allows(address, port) is allowed


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("169.254.169.254", "169.254.169.254 is the metadata service of AWS, Google, Azure and others"),
        ("64:ff9b::6464:64c8", "64:ff9b::6464:64c8 is the metadata service of Alibaba"),
        ("10.0.0.1", "10.0.0.1 is not a public address"),
        ("fe80::1%eth0", "fe80::1%eth0 is not a public address"),
    ],
)
def test_refusal_says_what_an_address_is(address: str, said: str) -> None:
    """And what would open it."""
    assert refused(address).startswith(said)
    assert "--allow_net" in refused(address)


@pytest.mark.parametrize("port", [21, 22, 25, 6000, 6667, 10_080])
def test_ports_of_other_services_are_closed(port: int) -> None:
    """Even at public addresses; those of the web are open, and any that is named."""
    assert not AddressPolicy().allows("8.8.8.8", port)
    assert not AddressPolicy().allows_port(port)
    assert AddressPolicy([parse_net(f"10.0.0.0/8:{port}")]).allows_port(port)
    assert all(AddressPolicy().allows_port(open_port) for open_port in (80, 443, 8080, 8443, 65_535))
