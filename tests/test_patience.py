"""Patience with a server: what may pass is tried again, what is settled is told, nobody waits for what is over."""

from __future__ import annotations

import errno
import gzip
import pickle
import socket
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import botocore.exceptions
import pytest

from async_img2ds.errors import TakenOver
from async_img2ds.storage import patience as patience_module
from async_img2ds.storage.patience import Patience, is_out_of_reach

if TYPE_CHECKING:
    from collections.abc import Iterator


class Refused(Exception):
    """What libraries raise: a status in one of several places."""

    def __init__(self, **told: Any) -> None:
        super().__init__("refused")
        vars(self).update(told)


def caused_by(cause: Exception) -> OSError:
    """Return what s3fs raises: an OSError by an exception of botocore's."""
    error = OSError(errno.EIO, "of the store")
    error.__cause__ = cause
    return error


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience_module, "PAUSE_S", 0.0)


class Server:
    """Fails with each of *errors*, and then does what it is asked."""

    def __init__(self, *errors: Exception) -> None:
        self.errors: Iterator[Exception] = iter(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        for error in self.errors:
            raise error
        return "done"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.EIO, "anything"),
        Refused(status_code=503),
        Refused(code=500),
        Refused(code="429"),
        Refused(response=SimpleNamespace()),
        caused_by(Refused(response={"ResponseMetadata": {"HTTPStatusCode": 503}})),
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    """A reset, a time-out, a 5xx, a 429, wherever a library says it, and what nobody knows."""
    server = Server(error, error)

    assert Patience(60)(server) == "done"
    assert server.calls == 3


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(),
        PermissionError(),
        OSError(errno.EROFS, "read only"),
        OSError("Forbidden: b/bucket/o/name"),
        Refused(status_code=403),
        Refused(response=SimpleNamespace(status_code=403)),
        caused_by(Refused(response={"ResponseMetadata": {"HTTPStatusCode": 400}})),
        TakenOver("another run has it"),
        TypeError("a bug"),
    ],
    ids=str,
)
def test_what_is_settled_is_told_at_once(error: Exception) -> None:
    """What is not there, is not allowed, or is a mistake is no better the second time."""
    server = Server(error, error)

    with pytest.raises((OSError, TakenOver)):
        Patience(60)(server)
    assert server.calls == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), True),
        (TimeoutError(), True),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://x.test"), True),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="http://x.test"), True),
        (aiohttp.ServerDisconnectedError(), True),
        (Refused(status_code=503), True),
        (caused_by(ConnectionResetError()), True),
        (Refused(status_code=403), False),
        (Refused(status_code=501), False),
        (botocore.exceptions.NoCredentialsError(), False),
        (botocore.exceptions.ParamValidationError(report="no such name"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (FileNotFoundError(errno.ENOENT, "No such file"), False),
        (OSError("Couldn't deserialize thrift: TProtocolException: Invalid data"), False),
        (gzip.BadGzipFile("Not a gzipped file"), False),
    ],
    ids=repr,
)
def test_server_that_does_not_answer_is_told_from_one_that_refuses(error: Exception, *, expected: bool) -> None:
    """Whoever starts runs may start one again for the first, and never for the second."""
    assert is_out_of_reach(error) is expected


def test_driver_has_no_patience() -> None:
    """Whoever waits for the answer at a terminal is told at once, in an OSError whatever the library raised."""
    server = Server(Refused(status_code=503))

    with pytest.raises(OSError, match="Refused: refused"):
        Patience()(server)
    assert server.calls == 1


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (botocore.exceptions.NoCredentialsError(), False),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://x.test"), True),
    ],
    ids=repr,
)
def test_error_that_was_made_one_of_the_system_is_told_by_its_cause(cause: Exception, *, expected: bool) -> None:
    """Where there are no credentials there is no server that may answer later."""
    with pytest.raises(OSError, match=type(cause).__name__) as caught:
        Patience()(Server(cause))

    assert is_out_of_reach(caught.value) is expected


def test_full_disk_elsewhere_is_none_of_this_machine() -> None:
    """Room here is not waited for because of it."""
    with pytest.raises(OSError, match="No space left") as caught:
        Patience(60)(Server(OSError(errno.ENOSPC, "No space left on device")))

    assert caught.value.errno not in (errno.ENOSPC, errno.EDQUOT)


def test_patience_ends_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as an outage lasts, and no longer."""
    monkeypatch.setattr(patience_module, "PAUSE_S", 100.0)
    server = Server(TimeoutError(), TimeoutError())

    with pytest.raises(TimeoutError):
        Patience(10)(server)
    assert server.calls == 1


def test_waiting_is_told_without_what_opens_doors(caplog: pytest.LogCaptureFixture) -> None:
    """Who does not answer, and why, in a line; a signature in a URL is nobody's business."""
    Patience(60, "the Hub")(Server(TimeoutError("no answer from 'https://cdn.test/x?Signature=secret'\nand more")))

    assert "the Hub cannot be reached at the moment (no answer from 'https://cdn.test/x')" in caplog.text
    assert "secret" not in caplog.text


def test_nobody_waits_for_what_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is stopped ends at once, in the middle of a pause, too."""
    monkeypatch.setattr(patience_module, "PAUSE_S", 1000.0)
    patience, failed = Patience(3600), threading.Event()
    outcome: list[BaseException] = []

    def ask() -> None:
        failed.set()
        raise TimeoutError

    def call() -> None:
        try:
            patience(ask)
        except TimeoutError as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    failed.wait()
    patience.end()
    thread.join(10)

    assert not thread.is_alive()
    assert len(outcome) == 1


def test_it_goes_to_workers() -> None:
    """With the store that has it."""
    server = Server(TimeoutError())

    assert pickle.loads(pickle.dumps(Patience(60)))(server) == "done"  # noqa: S301  our own
