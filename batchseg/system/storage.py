"""Bytes by URI: listing, versions, atomic publishing. The only module that uses fsspec.

On a local disk a file is published by writing beside it, fsync and rename; on an object store by one
PUT, which is atomic by itself. Readers never see half a file.
"""

import contextlib
import datetime as dt
import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.utils import glob_translate

from batchseg.errors import BatchsegError, ConfigError, CredentialsError, SourceIOError, StoppedError
from batchseg.system.redact import public
from batchseg.system.retry import S3_CLIENT, ShortReplyError, code_of, is_passing, patiently

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    uri: str
    size: int
    """Bytes."""
    version: str
    """ETag, or modification time: changes when the content is written again."""
    modified: float | None = None
    """By the storage's clock, seconds since 1970; None where it does not say."""


OPTION_NAMES: dict[str, dict[str, str | tuple[str, str]]] = {
    "s3": {"endpoint": "endpoint_url", "anonymous": "anon"},
    "gs": {"endpoint": "endpoint_url", "anonymous": ("token", "anon")},
    "az": {"endpoint": "account_host", "anonymous": "anon"},
}
"""fsspec's names for the options that all object stores have; others are passed as they are."""

PROTOCOLS = {
    "s3": ("s3", "s3a"),
    "gs": ("gs", "gcs"),
    "az": ("az", "abfs", "abfss"),
    "http": ("http", "https"),
}
"""Which spellings of a URI an entry of the job file's `storage` is for."""

PIECE_BYTES = 16 * 2**20
"""Of a file whose content is hashed."""

ABSENT = "absent"
"""Version of a file that is named and not there."""

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
    """Take over the `environment` of the process that gives this one its work."""
    if environment() != variables:
        os.environ.update(variables)
        fsspec.config.set_conf_env(fsspec.config.conf, dict(variables))


def refusal(error: Exception, msg: str) -> StoppedError | ConfigError:
    """What ends a run that has not begun: a storage that fails for now, or something that is wrong."""
    return StoppedError(f"{msg}; nothing was started, run again") if is_passing(error) else ConfigError(msg)


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a URI and the path within it.

    Raises:
        OSError: there is no client for its protocol, or its options are wrong.
    """
    with as_os_error():
        if local_path(uri) is not None:
            fs, path = fsspec.core.url_to_fs(uri)
        elif uri.startswith(("s3://", "s3a://")):
            given = fsspec.config.conf.get(uri.partition(":")[0], {}).get("config_kwargs", {})
            client = {**S3_CLIENT, **given}
            fs, path = fsspec.core.url_to_fs(uri, use_listings_cache=False, config_kwargs=client)
            fs.retries = 1  # each would be as many of the client's own
            from batchseg.system.s3_session import give_session  # a quarter second that local runs are spared

            give_session(fs)
        else:
            # A listing that fsspec remembers would hide that something changed.
            fs, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    return fs, str(path)


def connect(uri: str) -> None:
    """Make the client of a storage, which the next calls use; nothing is asked of it.

    Raises:
        OSError: as `filesystem`.
    """
    fs, _ = filesystem(uri)
    if hasattr(fs, "connect"):  # s3fs makes its client, 0.3 s of CPU, at its first request
        with as_os_error():
            fs.connect()


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
            raise OSError(f"{type(e).__name__}: {e}") from e  # noqa: EM102
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


def at_once(function: Callable[[T], U], items: Sequence[T], where: str) -> list[U]:
    """Results in the items' order, of requests made side by side; one after the other on a local disk."""
    if len(items) < 2 or local_path(where) is not None:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(REQUESTS, len(items))) as pool:
        return list(pool.map(function, items))


def local_path(uri: str) -> Path | None:
    """The path of a local URI, else None."""
    if "://" in uri and not uri.startswith("file://"):
        return None
    return Path(uri.removeprefix("file://"))


PATH_BYTES = 4096
"""Of one path: Linux takes no more, S3 a quarter of it."""

SPOKEN = frozenset((*(spelling for each in PROTOCOLS.values() for spelling in each), "file", "memory"))


def unreadable(uri: str) -> str:
    """Why what a listing holds can name no file, in words; empty where it can.

    fsspec knows many more protocols, and chains of them, that unpack archives or run programs; GDAL has
    names that begin with /vsi.
    """
    if "\0" in uri:
        return "its path holds a NUL character; correct the list"
    if len(uri) > PATH_BYTES:
        return f"its path has {len(uri):,} characters; correct the list"
    protocol, separator, rest = uri.partition("://")
    if separator and (protocol not in SPOKEN or "::" in protocol or not rest.strip("/")):
        return "is no path, and no address that is read: s3://, gs://, az://, http:// or https://"
    return ""


