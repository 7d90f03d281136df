"""Rasters opened where they lie.

Local files are GDAL's own business. Of a large GeoTIFF on a bucket or a web server only the blocks of
a window are fetched, all of them side by side: GDAL tells the ranges of a whole window at once to a
`MultiByteRangeResourceContainer`. One request at a time takes 20 times as long where a request takes
80 ms. Everything else is copied to the local disk once, sidecars included; so is a TIFF whose place stands
in a file beside it.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import rasterio
from rasterio.abc import MultiByteRangeResourceContainer

from batchseg.errors import CredentialsError, SourceError
from batchseg.inputs.formats import (
    HEAD_BYTES,
    check_bands,
    check_beside,
    check_elsewhere,
    check_vrt,
    driver_of,
    local_head,
)
from batchseg.system import archives, fetch, storage
from batchseg.system.file_info import FileInfo, file_info
from batchseg.system.location import Location
from batchseg.system.private_folder import open_lock
from batchseg.system.redact import public
from batchseg.system.temp_folders import cache_root

WHOLE_BYTES = 16 * 2**20
"""Up to this size one request for the whole file is quicker than one for the header and others after it."""

PAGE_BYTES = 64 * 2**10
PAGES_KEPT = 128
"""Headers, block indexes and whatever GDAL reads in small pieces, per open file: 8 MiB."""

CACHE_BYTES = 8 * 2**30
"""Copies on a machine's disk at most; the oldest go first. One that is open stays readable."""

RAW_BLOCK_BYTES = 512 * 2**20
"""GDAL_MAX_RAW_BLOCK_CACHE_SIZE: past the default of 10 MB GDAL asks for a window's blocks one by one."""

TIFF = re.compile(r"\.g?tiff?$", re.IGNORECASE)

READ_BY_RANGES = (".msk", ".ovr", ".aux.xml", ".prj")
"""Sidecars that GDAL reads by ranges too. Others it reads line by line, and nothing of them: of an open file
that is not at its end rasterio 1.4 says that it is. With such a one a TIFF is copied."""


IN_ARCHIVES = frozenset(("GTiff", "JP2OpenJPEG"))
"""Drivers of rasters in archives: what agencies deliver."""


def open_raster(
    uri: str,
    files: Sequence[str] = (),
    *,
    allow_vrt: bool = False,
    size: int | None = None,
    level: int | None = None,
) -> rasterio.DatasetReader:
    """Open a raster that nobody else holds open.

    Args:
        uri: of the raster.
        files: it and its sidecars: of a bucket GDAL is shown no other.
        allow_vrt: it may be a VRT, which reads other files.
        size: bytes of a raster without sidecars, where the caller knows: a bucket is not asked again.
        level: number of an overview, from 0, in place of the raster itself.

    Raises:
        OSError: the storage does not give it.
        SourceError: it is of no kind that is opened, or points at other files. Else what rasterio raises.
    """
    _failures.seen.clear()
    if archives.is_member(uri):
        return _open_member(uri, level)
    local = Location.of(uri).path
    if local is not None:
        return _open_local(local, files, level, allow_vrt=allow_vrt)
    if size is not None and size > WHOLE_BYTES and set(files) == {uri} and _is_read_by_ranges(uri):
        return _open_remote(uri, [FileInfo(uri=uri, size=size, version="", modified=None)], level)
    infos = storage.at_once(_existing, sorted({uri, *files}), uri)
    main = next(info for info in infos if info.uri == uri)
    by_ranges = all(file == uri or file.lower().endswith(READ_BY_RANGES) for file in files)
    is_large = main.size is not None and main.size > WHOLE_BYTES
    if is_large and by_ranges and _is_read_by_ranges(uri):
        return _open_remote(uri, infos, level)
    return _open_local(Path(_copied(main, infos)), files, level, allow_vrt=allow_vrt)


def _is_read_by_ranges(uri: str) -> bool:
    return bool(TIFF.search(uri)) and fetch.gives_ranges(uri)


