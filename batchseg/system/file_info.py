"""What a storage says of a file without giving it: its size, and which version it is."""

import contextlib
import datetime as dt
import errno
import hashlib
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from batchseg.errors import SourceIOError
from batchseg.system import archives, rooted
from batchseg.system.location import Location
from batchseg.system.redact import public
from batchseg.system.retry import code_of, patiently
from batchseg.system.storage import as_os_error, at_once, filesystem


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    uri: str
    size: int | None
    """Bytes; None where a web server does not say, as it sends the file in chunks."""
    version: str
    """ETag, or modification time: changes when the content is written again."""
    modified: float | None = None
    """By the storage's clock, seconds since 1970; None where it does not say."""


PIECE_BYTES = 2**20

ABSENT = "absent"
"""Version of a file that is named and not there."""


def file_info(where: str | Location) -> FileInfo | None:
    """Size and version of one file; None where there is none.

    Raises:
        SourceIOError: the storage did not answer, or denies access.
    """
    place = Location.of(where)
    uri = place.uri
    if place.root is not None:
        return _below_root(place)
    if archives.is_member(uri):
        return _member(uri)
    try:
        with as_os_error():
            fs, path = filesystem(place)
            info = patiently(lambda: ask(fs, path))
    except FileNotFoundError as e:
        if not is_no_answer(e.__cause__):
            return None
        msg = f"cannot look at {uri}: {e.__cause__}"
        raise SourceIOError(msg) from e
    except OSError as e:
        if place.is_local and e.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP):
            return None
        msg = f"cannot look at {uri}: {e}"
        raise SourceIOError(msg) from e
    return to_file_info(fs, path, info) if info["type"] == "file" or is_regular(path) else None


def _member(uri: str) -> FileInfo | None:
    """Of a file in an archive: its own size, and the version of the archive."""
    try:
        found = archives.find(uri)
    except OSError as e:
        msg = f"cannot look at {uri}: {e.strerror or e}"
        raise SourceIOError(msg) from e
    if found is None:
        return None
    return FileInfo(uri=uri, size=found.size, version=found.version, modified=found.modified)


def _below_root(place: Location) -> FileInfo | None:
    try:
        found = rooted.look(place)
    except OSError as e:
        msg = f"cannot look at {place}: {e.strerror}"
        raise SourceIOError(msg) from e
    if found is None or not stat.S_ISREG(found.st_mode):
        return None
    modified = found.st_mtime
    return FileInfo(uri=place.uri, size=found.st_size, version=str(modified), modified=modified)


def ask(fs: Any, path: str) -> dict[str, Any]:
    """What a client says of a file, as it says it. Raises OSError, with the reason."""
    try:
        info: dict[str, Any] = fs.info(path)
    except OSError as e:
        if code_of(e) in ("400", "403"):  # of HEAD, whose reply has no body that says why: GET has
            fs.cat_file(path, start=0, end=1)
        raise
    return info


def is_no_answer(cause: BaseException | None) -> bool:
    """Why fsspec says of a URL that it is not there: it does so of servers that cannot be reached, too."""
    if cause is None or isinstance(cause, FileNotFoundError | ValueError):  # ValueError: no address at all
        return False
    status = getattr(cause, "status", None)  # of HTTP
    return status is None or status >= 500 or status in (408, 429)


def file_infos(uris: Sequence[str]) -> dict[str, FileInfo | None]:
    """`file_info` of several files; of buckets side by side. Raises SourceIOError."""
    remote = next((uri for uri in uris if not Location.of(uri).is_local), "")
    return dict(zip(uris, at_once(file_info, uris, remote), strict=True))


def is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except OSError:
        return False


def points_nowhere(path: str) -> bool:
    """Of a link: what it points at is not there, or it is a link to itself."""
    try:
        Path(path).stat()
    except OSError as e:
        return e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
    return False


def to_file_info(fs: Any, name: str, info: dict[str, Any]) -> FileInfo:
    """An entry of a listing, as fsspec or a client has it, in this module's words."""
    uri = fs.unstrip_protocol(name).removeprefix("file://")
    if info.get("islink") and points_nowhere(name):
        return FileInfo(uri=uri, size=0, version=ABSENT, modified=None)
    if info.get("islink"):
        target = Path(name).stat()  # what counts is what the link points at
        modified = target.st_mtime
        return FileInfo(uri=uri, size=target.st_size, version=str(modified), modified=modified)
    keys = ("ETag", "etag", "mtime", "LastModified", "last_modified", "Last-Modified")
    version = next((str(info[key]) for key in keys if info.get(key)), "")
    if info["size"] is None and not version:
        return _read_through(fs, name, uri)
    return FileInfo(uri=uri, size=info["size"], version=version, modified=modified_at(info))


def _read_through(fs: Any, path: str, uri: str) -> FileInfo:
    """A file of which nothing is said, by its content: or else no change would be seen."""

    def read() -> FileInfo:
        digest, size = hashlib.sha256(), 0
        with fs.open(path) as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
        return FileInfo(uri=uri, size=size, version=digest.hexdigest())

    try:
        with as_os_error():
            return patiently(read)
    except OSError:  # one file's problem, which who opens it will meet
        return FileInfo(uri=uri, size=None, version="")


def modified_at(info: Mapping[str, Any]) -> float | None:
    """Seconds since 1970; None where a client does not say when a file was written."""
    # Local disks say `mtime`, S3 `LastModified`, Azure `last_modified`, web servers `Last-Modified`.
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
    lines = sorted(f"{public(info.uri).rpartition('/')[2]}\t{info.size}\t{info.version}" for info in infos)
    return _digest("\n".join(lines))


def digests_of(uris: Sequence[str], sizes: Sequence[int | None], versions: Sequence[str]) -> list[str]:
    """The same of each of many files."""
    names = (uri.rpartition("/")[2] if "://" not in uri else public(uri).rpartition("/")[2] for uri in uris)
    facts = zip(names, sizes, versions, strict=True)
    return [_digest(f"{name}\t{size}\t{version}") for name, size, version in facts]


def _digest(text: str) -> str:
    # Names that are not UTF-8 come from the file system as lone surrogates.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