def join(root: str, *parts: str) -> str:
    return "/".join((root.rstrip("/"), *parts))


def file_info(uri: str) -> FileInfo | None:
    """Size and version of one file; None where there is none.

    Raises:
        SourceIOError: the storage did not answer, or denies access.
    """
    try:
        with as_os_error():
            fs, path = filesystem(uri)
            info = patiently(lambda: _info(fs, path))
    except FileNotFoundError as e:
        if not _is_no_answer(e.__cause__):
            return None
        msg = f"cannot look at {uri}: {e.__cause__}"
        raise SourceIOError(msg) from e
    except OSError as e:
        if local_path(uri) is not None and e.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP):
            return None
        msg = f"cannot look at {uri}: {e}"
        raise SourceIOError(msg) from e
    return to_file_info(fs, path, info) if info["type"] == "file" or _is_regular(path) else None


def _info(fs: Any, path: str) -> dict[str, Any]:
    try:
        info: dict[str, Any] = fs.info(path)
    except OSError as e:
        if code_of(e) in ("400", "403"):  # of HEAD, whose reply has no body that says why: GET has
            fs.cat_file(path, start=0, end=1)
        raise
    return info


def _is_no_answer(cause: BaseException | None) -> bool:
    """Why fsspec says of a URL that it is not there: it does so of servers that cannot be reached, too."""
    if cause is None or isinstance(cause, FileNotFoundError | ValueError):  # ValueError: no address at all
        return False
    status = getattr(cause, "status", None)  # of HTTP
    return status is None or status >= 500 or status in (408, 429)


def file_infos(uris: Sequence[str]) -> dict[str, FileInfo | None]:
    """`file_info` of several files; of buckets side by side. Raises SourceIOError."""
    remote = next((uri for uri in uris if local_path(uri) is None), "")
    return dict(zip(uris, at_once(file_info, uris, remote), strict=True))


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except OSError:
        return False


def _points_nowhere(path: str) -> bool:
    """Of a link: what it points at is not there, or it is a link to itself."""
    try:
        Path(path).stat()
    except OSError as e:
        return e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
    return False


def to_file_info(fs: Any, name: str, info: dict[str, Any]) -> FileInfo:
    """An entry of a listing, as fsspec or a client has it, in this module's words."""
    uri = fs.unstrip_protocol(name).removeprefix("file://")
    if info.get("islink") and _points_nowhere(name):
        return FileInfo(uri=uri, size=0, version=ABSENT, modified=None)
    if info.get("islink"):
        target = Path(name).stat()  # what counts is what the link points at
        modified = target.st_mtime
        return FileInfo(uri=uri, size=target.st_size, version=str(modified), modified=modified)
    keys = ("ETag", "etag", "mtime", "LastModified", "last_modified", "Last-Modified")
    version = next((str(info[key]) for key in keys if info.get(key)), "")
    return FileInfo(uri=uri, size=info["size"] or 0, version=version, modified=_modified(info))


def _modified(info: Mapping[str, Any]) -> float | None:
    """Local disks say `mtime`, S3 `LastModified`, Azure `last_modified`, web servers `Last-Modified`."""
    keys = ("mtime", "LastModified", "last_modified", "Last-Modified", "updated", "modified", "created")
    for key in keys:
        value = info.get(key)
        if isinstance(value, str):
            value = _parsed_time(value)
        if isinstance(value, dt.datetime):
            return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None


def _parsed_time(text: str) -> dt.datetime | None:
    """ISO 8601, or the form of HTTP headers; None where it is neither."""
    for parse in (dt.datetime.fromisoformat, parsedate_to_datetime):
        with contextlib.suppress(ValueError, TypeError):
            return parse(text)
    return None


def digest_of(infos: list[FileInfo]) -> str:
    """Source tag: a digest of names, sizes and versions. Content is not read, a URL's signature no part."""
    lines = sorted(f"{public(info.uri).rsplit('/', 1)[-1]}\t{info.size}\t{info.version}" for info in infos)
    # Names that are not UTF-8 come from the file system as lone surrogates.
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def read_bytes(uri: str) -> bytes:
    """Raises OSError where the file cannot be read."""
    fs, path = filesystem(uri)
    is_local = local_path(uri) is not None

    def read() -> bytes:
        if is_local:
            return bytes(fs.cat_file(path))
        size = fs.info(path)["size"]
        data: bytes = fs.cat_file(path, **_IN_ONE.get(fs.protocol[0], {}))
        _check_length(uri, len(data), size)
        return data

    with as_os_error():
        return patiently(read)


