"""Fetching, through the real client, from a real server and from one that misbehaves."""

from __future__ import annotations

import asyncio
import socket
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

import faulty
import origin as origin_server
from alone import Alone, failure_of, fetch
from async_img2ds.errors import ErrorClass, LocalFault
from async_img2ds.fetch.fetcher import retry_after_s
from async_img2ds.fetch.resolver import Resolver
from async_img2ds.images.transform import Transformer
from async_img2ds.options import ImageOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faulty import FaultyServer
    from origin import Origin


@pytest.fixture(scope="module")
def bad() -> Iterator[FaultyServer]:
    with faulty.serve() as server:
        yield server


def test_body_is_what_the_server_sent(origin: Origin, photographs_bytes: dict[str, bytes]) -> None:
    """A photograph arrives byte for byte, with its status and one attempt."""
    body = fetch(origin.url("rocket.jpg"))

    assert body.content == photographs_bytes["rocket.jpg"]
    assert (body.http_status, body.attempts) == (200, 1)


@pytest.mark.parametrize(
    ("path", "error_class", "message", "status"),
    [
        ("nope.jpg", ErrorClass.HTTP_STATUS_4XX, "HTTP Error 404: Not Found", 404),
        ("gone", ErrorClass.HTTP_STATUS_4XX, "HTTP Error 410: Gone", 410),
        ("busy", ErrorClass.HTTP_STATUS_5XX, "HTTP Error 503: Service Temporarily Unavailable", 503),
        ("limited", ErrorClass.HTTP_RATE_LIMITED, "HTTP Error 429: Too Many Requests", 429),
        ("empty", ErrorClass.BODY_EMPTY, "empty body", 200),
        ("nocontent", ErrorClass.HTTP_UNEXPECTED_STATUS, "HTTP Error 204: No Content", 204),
        ("loop", ErrorClass.REDIRECT_LIMIT, None, 302),
        ("elsewhere", ErrorClass.REDIRECT_BLOCKED, None, None),
        ("inside", ErrorClass.REDIRECT_BLOCKED, None, None),
        ("reserved/coffee.png", ErrorClass.OPTOUT_HEADER, "Use of image disallowed by X-Robots-Tag directive", 200),
    ],
)
def test_answers_of_nginx_become_classes(
    origin: Origin, path: str, error_class: ErrorClass, message: str | None, status: int | None
) -> None:
    """What a real server answers is told apart by class, and worded as img2dataset words it."""
    failure = failure_of(origin.url(path))

    assert failure.error_class is error_class
    assert message is None or failure.message == message
    assert failure.http_status == status
    assert failure.attempts == 1


@pytest.mark.parametrize(
    ("fault", "error_class"),
    [
        ("closed", ErrorClass.CONNECT_RESET),
        ("reset", ErrorClass.CONNECT_RESET),
        ("reset-in-body", ErrorClass.BODY_RESET),
        ("short", ErrorClass.BODY_TRUNCATED),
        ("unfinished-chunks", ErrorClass.BODY_TRUNCATED),
        ("bad-chunks", ErrorClass.HTTP_MALFORMED),
        ("not-http", ErrorClass.HTTP_MALFORMED),
        ("huge-header", ErrorClass.HTTP_HEADER_LIMIT),
        ("two-lengths", ErrorClass.HTTP_MALFORMED),
        ("bad-gzip", ErrorClass.CONTENT_ENCODING),
        ("no-location", ErrorClass.REDIRECT_INVALID),
        ("partial", ErrorClass.HTTP_UNEXPECTED_STATUS),
        ("silent", ErrorClass.READ_TIMEOUT),
        ("stall", ErrorClass.READ_TIMEOUT),
        ("announced-huge", ErrorClass.BODY_TOO_LARGE),
        ("two-robots", ErrorClass.OPTOUT_HEADER),
        ("robots-on-the-way", ErrorClass.OPTOUT_HEADER),
        ("nine-hints", ErrorClass.HTTP_MALFORMED),
        ("late-bad-chunk", ErrorClass.HTTP_MALFORMED),
        ("many-headers", ErrorClass.HTTP_HEADER_LIMIT),
        ("brotli", ErrorClass.CONTENT_ENCODING),
    ],
)
def test_faults_become_classes(bad: FaultyServer, fault: str, error_class: ErrorClass) -> None:
    """Each way in which a server can misbehave ends in its own class."""
    assert failure_of(bad.url(fault)).error_class is error_class


