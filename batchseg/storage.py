"""Bytes by URI: listing, versions, atomic publishing. The only module that uses fsspec.

On a local disk a file is published by writing beside it, fsync and rename; on an object store by one
PUT, which is atomic by itself. Readers never see half a file.
"""

import contextlib
import datetime as dt
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from batchseg.errors import ConfigError, OutputError, SourceIOError


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    uri: str
    size: int
    """Bytes."""
    version: str
    """ETag, or modification time: changes when the content is written again."""
    modified: float | None = None
    """Seconds since 1970; None where the storage does not say."""


WILDCARDS = "*?["


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a URI and the path within it."""
    fs, path = fsspec.core.url_to_fs(uri)
    return fs, str(path)


def local_path(uri: str) -> Path | None:
    """The path of a local URI, else None."""
    if "://" in uri and not uri.startswith("file://"):
        return None
    return Path(uri.removeprefix("file://"))


def join(root: str, *parts: str) -> str:
    return "/".join((root.rstrip("/"), *parts))


def list_files(pattern: str) -> Iterator[FileInfo]:
    """Regular files that match a path, a folder (all below it) or a glob, sorted by URI.

    A path that exists is that path, whatever characters its name holds. FIFOs, sockets and devices are
    left out: opening one can block for ever.

    Raises:
        SourceIOError: the storage could not be listed.
    """
    fs, path = filesystem(pattern)
    try:
        if fs.isdir(path):
            found = fs.find(path, detail=True)
        elif fs.exists(path):
            found = {path: fs.info(path)}
        else:
            found = fs.glob(path, detail=True) if any(c in path for c in WILDCARDS) else {}
    except OSError as e:
        msg = f"cannot list {pattern}: {e}"
        raise SourceIOError(msg) from e
    for name in sorted(found):
        info = found[name]
        if info["type"] == "file" or (info.get("islink") and _is_regular(name)):
            yield _file_info(fs, name, info)


def is_glob(uri: str) -> bool:
    """Whether a path is a pattern: it has wildcards, and nothing of that very name exists."""
    fs, path = filesystem(uri)
    return any(c in path for c in WILDCARDS) and not fs.exists(path)


def list_folder(folder: str) -> Iterator[FileInfo]:
    """Regular files directly in a folder; none where there is no such folder. Raises SourceIOError."""
    fs, path = filesystem(folder)
    try:
        entries = fs.ls(path, detail=True)
    except FileNotFoundError:
        return
    except OSError as e:
        msg = f"cannot list {folder}: {e}"
        raise SourceIOError(msg) from e
    for info in entries:
        if info["type"] == "file" or (info.get("islink") and _is_regular(info["name"])):
            yield _file_info(fs, info["name"], info)


def is_folder(uri: str) -> bool:
    fs, path = filesystem(uri)
    return bool(fs.isdir(path))


def file_info(uri: str) -> FileInfo | None:
    """Size and version of one file; None where there is none.

    Raises:
        SourceIOError: the storage did not answer, or denies access.
    """
    fs, path = filesystem(uri)
    # A listing cached by fsspec would hide that a file changed.
    fs.invalidate_cache()
    try:
        info = fs.info(path)
    except FileNotFoundError:
        return None
    except OSError as e:
        msg = f"cannot look at {uri}: {e}"
        raise SourceIOError(msg) from e
    return _file_info(fs, path, info) if info["type"] == "file" or _is_regular(path) else None


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except OSError:
        return False


def _file_info(fs: Any, name: str, info: dict[str, Any]) -> FileInfo:
    uri = fs.unstrip_protocol(name).removeprefix("file://")
    if info.get("islink"):
        target = Path(name).stat()  # what counts is what the link points at
        return FileInfo(uri=uri, size=target.st_size, version=str(target.st_mtime), modified=target.st_mtime)
    version = next((str(info[k]) for k in ("ETag", "etag", "mtime", "LastModified") if info.get(k)), "")
    return FileInfo(uri=uri, size=info["size"] or 0, version=version, modified=_modified(info))


def _modified(info: dict[str, Any]) -> float | None:
    """Local disks say `mtime`, S3 `LastModified`, Azure `last_modified`, Google and memory others."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "modified", "created"):
        value = info.get(key)
        with contextlib.suppress(ValueError):
            if isinstance(value, str):
                value = dt.datetime.fromisoformat(value)
        if isinstance(value, dt.datetime):
            return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).timestamp()
        if isinstance(value, float | int):
            return float(value)
    return None


