"""Bytes by URI: listing, versions, atomic publishing. The only module that uses fsspec.

On a local disk a file is published by writing beside it, fsync and rename; on an object store by one
PUT, which is atomic by itself. Readers never see half a file.
"""

import contextlib
import datetime as dt
import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from batchseg.errors import ConfigError, OutputError, SourceIOError

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


WILDCARDS = "*?["

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

REQUESTS = 16
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


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a URI and the path within it."""
    if local_path(uri) is not None:
        fs, path = fsspec.core.url_to_fs(uri)
    else:
        # A listing that fsspec remembers would hide that something changed.
        fs, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    return fs, str(path)


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Clients of object stores raise errors of their own, of no common class."""
    try:
        yield
    except (OSError, NotImplementedError):
        raise
    except Exception as e:
        raise OSError(f"{type(e).__name__}: {e}") from e  # noqa: EM102


def at_once(function: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """Results in the items' order, of requests made side by side."""
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(REQUESTS, len(items))) as pool:
        return list(pool.map(function, items))


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
        with _as_os_error():
            found = _found(fs, path)
    except OSError as e:
        msg = f"cannot list {pattern}: {e}"
        raise SourceIOError(msg) from e
    for name in sorted(found):
        info = found[name]
        if info["type"] == "file" or (info.get("islink") and _is_regular(name)):
            yield _file_info(fs, name, info)


def _found(fs: Any, path: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]]
    if fs.isdir(path):
        found = fs.find(path, detail=True)
    elif fs.exists(path):
        found = {path: fs.info(path)}
    else:
        found = fs.glob(path, detail=True) if any(c in path for c in WILDCARDS) else {}
    return found


def is_glob(uri: str) -> bool:
    """Whether a path is a pattern: it has wildcards, and nothing of that very name exists."""
    fs, path = filesystem(uri)
    return any(c in path for c in WILDCARDS) and not fs.exists(path)


def list_folder(folder: str) -> Iterator[FileInfo]:
    """Regular files directly in a folder; none where there is no such folder. Raises SourceIOError."""
    fs, path = filesystem(folder)
    try:
        with _as_os_error():
            entries = fs.ls(path, detail=True)
    except FileNotFoundError:
        return
    except OSError as e:
        msg = f"cannot list {folder}: {e}"
        raise SourceIOError(msg) from e
    for info in entries:
        if info["type"] == "file" or (info.get("islink") and _is_regular(info["name"])):
            yield _file_info(fs, info["name"], info)


def list_subfolders(folder: str) -> list[str]:
    """Folders directly in a folder; none where there is no such folder. Raises SourceIOError."""
    fs, path = filesystem(folder)
    try:
        with _as_os_error():
            entries = fs.ls(path, detail=True)
    except FileNotFoundError:
        return []
    except OSError as e:
        msg = f"cannot list {folder}: {e}"
        raise SourceIOError(msg) from e
    names = (info["name"].rstrip("/") for info in entries if info["type"] == "directory")
    return [fs.unstrip_protocol(name).removeprefix("file://") for name in names]


def is_folder(uri: str) -> bool:
    fs, path = filesystem(uri)
    return bool(fs.isdir(path))


def file_info(uri: str) -> FileInfo | None:
    """Size and version of one file; None where there is none.

    Raises:
        SourceIOError: the storage did not answer, or denies access.
    """
    fs, path = filesystem(uri)
    try:
        with _as_os_error():
            info = fs.info(path)
    except FileNotFoundError:
        return None
    except OSError as e:
        msg = f"cannot look at {uri}: {e}"
        raise SourceIOError(msg) from e
    return _file_info(fs, path, info) if info["type"] == "file" or _is_regular(path) else None


def file_infos(uris: Sequence[str]) -> dict[str, FileInfo | None]:
    """`file_info` of several files; of buckets side by side. Raises SourceIOError."""
    remote = any(local_path(uri) is None for uri in uris)
    found = at_once(file_info, uris) if remote else [file_info(uri) for uri in uris]
    return dict(zip(uris, found, strict=True))


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except OSError:
        return False


def _file_info(fs: Any, name: str, info: dict[str, Any]) -> FileInfo:
    uri = fs.unstrip_protocol(name).removeprefix("file://")
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
    """Source tag: a digest of names, sizes and versions. Content is not read."""
    lines = sorted(f"{info.uri.rsplit('/', 1)[-1]}\t{info.size}\t{info.version}" for info in infos)
    # Names that are not UTF-8 come from the file system as lone surrogates.
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def read_bytes(uri: str) -> bytes:
    """Raises OSError where the file cannot be read."""
    fs, path = filesystem(uri)
    with _as_os_error():
        data: bytes = fs.cat_file(path)
    return data


def read_many(uris: Sequence[str]) -> list[bytes]:
    """Whole files, requested side by side, in the order of `uris`. Raises OSError."""
    return at_once(read_bytes, uris)


def read_tail(uri: str, count: int) -> bytes:
    """The last `count` bytes of a file. Raises OSError."""
    fs, path = filesystem(uri)
    with _as_os_error():
        data: bytes = fs.tail(path, count)
    return data


def read_ranges(uri: str, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
    """Parts of a file, requested side by side.

    Raises:
        OSError: a part cannot be read, or is shorter than it must be.
    """
    fs, path = filesystem(uri)
    with _as_os_error():
        parts: list[bytes] = fs.cat_ranges([path] * len(starts), list(starts), list(stops), on_error="raise")
    for part, start, stop in zip(parts, starts, stops, strict=True):
        if len(part) != stop - start:
            msg = f"asked for {stop - start} bytes at {start} of {uri}, got {len(part)}"
            raise OSError(msg)
    return parts


def gives_ranges(uri: str) -> bool:
    """Whether parts of a file can be asked for: a plain web server may know only whole ones."""
    if not uri.startswith("http"):
        return True
    try:
        return len(read_ranges(uri, [1], [3])[0]) == 2
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
    with _as_os_error(), fs.open(remote, "rb", block_size=16 * 2**20, cache_type="readahead") as file:
        while piece := file.read(16 * 2**20):
            checksum.update(piece)
    return checksum.hexdigest()


def fetch(uri: str, target: Path) -> None:
    """Copy a file to the local disk. Raises OSError."""
    fs, path = filesystem(uri)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _as_os_error():
        fs.get_file(path, str(target))


@contextlib.contextmanager
def _output_errors(verb: str, uri: str) -> Iterator[None]:
    try:
        with _as_os_error():
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
    """Write a file only if it is absent; False where another one is there. Raises OutputError.

    The data must be unlike what anybody else would write there: a client sends a request again whose
    reply was lost, and is then told that the file exists. It is its own.
    """
    with _output_errors("create", uri):
        target = local_path(uri)
        if target is None:
            fs, path = filesystem(uri)
            try:
                fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return bool(read_bytes(uri) == data)
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


def remove_files(uris: Sequence[str]) -> None:
    """Delete files, in few requests. Raises OutputError."""
    if not uris:
        return
    with _output_errors("remove", uris[0]):
        fs, _ = filesystem(uris[0])
        paths = [filesystem(uri)[1] for uri in uris]
        if local_path(uris[0]) is None:
            with contextlib.suppress(FileNotFoundError):
                fs.rm(paths)
            return
        for path in paths:
            Path(path).unlink(missing_ok=True)


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
