"""Members of ZIP and tar archives on a local disk, read where they lie: nothing is unpacked.

A member is named by its archive's path, `!/` and its own: `/archive/X.SAFE.zip!/X.SAFE/MTD_MSIL2A.xml`.
Archives may come from strangers. Links and what leads out of its folder are no members, and neither their
number nor what is held of them in memory grows with what an archive claims.
"""

import errno
import functools
import io
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from batchseg.system.location import misplaced

MEMBER = re.compile(r"(?P<archive>.*?\.(?:zip|tar))!/(?P<name>.+)", re.IGNORECASE | re.DOTALL)

MOST_MEMBERS = 10_000
"""A product of Sentinel-2 has a hundred."""

TABLE_BYTES = 4 * 2**20
"""Of a table of contents: Python holds ten times as much of it."""

MOST_BYTES = 64 * 2**20
"""Of a member that is read at once."""

PIECE_BYTES = 2**20

CHECKED = 1024
"""Members whose bytes a process remembers to be those that were packed."""

KEPT = 16
"""Archives whose table of contents a process remembers: shards ask again and again."""

_LOCAL_HEADER = 30
"""Bytes of a ZIP member's own header before its name."""


class DamagedError(ValueError):
    """An archive, or a member of one, is not what it should be, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file in an archive."""

    archive: str
    name: str
    size: int
    """Bytes, unpacked."""
    offset: int | None
    """Where its bytes lie in the archive; None: they are deflated."""
    version: str
    """Of the archive."""
    modified: float
    """Of the archive, seconds since 1970."""


def member_uri(archive: str, name: str) -> str:
    """How a member is named."""
    return f"{archive}!/{name}"


def is_member(uri: str) -> bool:
    """Whether a path names a member, and no file that is called so."""
    found = MEMBER.fullmatch(uri) if "!/" in uri and "://" not in uri else None
    return found is not None and not os.path.lexists(uri)


def find(uri: str) -> Member | None:
    """The member of that name; None where its archive does not hold it, or is no archive any more.

    Raises:
        OSError: the disk does not give the archive.
    """
    found = MEMBER.fullmatch(uri)
    if found is None:
        return None
    try:
        return members(found["archive"]).get(found["name"])
    except (DamagedError, FileNotFoundError, NotADirectoryError):
        return None


def members(archive: str) -> Mapping[str, Member]:
    """Regular files of an archive, by name.

    Raises:
        DamagedError: it is none, or nothing that is read here.
        OSError: the disk does not give it.
    """
    facts = os.stat(archive)  # noqa: PTH116  a Path takes twice as long
    if not stat.S_ISREG(facts.st_mode):
        raise FileNotFoundError(archive)
    return _members(archive, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=KEPT)
def _members(archive: str, size: int, mtime_ns: int) -> Mapping[str, Member]:
    """Of one version of an archive."""
    found: dict[str, Member] = {}
    try:
        with _Bounded(archive) as file:
            is_zip = archive.lower().endswith(".zip")
            for name, nbytes, offset in _of_zip(file, size) if is_zip else _of_tar(file, size):
                if misplaced(name):
                    continue
                if name in found:
                    msg = f"holds {name!r} twice"
                    raise DamagedError(msg)
                found[name] = Member(
                    archive=archive,
                    name=name,
                    size=nbytes,
                    offset=offset,
                    version=f"{size:x}-{mtime_ns:x}",
                    modified=mtime_ns / 1e9,
                )
                if len(found) > MOST_MEMBERS:
                    msg = f"holds more than {MOST_MEMBERS:,} files; a product has some hundred"
                    raise DamagedError(msg)
    except _DAMAGE as e:
        msg = f"is a damaged archive, or none ({e or type(e).__name__})"
        raise DamagedError(msg) from e
    return found


_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    UnicodeError,
    LookupError,
    OverflowError,
    NotImplementedError,
)
"""What Python's modules raise over hostile archives."""

_Entry = tuple[str, int, int | None]
"""Name, bytes, and offset of those that are not packed."""


def _of_zip(file: "_Bounded", size: int) -> Iterator[_Entry]:
    with zipfile.ZipFile(cast(BinaryIO, file)) as archive:
        for number, info in enumerate(archive.infolist()):
            _check_count(number)
            if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
                continue
            if info.flag_bits & 1:
                msg = "is encrypted; unpack it"
                raise DamagedError(msg)
            if info.compress_type == zipfile.ZIP_STORED:
                yield info.filename, info.file_size, _stored_at(file, info, size)
            elif info.compress_type == zipfile.ZIP_DEFLATED:
                yield info.filename, info.file_size, None
            else:
                how = f"packed by method {info.compress_type}, which is not read"
                msg = f"holds {info.filename!r} {how}; unpack it"
                raise DamagedError(msg)


