"""How long a storage is asked again, and which of its errors pass by themselves.

Two loops and no third. Requests of S3 are sent again by its own client (`S3_CLIENT`): what it cannot
connect, is not answered in time, or is answered with 5xx or 429. What only shows in the reply (it breaks
off, cannot be parsed, or is not as long as the object) is asked for again here, for other protocols
also the rest. s3fs, which would multiply the client's attempts by its own, is told to make one.

    S3: 6 attempts; pauses of at most 1, 2, 4, 8 and 16 s, a random part of each; 15 s without a byte
        are no answer: 121 s at most for one request, 14 s on average where the server answers at once.
    Replies: 6 attempts, pauses of at most 0.5, 1, 2, 4 and 8 s, a random half to whole of each; none
        begins later than 60 s after the first: 181 s at most for one operation of one request.

503 and S3's SlowDown are covered. A status in `_PASSING_STATUS` makes a reply of S3 transient, which is for
the next run; it is not sent again here.
"""

import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

S3_CLIENT: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 15,
    "max_pool_connections": 32,  # botocore's 10 would let requests wait that are made at once
    # botocore's: 1, 2, 4 ... 20 s, each times a random number below 1, and fewer when most requests fail.
    "retries": {"mode": "standard", "total_max_attempts": 6},
}
"""Of botocore's Config; a job's `storage: {s3: {config_kwargs: ...}}` goes before it, key by key."""

ATTEMPTS = 6
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
LAST_BEGIN = float(os.environ.get("BATCHSEG_PATIENCE", "60"))
"""Seconds after the first attempt that another may begin."""


class ShortReplyError(OSError):
    """A reply has not the length that it must have."""


def patiently(function: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """Call a function again while it fails for a reason that passes, and that nobody waited for.

    Args:
        function: may be called several times, and leaves nothing behind where it fails.
        attempts: calls at most.

    Raises:
        Exception: the last one of `function`.
    """
    began = time.monotonic()
    for pause in itertools.islice(_pauses(), attempts - 1):
        try:
            return function()
        except Exception as e:
            if not _may_be_repeated(e) or time.monotonic() - began + pause > LAST_BEGIN:
                raise
        time.sleep(pause)
    return function()


def _pauses() -> Iterator[float]:
    """Half of each is random, so that processes that failed together do not come back together."""
    for number in itertools.count():
        part = random.uniform(0.5, 1)  # noqa: S311  no secret
        yield min(FIRST_PAUSE * 2**number, LONGEST_PAUSE) * part


def is_passing(error: BaseException) -> bool:
    """Whether an error, or one that caused it, is a storage's that may not recur: 5xx, 429, time, a reset."""
    return any(_status(e) in _PASSING_STATUS or _is_broken(e) for e in _chain(error))


def _may_be_repeated(error: Exception) -> bool:
    """The client of S3 has waited already for servers that answered with an error, or not at all."""
    if any(_is_reply(e) or _class_names(e) & _WAITED_FOR for e in _chain(error)):
        return False
    return is_passing(error)


_PASSING_STATUS = frozenset((408, 429, 500, 502, 503, 504))

_BROKEN = frozenset(
    (
        "ShortReplyError",
        "HTTPClientError",  # botocore's: broken off, timed out
        "ConnectTimeoutError",
        "ResponseParserError",
        "FlexibleChecksumError",
        "ClientPayloadError",  # aiohttp's
        "ServerDisconnectedError",
        "ServerTimeoutError",
        "ClientOSError",
        "FSTimeoutError",
        "IncompleteRead",
        "TimeoutError",
        "ConnectionResetError",
        "BrokenPipeError",
    )
)
"""Classes by name: their libraries are imported by who uses such a storage, and nobody else."""

_NEVER_THERE = frozenset(("ClientConnectorError", "ConnectionRefusedError", "gaierror"))
"""No server at this address: wrong more often than down."""

_WAITED_FOR = frozenset(("ConnectTimeoutError", "EndpointConnectionError"))
"""botocore's, after its own attempts."""


def _is_reply(error: BaseException) -> bool:
    """Of S3, by botocore. aiohttp has a ClientError too."""
    return isinstance(getattr(error, "response", None), dict)


def _is_broken(error: BaseException) -> bool:
    names = _class_names(error)
    if "EndpointConnectionError" in names:  # botocore's for a reset too
        cause = getattr(error, "kwargs", {}).get("error")
        return isinstance(cause, BaseException) and _is_broken(cause)
    return bool(names & _BROKEN) and not names & _NEVER_THERE


def _status(error: BaseException) -> int | None:
    """Of HTTP: aiohttp's errors have it, botocore's in their response."""
    status = getattr(error, "status", None)
    if _is_reply(error):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")  # type: ignore[attr-defined]
    return status if isinstance(status, int) else None


def code_of(error: BaseException) -> str:
    """S3's word for an error, such as `PreconditionFailed`; empty where it said none."""
    for e in _chain(error):
        if _is_reply(e):
            return str(e.response.get("Error", {}).get("Code", ""))  # type: ignore[attr-defined]
    return ""


def _class_names(error: BaseException) -> frozenset[str]:
    return frozenset(kind.__name__ for kind in type(error).__mro__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