def _open_remote(uri: str, infos: Sequence[FileInfo], level: int | None) -> rasterio.DatasetReader:
    """A large TIFF, whose first page is asked for once: for what it is, and for GDAL."""
    first = fetch.read_ranges(uri, [0], [PAGE_BYTES])[0]
    driver_of(first[:HEAD_BYTES], allow_vrt=False)
    opener = _Remote(infos, {uri: first})
    return _checked(rasterio.open(uri, driver="GTiff", opener=opener, sharing=False, **_at(level)))


def _at(level: int | None) -> dict[str, Any]:
    """What GDAL is told of it."""
    return {} if level is None else {"overview_level": level}


def _open_local(
    path: Path, files: Sequence[str], level: int | None, *, allow_vrt: bool
) -> rasterio.DatasetReader:
    driver = driver_of(local_head(path), allow_vrt=allow_vrt)
    check_beside(path, [file.rpartition("/")[2] for file in files])
    if driver == "VRT":
        check_vrt(path)
    return _checked(rasterio.open(str(path), driver=driver, sharing=False, **_at(level)))


def _open_member(uri: str, level: int | None) -> rasterio.DatasetReader:
    """A raster in an archive on a local disk; of what lies beside it there GDAL is shown nothing."""
    member = archives.find(uri)
    if member is None:
        raise FileNotFoundError(f"{uri} is gone")  # noqa: EM102
    try:
        driver = driver_of(archives.read(uri, 0, HEAD_BYTES), allow_vrt=False)
        path = archives.gdal_path(member)
    except archives.DamagedError as e:
        raise SourceError(str(e)) from e
    if driver not in IN_ARCHIVES:
        msg = f"it is a {driver}; in archives only GeoTIFF and JPEG 2000 are read"
        raise SourceError(msg)
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        dataset = _checked(rasterio.open(path, driver=driver, sharing=False, **_at(level)))
    dataset.member = member.name.rpartition("/")[2]  # for messages: GDAL's name says where its bytes lie
    return dataset


def _checked(dataset: rasterio.DatasetReader) -> rasterio.DatasetReader:
    """Before anybody asks for masks: GDAL then opens what the metadata name."""
    try:
        check_bands(dataset.count)
        check_elsewhere(dataset.tags(ns="OVERVIEWS"))
    except BaseException:
        dataset.close()
        raise
    return dataset


def storage_failure() -> str | None:
    """What a storage last failed to give, once; the pixels read since then are void.

    GDAL would call it a damaged file, or see zeros and say nothing.

    Raises:
        CredentialsError: it refused the credentials.
    """
    failure = _failures.seen[-1] if _failures.seen else None
    _failures.seen.clear()
    if isinstance(failure, CredentialsError):
        raise failure
    return None if failure is None else str(failure)


class _Failures(threading.local):
    """What storages failed to give a thread, which reads one source at a time."""

    def __init__(self) -> None:
        self.seen: list[Exception] = []


_failures = _Failures()


def _existing(uri: str) -> FileInfo:
    info = file_info(uri)
    if info is None:
        raise FileNotFoundError(f"{uri} is gone")  # noqa: EM102
    return replace(info, uri=uri)  # as it was asked for: a storage may spell it in another way