def words_of_urllib(url: str) -> str:
    """Return how Python's own client fails: img2dataset asks with it and keeps its words."""
    with pytest.raises((OSError, HTTPException, ValueError)) as caught, urlopen(url, timeout=1) as answer:
        answer.read()
    if isinstance(caught.value, HTTPError):
        caught.value.close()
    return str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        *("closed", "reset", "reset-in-body", "short", "unfinished-chunks", "silent", "stall"),
        *("no-location", "short-404", "reserved-503"),
    ],
)
def test_faults_keep_the_words_of_urllib(bad: FaultyServer, fault: str) -> None:
    """People count failures by these texts, so a common one reads as it always did."""
    assert failure_of(bad.url(fault), timeout=1).message == words_of_urllib(bad.url(fault))


@pytest.mark.parametrize("path", ["nope.jpg", "gone", "limited", "busy", "loop"])
def test_answers_keep_the_words_of_urllib(origin: Origin, path: str) -> None:
    """The same of what a real server answers."""
    assert failure_of(origin.url(path)).message == words_of_urllib(origin.url(path))


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:2/x.jpg", "http://nowhere.invalid/x.jpg", "x.jpg", "//x/y.jpg", "http://"),
        *("http:///x.jpg", "s3://bucket/x.jpg", "javascript:x"),
    ],
)
def test_urls_that_lead_nowhere_keep_the_words_of_urllib(url: str) -> None:
    """The same of a URL that cannot be asked for."""
    assert failure_of(url).message == words_of_urllib(url)


@pytest.mark.parametrize("fault", ["surplus", "late-surplus", "two-answers", "eight-hints", "lying-coding"])
def test_image_is_what_was_announced(bad: FaultyServer, fault: str) -> None:
    """Whatever comes before its answer, or after its length; and that is no answer to anything."""
    assert fetch(bad.url(fault)).content == faulty.JPEG


def test_body_that_is_still_coded_says_so(bad: FaultyServer) -> None:
    """Rather than that it is no image."""
    failure = failure_of(bad.url("compress"), transformer=Transformer(ImageOptions()))

    assert (failure.error_class, failure.message) == (ErrorClass.CONTENT_ENCODING, "compressed by compress")


def test_endless_body_is_cut_off_at_the_cap(bad: FaultyServer) -> None:
    """The server of an endless body is hung up on.

    It gets rid of little more than the cap and what the kernel buffers.
    """
    before = bad.sent_bytes
    failure = failure_of(bad.url("endless"), body_bytes_max=2**20)

    assert failure.error_class is ErrorClass.BODY_TOO_LARGE
    assert bad.sent_bytes - before < 2**20 + 16 * 2**20


def test_drip_ends_with_the_attempt(bad: FaultyServer) -> None:
    """A body that drips too fast for the silence limit is ended by the deadline of the whole attempt."""
    failure = failure_of(bad.url("drip"), attempt_timeout_s=0.4)

    assert failure.error_class is ErrorClass.TOTAL_TIMEOUT


def test_server_that_heals_is_asked_again(bad: FaultyServer) -> None:
    """Two answers of 503 and then an image: three attempts, with delays between them that double."""
    hold = Alone()
    body = fetch(bad.url("heals"), hold, retries=2)

    assert body.attempts == 3
    assert hold.delays == [0.5, 1.0]


def test_what_cannot_heal_is_asked_once(origin: Origin) -> None:
    """A 404 is not asked for again however many retries are allowed."""
    hold = Alone()

    assert failure_of(origin.url("nope.jpg"), hold, retries=5).attempts == 1
    assert hold.delays == []


@pytest.mark.parametrize("fault", ["short-404", "stalled-404"])
def test_answer_that_says_no_is_believed_without_its_body(bad: FaultyServer, fault: str) -> None:
    """A 404 is a 404 and final, whatever becomes of the page that comes with it."""
    hold = Alone()
    failure = failure_of(bad.url(fault), hold, retries=2)

    assert (failure.error_class, failure.http_status, failure.attempts) == (ErrorClass.HTTP_STATUS_4XX, 404, 1)


def test_reservation_on_an_error_is_no_opt_out(bad: FaultyServer) -> None:
    """Error pages carry noindex as a matter of course; what failed is the request."""
    assert failure_of(bad.url("reserved-503")).error_class is ErrorClass.HTTP_STATUS_5XX


