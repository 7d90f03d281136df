"""Which errors pass, how often something is asked again, and for how long."""

import socket

import aiohttp
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from batchseg.system import retry
from batchseg.system.retry import ShortReplyError, is_passing, patiently


def answered(status: int, code: str) -> ClientError:
    reply = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(reply, "GetObject")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


RESET = ConnectionResetError(104, "Connection reset by peer")
REFUSED = aiohttp.ClientConnectorError(
    connection_key=aiohttp.client_reqrep.ConnectionKey("h", 1, False, None, None, None, None),
    os_error=ConnectionRefusedError(111, "Connect call failed"),
)

PASSING = [
    answered(500, "InternalError"),
    answered(503, "SlowDown"),
    caused(OSError(16, "Please reduce your request rate."), answered(503, "SlowDown")),
    ConnectionClosedError(endpoint_url="http://h", error=RESET),
    ReadTimeoutError(endpoint_url="http://h", error=TimeoutError()),
    EndpointConnectionError(endpoint_url="http://h", error=aiohttp.ClientOSError(104, "reset")),
    aiohttp.ClientPayloadError("Response payload is not completed"),
    aiohttp.ServerDisconnectedError(),
    ShortReplyError("6 bytes, not 7"),
    RESET,
]
STAYING = [
    answered(403, "AccessDenied"),
    answered(404, "NoSuchKey"),
    answered(412, "PreconditionFailed"),
    caused(FileNotFoundError("bucket/key"), answered(404, "NoSuchKey")),
    EndpointConnectionError(endpoint_url="http://h", error=REFUSED),
    REFUSED,
    socket.gaierror(-2, "Name or service not known"),
    PermissionError(13, "Permission denied"),
    ValueError("no address"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_a_storage_may_get_over_passes(error):
    assert is_passing(error)
    assert is_passing(caused(OSError("cannot list"), error))


@pytest.mark.parametrize("error", STAYING, ids=repr)
def test_what_will_not_change_does_not_pass(error):
    assert not is_passing(error)


class _Failing:
    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.calls = error, times, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "answer"


@pytest.fixture
def pauses(monkeypatch):
    taken = []
    monkeypatch.setattr(retry.time, "sleep", taken.append)
    return taken


def test_it_is_asked_again_with_longer_pauses_until_it_answers(pauses):
    failing = _Failing(ShortReplyError("short"), times=retry.ATTEMPTS - 1)
    assert patiently(failing) == "answer"
    assert failing.calls == retry.ATTEMPTS
    longest = [0.5, 1, 2, 4, 8]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=True))


WAITED_FOR = [e for e in PASSING if isinstance(e.__cause__ or e, ClientError | EndpointConnectionError)]


@pytest.mark.parametrize("error", [e for e in PASSING if e not in WAITED_FOR], ids=repr)
def test_what_nobody_waited_for_is_asked_again(error, pauses):
    assert patiently(_Failing(error, times=1)) == "answer"


def test_it_is_given_up_after_the_last_attempt_with_its_error(pauses):
    failing = _Failing(ShortReplyError("short"), times=99)
    with pytest.raises(ShortReplyError, match="short"):
        patiently(failing)
    assert failing.calls == retry.ATTEMPTS


@pytest.mark.parametrize("error", [*STAYING, *WAITED_FOR], ids=repr)
def test_what_stays_or_was_waited_for_already_is_raised_at_once(error, pauses):
    failing = _Failing(error, times=99)
    with pytest.raises(type(error)):
        patiently(failing)
    assert (failing.calls, pauses) == (1, [])


@given(each=st.floats(0.1, 70))
def test_nothing_begins_after_the_last_moment(each):
    now = [0.0]
    begun = []

    def slow() -> None:
        begun.append(now[0])
        now[0] += each
        raise ShortReplyError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry.time, "monotonic", lambda: now[0])
        patch.setattr(retry.time, "sleep", lambda pause: now.__setitem__(0, now[0] + pause))
        with pytest.raises(ShortReplyError):
            patiently(slow)
    assert begun[-1] <= retry.LAST_BEGIN
