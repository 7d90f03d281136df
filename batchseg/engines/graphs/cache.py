"""Folders of derived files, found again by what they were derived from, on the local disk.

    <root>/<key>/...            the files
    <root>/<key>/entry.json     their sizes and digests, written last; its mtime is the last use
    <root>/<key>.lock           held while the entry is checked or made

Entries are made under another name and renamed, so that a key's folder is whole or absent.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from batchseg.errors import ModelError, StoppedError
from batchseg.system.disks import describe, full_disk, is_failing
from batchseg.system.json_text import parse_json
from batchseg.system.private_folder import (
    NotPrivateError,
    is_private,
    open_lock,
    others_can_replace,
    own_folder,
    private_folder,
)
from batchseg.system.temp_folders import machine_root, user_home

ROOT_VARIABLE = "BATCHSEG_MODEL_CACHE"
"""Environment: the folder, in place of the user's cache folder."""

BYTES_VARIABLE = "BATCHSEG_MODEL_CACHE_BYTES"
"""Environment: how much may lie in it."""

DEFAULT_BYTES = 4 * 2**30
IN_USE_SECONDS = 3600.0
"""An entry used since then is not removed: a process may be about to load it."""

ENTRY = "entry.json"


def cache_key(parts: Mapping[str, Any]) -> str:
    """A name for what follows from `parts`, which must be all that decides it."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def cached_folder(key: str, make: Callable[[Path], None], *, root: Path | None = None) -> Path:
    """The folder of that key, made by `make(folder)` unless it is there and undamaged.

    Processes that ask at the same time wait for the first. What `make` raises leaves nothing behind.

    Raises:
        ModelError: the folder named by BATCHSEG_MODEL_CACHE cannot be written, or others can write to it;
            or what they put there once cannot be removed.
        StoppedError: its disk is full or failing, or a lock in it is not this user's.
    """
    root = root or cache_root()
    try:
        return _made(key, make, root)
    except OSError as e:
        if not is_failing(e):
            raise
        msg = f"cannot write {root}, where derived models are kept ({ROOT_VARIABLE}): {describe(e, root)}"
        raise StoppedError(msg) from e


def kept_folder(key: str, *, root: Path | None = None) -> Path | None:
    """The folder of that key if it was made and is undamaged; nothing is made.

    Raises:
        ModelError: as `cached_folder`.
    """
    folder = (root or cache_root()) / key
    if not _is_sound(folder):
        return None
    with contextlib.suppress(OSError):
        os.utime(folder / ENTRY)
    return folder


def forget_folder(key: str, *, root: Path | None = None) -> None:
    """Remove the folder of that key, if there is one.

    Raises:
        ModelError: as `cached_folder`.
        StoppedError: likewise.
    """
    root = root or cache_root()
    with _held(root / f"{key}.lock"):
        shutil.rmtree(root / key, ignore_errors=True)


def _made(key: str, make: Callable[[Path], None], root: Path) -> Path:
    folder = root / key
    with _held(root / f"{key}.lock"):
        if _is_sound(folder):
            with contextlib.suppress(OSError):
                os.utime(folder / ENTRY)
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        making = root / f".making-{uuid.uuid4().hex}"
        making.mkdir(mode=0o700)
        try:
            try:
                make(making)
            finally:
                # Paddle does not notice a full disk: a network that is cut off would be used ever after.
                if full_disk(making):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(making))
            (making / ENTRY).write_text(json.dumps(_files(making), indent=1))
            _rename(making, folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    prune(root)
    return folder


def engine_folder(name: str) -> Path:
    """A folder of the cache that an engine fills by itself, made where there is none.

    Raises:
        ModelError: as `cache_root`; or another user's folder of that name cannot be removed.
        OSError: it cannot be made.
    """
    folder = cache_root() / name
    if not is_private(folder):
        shutil.rmtree(folder, ignore_errors=True)  # of a time when others could write to it
    try:
        return private_folder(folder)
    except NotPrivateError as e:
        raise _in_the_way(folder, str(e.strerror)) from e


def cache_root() -> Path:
    """BATCHSEG_MODEL_CACHE; the user's cache folder; where that is not the user's alone, one below /tmp.

    A network that another user put in would be run.

    Raises:
        ModelError: the folder named by BATCHSEG_MODEL_CACHE cannot be written, or others can write to it.
        StoppedError: the machine's temporary folder has none that is this user's alone.
    """
    named = os.environ.get(ROOT_VARIABLE)
    if named:
        return _named(named)
    home = user_home()
    above = os.environ.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else None)
    if above:
        with contextlib.suppress(OSError):
            folder = private_folder(Path(above) / "batchseg")
            if not others_can_replace(folder):
                return folder
    return own_folder(machine_root(), "batchseg-models")


def _named(folder: str) -> Path:
    try:
        return private_folder(Path(folder))
    except NotPrivateError as e:
        msg = (
            f"{ROOT_VARIABLE}: {folder} {e.strerror}, and models that others put there would be run; name "
            f"a folder that does not exist, which is made, or one that only you can write to (chmod go-w)"
        )
        raise ModelError(msg) from e
    except OSError as e:
        msg = f"{ROOT_VARIABLE}: {folder} cannot be written; derived models are kept there"
        raise ModelError(msg) from e


def prune(root: Path, *, limit: int | None = None, in_use_seconds: float = IN_USE_SECONDS) -> None:
    """Remove the least recently used entries until the rest holds `limit` bytes.

    Args:
        root: the cache.
        limit: bytes; None: BATCHSEG_MODEL_CACHE_BYTES, or 4 GiB.
        in_use_seconds: younger uses keep an entry whatever the limit.
    """
    limit = int(os.environ.get(BYTES_VARIABLE, DEFAULT_BYTES)) if limit is None else limit
    now = time.time()
    for left in root.glob(".making-*"):
        with contextlib.suppress(OSError):
            if now - left.stat().st_mtime > in_use_seconds:
                shutil.rmtree(left, ignore_errors=True)
    entries = []
    for path in root.glob(f"*/{ENTRY}"):
        with contextlib.suppress(OSError):
            size = sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file())
            entries.append((path.stat().st_mtime, size, path.parent))
    total = sum(size for _, size, _ in entries)
    for used, size, folder in sorted(entries):
        if total <= limit or now - used <= in_use_seconds:
            return  # the others were used later still
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)
        total -= size


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    with open_lock(path) as lock:
        # A file system without locks: two may make the same entry, and the second is dropped.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _rename(making: Path, folder: Path) -> None:
    try:
        making.rename(folder)
    except OSError as e:
        if _is_sound(folder):
            return
        if e.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EPERM, errno.EACCES):
            raise _in_the_way(folder, "cannot be replaced") from e
        raise


def _in_the_way(folder: Path, found: str) -> ModelError:
    """What others put into a cache while they could, its owner may be unable to remove."""
    msg = f"{folder} {found}; expected what batchseg itself keeps there: have it removed, or name another "
    return ModelError(f"{msg}folder in {ROOT_VARIABLE}")


def _files(folder: Path) -> dict[str, list[Any]]:
    """Size and sha256 of each file, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ENTRY)
    return {str(path.relative_to(folder)): [path.stat().st_size, _sha256(path)] for path in paths}


def _is_sound(folder: Path) -> bool:
    """Whether an entry is whole, and nobody else can have written it."""
    try:
        recorded = parse_json((folder / ENTRY).read_text())
        return is_private(folder) and bool(recorded) and bool(recorded == _files(folder))
    except (OSError, ValueError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
