"""The storages' clients: their options, how one is reached, and its errors in words.

The only module that uses fsspec. `fetch` reads through it, `file_info` and `listing` look, `publish` writes.
"""

import contextlib
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import fsspec
from fsspec.utils import glob_translate

from batchseg.errors import BatchsegError, ConfigError, CredentialsError, StoppedError
from batchseg.system.location import PROTOCOLS, Location
from batchseg.system.redact import remember_user
from batchseg.system.retry import S3_CLIENT, code_of, is_passing
from batchseg.system.utf8 import check_worker

T = TypeVar("T")
U = TypeVar("U")


OPTION_NAMES: dict[str, dict[str, str | tuple[str, str]]] = {
    "s3": {"endpoint": "endpoint_url", "anonymous": "anon"},
    "gs": {"endpoint": "endpoint_url", "anonymous": ("token", "anon")},
    "az": {"endpoint": "account_host", "anonymous": "anon"},
}
"""fsspec's names for the options that all object stores have; others are passed as they are."""

REQUESTS = 32
"""Requests at once where fsspec does not do it by itself."""


def configure(options: Mapping[str, Mapping[str, Any]]) -> None:
    """Make a job's storage options those of this process and of all that it starts.

    Args:
        options: by protocol, as in the job file: `{"s3": {"endpoint": ..., "anonymous": True}}`.
    """
    for protocol, given in options.items():
        translated: dict[str, Any] = {}
        for key, value in given.items():
            name = OPTION_NAMES.get(protocol, {}).get(key, key)
            if isinstance(name, tuple):
                translated |= {name[0]: name[1]} if value else {}
            else:
                translated[name] = value
        for spelling in PROTOCOLS.get(protocol, (protocol,)):
            fsspec.config.conf[spelling] = translated
            # Processes that are started read it when they import fsspec.
            os.environ[f"FSSPEC_{spelling.upper()}"] = json.dumps(translated)


def environment() -> dict[str, str]:
    """What `configure` set, for processes that did not inherit it."""
    return {key: value for key, value in os.environ.items() if key.startswith("FSSPEC_")}


def adopt(variables: Mapping[str, str]) -> None:
    """Take over the `environment` of the process that gives this one its work.

    Raises:
        StoppedError: this one takes names of files for another charset than that one does.
    """
    check_worker()
    if environment() != variables:
        os.environ.update(variables)
        fsspec.config.set_conf_env(fsspec.config.conf, dict(variables))


def refusal(error: Exception, msg: str) -> StoppedError | ConfigError:
    """What ends a run that has not begun: a storage that fails for now, or something that is wrong."""
    return StoppedError(f"{msg}; nothing was started, run again") if is_passing(error) else ConfigError(msg)


def filesystem(where: str | Location) -> tuple[Any, str]:
    """The fsspec file system of a place and the path within it.

    Raises:
        OSError: there is no client for its protocol, or its options are wrong.
    """
    place = Location.of(where)
    uri = place.uri
    if not place.is_local:
        remember_user(uri)  # clients quote `user:password@bucket` without the protocol
    with as_os_error():
        if place.is_local:
            fs, path = fsspec.core.url_to_fs(uri)
        elif place.protocol in PROTOCOLS["s3"]:
            given = fsspec.config.conf.get(place.protocol, {}).get("config_kwargs", {})
            client = {**S3_CLIENT, **given}
            fs, path = fsspec.core.url_to_fs(uri, use_listings_cache=False, config_kwargs=client)
            fs.retries = 1  # each would be as many of the client's own
            from batchseg.system.s3_session import give_session  # a quarter second that local runs are spared

            give_session(fs)
        else:
            # A listing that fsspec remembers would hide that something changed.
            fs, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    return fs, str(path)


def spelt(uri: str) -> str:
    """An address as listings of its storage spell it: `s3a://` is `s3://` there. Raises OSError."""
    fs, path = filesystem(uri)
    return str(fs.unstrip_protocol(path))


@contextlib.contextmanager
def as_os_error() -> Iterator[None]:
    """Clients of object stores raise errors of their own, of no common class, and some say nothing.

    Raises:
        OSError: what a client raised, in words.
        CredentialsError: it says that the credentials are no more valid, which is no file's fault.
    """
    try:
        yield
    except NotImplementedError:
        raise
    except Exception as e:
        if (code := code_of(e)) in _CREDENTIALS and not isinstance(e, CredentialsError):
            msg = f"the storage refuses the credentials ({code}: {e}); renew them and run again"
            raise CredentialsError(msg) from e
        if isinstance(e, BatchsegError) or (isinstance(e, OSError) and str(e) not in ("", "None")):
            raise
        if not isinstance(e, OSError):
            said = " ".join(str(e).split())  # botocore's run over several lines
            raise OSError(f"{type(e).__name__}: {said}") from e  # noqa: EM102
        msg = f"{type(e).__name__}: {e.__cause__ or _HINTS.get(type(e), 'no reason given')}"
        raise type(e)(msg) from e


_CREDENTIALS = frozenset(
    (
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    )
)
"""S3's codes for credentials that nothing can be done with. AccessDenied may be about one object."""


_HINTS: dict[type, str] = {
    PermissionError: "access denied; check the credentials",
    FileNotFoundError: "there is no such file, folder or bucket",
}


def at_once(function: Callable[[T], U], items: Sequence[T], where: str | Location) -> list[U]:
    """Results in the items' order, of requests made side by side; one after the other on a local disk."""
    if len(items) < 2 or Location.of(where).is_local:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(REQUESTS, len(items))) as pool:
        return list(pool.map(function, items))


def in_order(function: Callable[[T], U], items: Iterable[T], where: str | Location) -> Iterator[U]:
    """The same of items without end, REQUESTS of them ahead at most: what nobody has taken stays small."""
    if Location.of(where).is_local:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(REQUESTS) as pool:
        ahead: deque[Future[U]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > REQUESTS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def glob_regex(pattern: str) -> re.Pattern[str]:
    """What a glob, or one part of it, matches here: the whole text. Raises ValueError for `a**`."""
    return re.compile(glob_translate(pattern))