class _RemoteFile:
    """One file of a container, as GDAL reads it: by ranges, or in small pieces."""

    def __init__(self, info: FileInfo, failures: list[Exception], first: bytes = b"") -> None:
        self._uri, self._size, self._failures = info.uri, info.size or 0, failures
        self._position = 0
        self._pages: OrderedDict[int, bytes] = OrderedDict({0: first} if first else {})

    def get_byte_ranges(self, offsets: list[int], sizes: list[int]) -> list[bytes]:
        stops = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
        return self._read(list(offsets), stops)

    def _read(self, starts: list[int], stops: list[int]) -> list[bytes]:
        """Zeros where the storage fails: GDAL's callbacks must not raise. Whoever reads asks for failures."""
        try:
            return fetch.read_ranges(self._uri, starts, stops)
        except CredentialsError as e:
            self._failures.append(e)
            return [bytes(stop - start) for start, stop in zip(starts, stops, strict=True)]
        except OSError as e:
            self._failures.append(OSError(f"{self._uri.rsplit('/', 1)[-1]}: {e or type(e).__name__}"))
            return [bytes(stop - start) for start, stop in zip(starts, stops, strict=True)]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._position + size, self._size)
        start = self._position
        if stop <= start:
            return b""
        first, last = start // PAGE_BYTES, (stop - 1) // PAGE_BYTES
        data = self._span(first, last)
        self._position = stop
        return data[start - first * PAGE_BYTES : stop - first * PAGE_BYTES]

    def _span(self, first: int, last: int) -> bytes:
        """Pages first..last; those that are missing in one request."""
        missing = [page for page in range(first, last + 1) if page not in self._pages]
        if missing:
            start, stop = missing[0] * PAGE_BYTES, min((missing[-1] + 1) * PAGE_BYTES, self._size)
            failures = len(self._failures)
            data = self._read([start], [stop])[0]
            if len(self._failures) > failures:
                # Zeros in place of what the storage did not give: no pages to be kept.
                return bytes((last - first + 1) * PAGE_BYTES)
            for page in range(missing[0], missing[-1] + 1):
                at = (page - missing[0]) * PAGE_BYTES
                self._pages[page] = data[at : at + PAGE_BYTES]
        span = b"".join(self._pages[page] for page in range(first, last + 1))
        while len(self._pages) > PAGES_KEPT:
            self._pages.popitem(last=False)
        return span

    def close(self) -> None:
        self._pages.clear()

    def __enter__(self) -> "_RemoteFile":
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


class _Remote(MultiByteRangeResourceContainer):  # type: ignore[misc]  # rasterio is untyped
    """The files of one source; of some the first page is known."""

    def __init__(self, infos: Sequence[FileInfo], first: Mapping[str, bytes]) -> None:
        self._infos, self._first = {info.uri: info for info in infos}, first
        # Of the thread that opens it and reads it, whichever of GDAL's own threads asks for bytes.
        self._failures = _failures.seen

    def open(self, path: str, mode: str = "r", **_: Any) -> _RemoteFile:
        if path not in self._infos:
            raise FileNotFoundError(path)
        return _RemoteFile(self._infos[path], self._failures, self._first.get(path, b""))

    def isfile(self, path: str) -> bool:
        return path in self._infos

    def isdir(self, path: str) -> bool:
        return False

    def ls(self, path: str) -> list[str]:
        return [uri.rpartition("/")[2] for uri in self._infos]

    def mtime(self, path: str) -> int:
        return 0

    def rm(self, path: str) -> None:
        raise PermissionError(path)

    def size(self, path: str) -> int:
        return (self._infos[path].size or 0) if path in self._infos else 0


def _copied(main: FileInfo, infos: Sequence[FileInfo]) -> str:
    """Path of a local copy of a source's files, which processes of one machine share.

    The files lie as they do on the storage, so that relative references between them hold.
    """
    key = hashlib.sha256("\n".join(f"{i.uri}\t{i.size}\t{i.version}" for i in infos).encode()).hexdigest()[
        :24
    ]
    root = cache_root()
    folder = root / key
    with open_lock(root / f"{key}.lock") as lock:
        # The machine's other processes wait for this copy instead of fetching one each.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _make_room(root, sum(info.size or 0 for info in infos))
            making = root / f"{key}.making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(mode=0o700, exist_ok=True)
            storage.at_once(
                lambda info: fetch.fetch(info.uri, making / _relative(info.uri), info.size), infos, main.uri
            )
            making.rename(folder)
        os.utime(folder)  # when it was last used: the oldest go when room is made
    return str(folder / _relative(main.uri))


def _relative(uri: str) -> str:
    parts = re.sub(r"^\w+://", "", public(uri)).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def _make_room(root: Path, needed: int) -> None:
    held = []
    for folder in root.iterdir():
        with contextlib.suppress(OSError):
            if re.fullmatch("[0-9a-f]{24}", folder.name):
                size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
                held.append((folder.stat().st_mtime, size, folder))
    total = needed + sum(size for _, size, _ in held)
    for _, size, folder in sorted(held):
        if total <= CACHE_BYTES:
            break
        shutil.rmtree(folder, ignore_errors=True)
        total -= size