_IN_ONE = {"s3": {"max_concurrency": 1}}
"""Of a whole object: s3fs asks for its size by itself else, and pieces of 50 MB are asked for only once."""


def _check_length(uri: str, found: int, expected: int | None) -> None:
    """A proxy or a server that breaks off may still say that this was all.

    Unnoticed, a photograph's file would be blamed for it, and a copy would stay on the disk as it is.
    """
    if expected is not None and found != expected:
        msg = f"{uri} has {expected} bytes, the storage gave {found}"
        raise ShortReplyError(msg)


def read_many(uris: Sequence[str]) -> list[bytes]:
    """Whole files, requested side by side, in the order of `uris`. Raises OSError."""
    return at_once(read_bytes, uris, uris[0]) if uris else []


def read_tail(uri: str, count: int) -> bytes:
    """The last `count` bytes of a file. Raises OSError."""
    fs, path = filesystem(uri)
    with as_os_error():
        if local_path(uri) is not None:
            return bytes(fs.tail(path, count))
        size = patiently(lambda: _info(fs, path))["size"]
        if size is None:
            return bytes(patiently(lambda: fs.tail(path, count)))
    return read_ranges(uri, [max(0, size - count)], [size])[0] if size else b""


def read_ranges(uri: str, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
    """Parts of a file, requested side by side.

    Raises:
        OSError: a part cannot be read, or is shorter than it must be.
    """
    fs, path = filesystem(uri)
    got: dict[int, bytes] = {}

    def read() -> None:
        """What is missing still: of a hundred parts a few fail."""
        missing = [n for n in range(len(starts)) if n not in got]
        asked = [starts[n] for n in missing], [stops[n] for n in missing]
        parts = fs.cat_ranges([path] * len(missing), *asked, on_error="return")
        failures = []
        for number, part in zip(missing, parts, strict=True):
            length = stops[number] - starts[number]
            if isinstance(part, bytes) and len(part) == length:
                got[number] = part
            elif isinstance(part, bytes):
                msg = f"asked for {length} bytes at {starts[number]} of {uri}, got {len(part)}"
                failures.append(ShortReplyError(msg))
            else:
                failures.append(part)
        if failures:
            raise next((e for e in failures if not is_passing(e)), failures[0])

    with as_os_error():
        patiently(read)
    return [got[number] for number in range(len(starts))]


def gives_ranges(uri: str) -> bool:
    """Whether parts of a file can be asked for: a plain web server may know only whole ones."""
    if not uri.startswith("http"):
        return True
    fs, path = filesystem(uri)
    try:
        with as_os_error():
            return len(patiently(lambda: fs.cat_file(path, start=1, end=3))) == 2
    except OSError:
        return False


def sha256(uri: str) -> str:
    """Checksum of a file's content, read in pieces. Raises OSError."""
    path = local_path(uri)
    if path is not None:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    fs, remote = filesystem(uri)
    checksum = hashlib.sha256()
    with as_os_error():
        size = patiently(lambda: _info(fs, remote))["size"]
    for start in range(0, size, PIECE_BYTES):
        checksum.update(read_ranges(uri, [start], [min(start + PIECE_BYTES, size)])[0])
    return checksum.hexdigest()


def fetch(uri: str, target: Path, size: int | None = None) -> None:
    """Copy a file to the local disk.

    Args:
        uri: of the file.
        target: where to.
        size: its bytes, if they are known; else they are asked for.

    Raises:
        OSError: the storage does not give it, or not the whole of it.
    """
    fs, path = filesystem(uri)
    target.parent.mkdir(parents=True, exist_ok=True)

    def copy() -> None:
        expected = size if size is not None else _info(fs, path)["size"]
        fs.get_file(path, str(target))
        _check_length(uri, target.stat().st_size, expected)

    with as_os_error():
        patiently(copy)


def glob_regex(pattern: str) -> re.Pattern[str]:
    """What a glob, or one part of it, matches here: the whole text. Raises ValueError for `a**`."""
    return re.compile(glob_translate(pattern))
