"""What a disk of this machine says when it fails.

No source is to blame for it, and the same command goes on once the disk is mended.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from batchseg.errors import StoppedError

FULL = (errno.ENOSPC, errno.EDQUOT)
FAILING = (*FULL, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV)
"""Errors of writing that say nothing about the job. Permissions and paths are the job's."""

REMEDIES = {
    errno.ENOSPC: "make room there and run the same command again",
    errno.EDQUOT: "raise the quota or make room there, and run the same command again",
    errno.EROFS: "make it writable and run the same command again",
    errno.EACCES: "mend the permissions and run the same command again",
}

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  its room is asked for; nothing is made there by name

LITTLE_BYTES, FEW_FILES, USED_BYTES = 2**20, 16, 4 * 2**20
"""A disk that has less is taken for full: a program that was refused its space has often given some back."""


def is_full(error: BaseException) -> bool:
    """Whether an operation failed for want of space, files or quota."""
    return isinstance(error, OSError) and error.errno in FULL


def is_failing(error: BaseException) -> bool:
    """Whether an operation failed by a disk's state, which the same command survives once that is mended."""
    return isinstance(error, OSError) and error.errno in FAILING


def describe(error: OSError, path: object = None) -> str:
    """An error in words, with what is left of the disk and what to do.

    Args:
        error: of a disk, or any other.
        path: what was written, where the error does not say it: that of a write to an open file does not.
    """
    said = str(error.strerror or error)
    if is_full(error):
        place = _existing(path or error.filename)
        left = [state] if place and (state := full_disk(place)) else full_disks()
        said += f" ({'; '.join(left)})" if left else ""
    remedy = REMEDIES.get(error.errno or 0)
    return f"{said}; {remedy}" if remedy else said


def full_disk(folder: Path) -> str | None:
    """What is left of a folder's disk, where that is next to nothing; else None."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    free, whole = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    if free < LITTLE_BYTES:
        return f"{folder}: {_size(free)} of {_size(whole)} free"
    if found.f_files and found.f_favail < FEW_FILES:
        return f"{folder}: {found.f_favail} of {found.f_files} files (inodes) free"
    return None


def full_disks() -> list[str]:
    """Of the places where a run keeps what passes: the temporary folder and shared memory.

    One that never has room, as containers without shared memory have it, is none of them.
    """
    places = (Path(tempfile.gettempdir()), SHARED_MEMORY)
    return [state for place in places if _whole(place) >= USED_BYTES and (state := full_disk(place))]


def _whole(folder: Path) -> int:
    with contextlib.suppress(OSError):
        found = os.statvfs(folder)
        return found.f_blocks * found.f_frsize
    return 0


def free_bytes(folder: Path) -> int:
    """What one may still write there. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def check_room(folder: Path, who: str, *, nbytes: int, files: int) -> None:
    """Raises StoppedError where a folder's disk has less."""
    found = os.statvfs(folder)
    free, free_files = found.f_bavail * found.f_frsize, found.f_favail if found.f_files else files
    if free < nbytes or free_files < files:
        msg = (
            f"{who} cannot work in {folder}: {_size(free)} and {free_files} files (inodes) are free, it "
            f"needs {_size(nbytes)} and {files} files; make room there, or name another folder in TMPDIR"
        )
        raise StoppedError(msg)


@contextlib.contextmanager
def disk_failures(doing: str) -> Iterator[None]:
    """A disk that fails, where nobody words it nearer to the place, stops the run.

    Raises:
        StoppedError: an operation failed by a disk's state.
    """
    try:
        yield
    except OSError as e:
        if not is_failing(e):
            raise
        where = f" ({e.filename})" if e.filename else ""
        msg = f"{doing}{where}: {describe(e)}"
        raise StoppedError(msg) from e


def _existing(path: object) -> Path | None:
    if not isinstance(path, str | bytes | os.PathLike):
        return None
    whole = Path(os.fsdecode(path)).absolute()
    return next((place for place in (whole, *whole.parents) if place.exists()), None)


def _size(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.1f} MiB"