def digest_of(infos: list[FileInfo]) -> str:
    """Source tag: a digest of names, sizes and versions. Content is not read."""
    lines = sorted(f"{info.uri.rsplit('/', 1)[-1]}\t{info.size}\t{info.version}" for info in infos)
    # Names that are not UTF-8 come from the file system as lone surrogates.
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def read_bytes(uri: str) -> bytes:
    """Raises OSError where the file cannot be read."""
    fs, path = filesystem(uri)
    data: bytes = fs.cat_file(path)
    return data


def read_tail(uri: str, count: int) -> bytes:
    """The last `count` bytes of a file. Raises OSError."""
    fs, path = filesystem(uri)
    data: bytes = fs.tail(path, count)
    return data


@contextlib.contextmanager
def _output_errors(verb: str, uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        msg = f"cannot {verb} {uri}: {e.strerror or e}"
        raise OutputError(msg) from e


def check_writable(folder: str) -> None:
    """Raise ConfigError where a local folder could not be written or made; writes nothing."""
    path = local_path(folder)
    if path is None:
        return
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        what = "is not a folder" if not existing.is_dir() else "cannot be written"
        msg = f"output: {folder}: {existing} {what}; check the path and its permissions"
        raise ConfigError(msg)


def publish(uri: str, data: bytes, *, durable: bool = True) -> None:
    """Write a whole file atomically, replacing what was there.

    Args:
        uri: where.
        data: what.
        durable: wait until a local disk has it. Without, a power cut may leave a shorter file.

    Raises:
        OutputError: it cannot be written.
    """
    with _output_errors("write", uri):
        target = local_path(uri)
        if target is None:
            fs, path = filesystem(uri)
            fs.pipe_file(path, data)
            return
        with _beside(target) as temporary:
            temporary.write_bytes(data)
            if durable:
                _sync(temporary)
            temporary.replace(target)


def publish_file(local: Path, uri: str) -> None:
    """Move a finished local file to its place atomically. Raises OutputError."""
    with _output_errors("write", uri):
        target = local_path(uri)
        if target is None:
            fs, path = filesystem(uri)
            fs.put_file(str(local), path)
            local.unlink()
            return
        _sync(local)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            local.replace(target)
        except OSError as e:
            if e.errno != 18:  # EXDEV: the scratch folder lies on another file system
                raise
            with _beside(target) as temporary:
                shutil.copyfile(local, temporary)
                _sync(temporary)
                temporary.replace(target)
            local.unlink()


def create(uri: str, data: bytes) -> bool:
    """Write a file only if it is absent; False where another one is there. Raises OutputError."""
    with _output_errors("create", uri):
        target = local_path(uri)
        if target is None:
            fs, path = filesystem(uri)
            try:
                fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            return True
        with _beside(target) as temporary:
            temporary.write_bytes(data)
            _sync(temporary)
            try:
                os.link(temporary, target)  # fails if the name exists, which rename does not
            except FileExistsError:
                return False
            return True


def remove(uri: str) -> None:
    """Delete a file or a folder with all in it; nothing there is no error. Raises OutputError."""
    with _output_errors("remove", uri):
        fs, path = filesystem(uri)
        with contextlib.suppress(FileNotFoundError):
            fs.rm(path, recursive=True)


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A temporary name in the target's folder, on the same file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not in the name: the target's own, which may be as long as the file system allows.
    temporary = target.parent / f".tmp-{uuid.uuid4().hex}"
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb") as f:
        os.fsync(f.fileno())
