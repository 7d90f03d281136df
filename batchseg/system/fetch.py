"""Bytes of files: whole, by ranges, as a checksum, or as a copy on the local disk."""

import hashlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from batchseg.system import archives, rooted
from batchseg.system.file_info import ask
from batchseg.system.location import Location
from batchseg.system.retry import ShortReplyError, is_passing, patiently
from batchseg.system.storage import as_os_error, at_once, filesystem

PIECE_BYTES = 16 * 2**20
"""Of a file that is hashed, or read from its beginning to its end."""


def read_bytes(where: str | Location) -> bytes:
    """Raises OSError where the file cannot be read, DamagedError where it is of a damaged archive."""
    place = Location.of(where)
    if place.root is not None:
        return rooted.read_bytes(place)
    if archives.is_member(place.uri):
        return archives.read(place.uri)
    fs, path = filesystem(place)

    def read() -> bytes:
        if place.is_local:
            return bytes(fs.cat_file(path))
        return _whole(place.uri, fs, path, fs.info(path)["size"])

    with as_os_error():
        return patiently(read)


def _whole(uri: str, fs: Any, path: str, size: int | None) -> bytes:
    data: bytes = fs.cat_file(path, **_IN_ONE.get(fs.protocol[0], {}))
    _check_length(uri, len(data), size)
    return data


_IN_ONE = {"s3": {"max_concurrency": 1}}
"""Of a whole object: s3fs asks for its size by itself else, and pieces of 50 MB are asked for only once."""


def _check_length(uri: str, found: int, expected: int | None) -> None:
    """A proxy or a server that breaks off may still say that this was all.

    Unnoticed, a photograph's file would be blamed for it, and a copy would stay on the disk as it is.
    """
    if expected is not None and found != expected:
        msg = f"{uri} has {expected} bytes, the storage gave {found}"
        raise ShortReplyError(msg)


def open_file(uri: str) -> BinaryIO:
    """A file to be read from its beginning to its end, or sought in; little of it is in memory at a time.

    Small files of other storages are read at once, larger ones by ranges of PIECE_BYTES. Of a web server
    that gives no ranges they are copied to the local disk.

    Raises:
        OSError: the file cannot be read; also by reading on.
    """
    place = Location.of(uri)
    if place.path is not None:
        return place.path.open("rb")
    fs, path = filesystem(place)

    def begin() -> bytes | int | None:
        size: int | None = fs.info(path)["size"]
        return size if size is None or size > PIECE_BYTES else _whole(uri, fs, path, size)

    with as_os_error():
        begun = patiently(begin)
    if isinstance(begun, bytes):
        return io.BytesIO(begun)
    if begun is not None and gives_ranges(uri):
        return io.BufferedReader(_Ranges(uri, begun), PIECE_BYTES)
    copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  whoever reads it closes it

    def fill() -> None:
        copy.seek(0)
        copy.truncate()
        fs.get_file(path, copy)
        _check_length(uri, copy.tell(), begun)

    with as_os_error():
        patiently(fill)
    copy.seek(0)
    return copy


class _Ranges(io.RawIOBase):
    """A file of another storage, asked for as it is read."""

    def __init__(self, uri: str, size: int) -> None:
        self._uri, self._size, self._at = uri, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        part = read_ranges(self._uri, [self._at], [stop])[0]
        buffer[: len(part)] = part
        self._at = stop
        return len(part)


def path_or_bytes(uri: str) -> Path | bytes:
    """What readers of Parquet and of vector files take: the path of a local file, or all of another's bytes.

    Raises:
        OSError: a file of another storage cannot be read.
    """
    path = Location.of(uri).path
    return read_bytes(uri) if path is None else path


def read_many(places: Sequence[str | Location]) -> list[bytes]:
    """Whole files, requested side by side, in the order given. Raises OSError."""
    return at_once(read_bytes, places, places[0]) if places else []


def read_tail(uri: str, count: int) -> bytes:
    """The last `count` bytes of a file. Raises OSError; DamagedError as `read_bytes`."""
    place = Location.of(uri)
    if archives.is_member(uri) and (member := archives.find(uri)):
        return archives.read(uri, max(0, member.size - count))
    fs, path = filesystem(place)
    with as_os_error():
        if place.is_local:
            return bytes(fs.tail(path, count))
        size = patiently(lambda: ask(fs, path))["size"]
        if size is None:
            return bytes(patiently(lambda: fs.tail(path, count)))
    return read_ranges(uri, [max(0, size - count)], [size])[0] if size else b""


def read_ranges(uri: str, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
    """Parts of a file, requested side by side.

    Raises:
        OSError: a part cannot be read, or is shorter than it must be.
        DamagedError: as `read_bytes`.
    """
    if archives.is_member(uri):
        return [archives.read(uri, start, stop) for start, stop in zip(starts, stops, strict=True)]
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


def sha256(where: str | Location) -> str:
    """Checksum of a file's content, read in pieces. Raises OSError."""
    place = Location.of(where)
    if place.path is not None:
        opened = place.path if place.root is None else rooted.open_file(place)
        with open(opened, "rb") as file:  # noqa: PTH123  a descriptor has no path
            return hashlib.file_digest(file, "sha256").hexdigest()
    fs, remote = filesystem(place)
    checksum = hashlib.sha256()
    with as_os_error():
        size = patiently(lambda: ask(fs, remote))["size"]
        if size is None:
            with open_file(place.uri) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    for start in range(0, size, PIECE_BYTES):
        checksum.update(read_ranges(place.uri, [start], [min(start + PIECE_BYTES, size)])[0])
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
        expected = size if size is not None else ask(fs, path)["size"]
        fs.get_file(path, str(target))
        _check_length(uri, target.stat().st_size, expected)

    with as_os_error():
        patiently(copy)