def _stored_at(file: "_Bounded", info: zipfile.ZipInfo, size: int) -> int:
    """Where a member's bytes begin: its own header may be longer than the table of contents says."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        msg = f"{info.filename!r} has no header"
        raise zipfile.BadZipFile(msg)
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    offset = info.header_offset + _LOCAL_HEADER + names
    if offset + info.file_size > size:
        msg = f"{info.filename!r} is cut off"
        raise zipfile.BadZipFile(msg)
    return offset


def _of_tar(file: "_Bounded", size: int) -> Iterator[_Entry]:
    with tarfile.open(fileobj=cast(BinaryIO, file), mode="r:") as archive:
        for number, info in enumerate(archive):
            _check_count(number)
            if info.size < 0 or (info.isreg() and info.offset_data + info.size > size):
                msg = f"{info.name!r} is cut off"
                raise tarfile.ReadError(msg)
            if info.isreg() and not info.issparse():
                yield info.name.removeprefix("./"), info.size, info.offset_data


def _check_count(number: int) -> None:
    if number >= MOST_MEMBERS:
        msg = f"holds more than {MOST_MEMBERS:,} entries; a product has some hundred"
        raise DamagedError(msg)


class _Bounded(io.FileIO):
    """A file of which no more is read at a time than TABLE_BYTES, whatever it says itself."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:  # the end of a ZIP, from 64 KiB before it on
            size = TABLE_BYTES
        if size > TABLE_BYTES:
            msg = "its table of contents is too large"
            raise DamagedError(msg)
        return super().read(size) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            msg = "it names a place before its beginning"
            raise zipfile.BadZipFile(msg) from e


def read(uri: str, start: int = 0, stop: int | None = None) -> bytes:
    """Bytes of a member.

    Args:
        uri: of the member.
        start: the first byte.
        stop: behind the last one; None: to the end.

    Raises:
        DamagedError: it cannot be unpacked, or more is asked for than MOST_BYTES.
        OSError: the disk does not give it, or it is gone.
    """
    member = find(uri)
    if member is None:
        raise FileNotFoundError(uri)
    stop = member.size if stop is None else min(stop, member.size)
    count = max(stop - start, 0)
    if count > MOST_BYTES:
        msg = f"{member.name!r} has {count:,} bytes, at most {MOST_BYTES:,} are read at once"
        raise DamagedError(msg)
    if count == member.size:
        check(uri)
    if member.offset is not None:
        with open(member.archive, "rb") as plain:  # noqa: PTH123
            plain.seek(member.offset + start)
            return plain.read(count)
    try:
        with (
            _Bounded(member.archive) as file,
            zipfile.ZipFile(cast(BinaryIO, file)) as archive,
            archive.open(member.name) as packed,
        ):
            return _part(packed, start, count)
    except _DAMAGE as e:
        msg = f"{member.name!r} cannot be unpacked ({e or type(e).__name__})"
        raise DamagedError(msg) from e


def check(uri: str) -> None:
    """Read a member of a ZIP through, once for each version of its archive: its CRC must be the recorded one.

    GDAL reads windows, and compares no CRC then. A tar records none of its members' bytes.

    Raises:
        DamagedError: its bytes are not those that were packed.
        OSError: the disk does not give it, or it is gone.
    """
    member = find(uri)
    if member is None:
        raise FileNotFoundError(uri)
    if member.archive.lower().endswith(".zip"):
        _check(member)


@functools.lru_cache(maxsize=CHECKED)
def _check(member: Member) -> None:
    try:
        with (
            _Bounded(member.archive) as file,
            zipfile.ZipFile(cast(BinaryIO, file)) as archive,
            archive.open(member.name) as packed,
        ):
            _read_through(packed, member.name)
    except _DAMAGE as e:
        msg = f"{member.name!r} cannot be unpacked ({e or type(e).__name__})"
        raise DamagedError(msg) from e


def _read_through(packed: Any, name: str) -> None:
    """`zipfile` compares the CRC where a member ends."""
    try:
        while packed.read(PIECE_BYTES):
            pass
    except zipfile.BadZipFile as e:
        msg = f"bad CRC in {name}: its bytes are not those that were packed; fetch the archive again"
        raise DamagedError(msg) from e


def _part(packed: Any, start: int, count: int) -> bytes:
    """What lies before is unpacked, piece by piece."""
    while start > 0 and (piece := packed.read(min(start, PIECE_BYTES))):
        start -= len(piece)
    data: bytes = packed.read(count)
    return data


def gdal_path(member: Member) -> str:
    """The name by which GDAL reads a member.

    Raises:
        DamagedError: its path holds what GDAL reads as the end of one.
    """
    if member.offset is not None:
        return f"/vsisubfile/{member.offset}_{member.size},{member.archive}"
    if {"{", "}"} & {*member.archive, *member.name}:
        msg = "its path holds a brace, which GDAL does not read in names of ZIP archives; rename it"
        raise DamagedError(msg)
    return f"/vsizip/{{{member.archive}}}/{member.name}"
