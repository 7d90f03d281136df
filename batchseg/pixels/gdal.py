"""GDAL as batchseg asks it: its settings, and its errors in words that say whose fault they are."""

import contextlib
import re
import time
import warnings
from collections.abc import Iterator

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from batchseg.errors import SourceError, SourceIOError, StoppedError
from batchseg.inputs.source import Source
from batchseg.pixels.open import RAW_BLOCK_BYTES, storage_failure
from batchseg.pixels.stack import FileError
from batchseg.system import archives, fetch
from batchseg.system.disks import describe, is_full
from batchseg.system.file_info import file_info
from batchseg.system.location import Location
from batchseg.system.temp_folders import cache_root

BLOCK_CACHE_BYTES = 96 * 2**20
"""Of decoded blocks; GDAL's default is 5 % of the machine's memory in every process."""

GDAL_OPTIONS = {
    "GDAL_CACHEMAX": BLOCK_CACHE_BYTES,
    "GDAL_NUM_THREADS": 1,
    "GDAL_MAX_RAW_BLOCK_CACHE_SIZE": RAW_BLOCK_BYTES,
    # Of a JPEG that is cut off libjpeg makes up the rest, and warns.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",
    # A VRT may name files anywhere; none of them is fetched from the network behind the user's back.
    "GDAL_HTTP_MAX_RETRY": 0,
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
}


GONE = "the file is gone"


NOT_GIVEN = "the storage does not give the file"


READ_BYTES, READ_SECONDS = 8 * 2**20, 30.0
"""At a time, and at most, of a file in which something is damaged."""


UNDECODABLE = "damaged or cut off: pixels cannot be decoded"
"""How the reason begins of sources that are refused for it."""


@contextlib.contextmanager
def gdal() -> Iterator[None]:
    """GDAL's settings, and silence about rasters without georeference, which are welcome."""
    with rasterio.Env(**GDAL_OPTIONS), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def source_errors(doing: str, source: Source) -> Iterator[None]:
    """GDAL's errors in words: the innermost message, which names the block or the tag that is wrong."""
    storage_failure()  # of a read before
    try:
        yield
    except (FileError, RasterioError, rasterio._err.CPLE_BaseError, ValueError) as e:
        root: BaseException = e
        while root.__cause__ is not None:
            if isinstance(root, FileError):
                doing = f"{_part(source, root.uri)}{doing}"
            root = root.__cause__
        if isinstance(root, SourceError):  # it was not even opened
            msg = f"{_part(source, e.uri) if isinstance(e, FileError) else ''}{root}"
            raise SourceError(msg) from e
        text = getattr(root, "errmsg", None) or str(root) or type(root).__name__
        detail = re.sub(r" \(this error can be turned.*\)", "", text).rstrip(".")
        detail = re.sub(r"/vsi(subfile/\d+_\d+,|zip/)", "", detail)
        for uri in source.opened:
            detail = detail.replace(uri, uri.rsplit("/", 1)[-1])
        given = storage_failure()
        problem = f"{NOT_GIVEN}: {given}" if given else storage_problem(source)
        if problem:
            raise SourceIOError(problem) from e
        msg = f"{doing} (GDAL: {detail})"
        raise SourceError(msg) from e
    except FileNotFoundError as e:
        raise SourceIOError(GONE) from e
    except OSError as e:
        if is_full(e):  # reading needs no room: it is that of a copy
            msg = f"cannot copy {source.uri} to {e.filename or cache_root()}: {describe(e)}"
            raise StoppedError(msg) from e
        msg = f"{NOT_GIVEN}: {e.strerror or e}"
        raise SourceIOError(msg) from e
    if problem := storage_failure():
        msg = f"{NOT_GIVEN}: {problem}"
        raise SourceIOError(msg)


def _part(source: Source, uri: str) -> str:
    """Which file of a scene it is, in words that are the same for all scenes: the driver compares errors."""
    if source.mask is not None and uri == source.mask.uri and uri not in source.rasters:
        return "its file for the mask: "
    if len(source.rasters) < 2 or not source.names:
        return ""
    return f"its file for {source.names[source.rasters.index(uri)]}: "


def storage_problem(source: Source) -> str | None:
    """GDAL calls an unreadable file 'not recognized'; ask the storage itself whose fault it is."""
    try:
        for uri in source.opened:
            if file_info(uri) is None:
                return GONE
            fetch.read_tail(uri, 1)
    except archives.DamagedError:
        return None  # the storage gives the archive
    except (OSError, SourceIOError) as e:
        return f"{NOT_GIVEN}: {getattr(e, 'strerror', None) or e}"
    return None


def check_bytes(source: Source) -> None:
    """Read a source's local rasters through, as far as READ_SECONDS go: GDAL calls a disk that fails damage.

    Of other storages each reply was looked at when it came.

    Raises:
        SourceIOError: the storage does not give them.
    """
    until = time.monotonic() + READ_SECONDS
    for uri in source.opened:
        found = archives.find(uri) if archives.is_member(uri) else None
        if (path := Location.of(found.archive if found else uri).path) is None:
            continue
        try:
            with path.open("rb", buffering=0) as file:
                while time.monotonic() < until and file.read(READ_BYTES):
                    pass
        except OSError as e:
            msg = f"{NOT_GIVEN}: {e.strerror or e}"
            raise SourceIOError(msg) from e


def is_damage(source: Source) -> bool:
    """Whether a read that failed is the content's fault: the storage still gives the file.

    Raises:
        SourceIOError: it failed in that very read.
    """
    if problem := storage_failure():
        msg = f"{NOT_GIVEN}: {problem}"
        raise SourceIOError(msg)
    return storage_problem(source) is None