def test_name_server_that_never_answers_is_no_fault_of_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the time for an attempt, the silence of our own resolver does not become a row's time-out."""
    monkeypatch.setattr("async_img2ds.fetch.fetcher.LOCAL_FAULT_MOST_S", 0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{mute.getsockname()[1]}"

        with pytest.raises(LocalFault):
            fetch("http://pictures.example.test/x.jpg", Alone(), dns_servers=(server,), timeout=0.1)


def test_one_name_may_be_looked_up_twice_at_a_time(dns: str) -> None:
    """For two ports, as http and https rows of one host do; each look-up ends on its own."""

    async def run() -> None:
        async with Resolver.open((dns,)) as resolver:
            both = await asyncio.gather(*(resolver.look_up("pictures.example.test") for _ in range(2)))
            assert both[0] == both[1] != []
            assert await resolver.overdue("pictures.example.test") is None

    asyncio.run(run())


def test_retry_after_is_waited_for(origin: Origin) -> None:
    """The server's own delay is the least that is waited."""
    hold = Alone()

    assert failure_of(origin.url("limited"), hold, retries=1).attempts == 2
    assert hold.delays == [1.0]


def test_redirects_are_followed(origin: Origin, photographs_bytes: dict[str, bytes]) -> None:
    """A picture that has moved is found."""
    assert fetch(origin.url("moved/rocket.jpg")).content == photographs_bytes["rocket.jpg"]


def test_rules_for_other_bots_do_not_count(origin: Origin) -> None:
    """A reservation addressed to another bot keeps nothing out; one under the user's own token does."""
    assert fetch(origin.url("others/coffee.png")).http_status == 200
    assert (
        failure_of(origin.url("others/coffee.png"), user_agent_token="otherbot").error_class is ErrorClass.OPTOUT_HEADER
    )


def test_empty_list_of_directives_turns_the_check_off(origin: Origin) -> None:
    """The user's explicit choice is obeyed."""
    assert fetch(origin.url("reserved/coffee.png"), disallowed_header_directives=()).http_status == 200


def test_closed_port_is_refused() -> None:
    """Nobody listening is a class of its own, with img2dataset's words."""
    failure = failure_of(f"http://127.0.0.1:{origin_server.free_port()}/x.jpg")

    assert failure.error_class is ErrorClass.CONNECT_REFUSED
    assert failure.message == "<urlopen error [Errno 111] Connection refused>"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]"]
)
def test_private_addresses_are_not_contacted_unless_allowed(bad: FaultyServer, host: str) -> None:
    """By literal or by name, a private address gets no connection, and the class says why."""
    before = len(bad.asked)
    failure = failure_of(f"http://{host}:{bad.port}/fine", allow_net=())

    assert failure.error_class is ErrorClass.ADDR_BLOCKED
    assert failure.attempts == 0
    assert len(bad.asked) == before


def test_allowed_port_opens_no_other(bad: FaultyServer) -> None:
    """A network that is allowed for one port stays closed for the rest."""
    assert fetch(bad.url("fine"), allow_net=(f"127.0.0.1/32:{bad.port}",)).http_status == 200
    assert failure_of(bad.url("fine"), allow_net=("127.0.0.1/32:1",)).error_class is ErrorClass.ADDR_BLOCKED


def test_requests_are_honest(bad: FaultyServer) -> None:
    """They say who asks and where to read about it, and carry no cookies, credentials or referrer."""
    fetch(bad.url("cookies"), user_agent_token="MyLab", contact="https://lab.example/bot")
    fetch(bad.url("cookies").replace("//", "//user:secret@"), user_agent_token="MyLab")
    sent = bad.headers[-2:]

    assert "User-Agent: AsyncImgDS/1.2.3 (compatible; MyLab; +https://lab.example/bot)\r\n" in sent[0]
    assert "Accept-Encoding: identity\r\n" in sent[0]
    assert all(word not in head for head in sent for word in ("Cookie", "Authorization", "Referer", "secret"))


def test_name_that_does_not_exist_is_told_from_a_resolver_that_does_not_answer(dns: str) -> None:
    """The one is a failed row; the other says nothing about the row at all."""
    failure = failure_of("http://nothing.example.test/x.jpg", dns_servers=(dns,))

    assert failure.error_class is ErrorClass.DNS_NXDOMAIN
    assert failure.message == "<urlopen error [Errno -2] Name or service not known>"


def test_names_are_looked_up_at_the_servers_given(dns: str, origin: Origin) -> None:
    """A name that only our own server knows leads to the origin."""
    assert fetch(f"http://pictures.example.test:{origin.port}/rocket.jpg", dns_servers=(dns,)).http_status == 200


def test_name_that_leads_inside_is_blocked(dns: str) -> None:
    """A public name of a private address is refused once it is resolved."""
    failure = failure_of("http://inside.example.test/x.jpg", dns_servers=(dns,))

    assert failure.error_class is ErrorClass.ADDR_BLOCKED


def test_private_answers_are_dropped_from_mixed_ones(dns: str, bad: FaultyServer) -> None:
    """Of a name's addresses those that may be connected to are used, and no others."""
    body = fetch(f"http://mixed.example.test:{bad.port}/fine", dns_servers=(dns,))

    assert body.http_status == 200


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        (" 120 ", 120.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("", None),
    ],
)
def test_retry_after_is_read(text: str, seconds: float | None) -> None:
    """Seconds or a date; a date that is past asks for nothing, and nonsense says nothing."""
    assert retry_after_s(text, now=60.0) == seconds
