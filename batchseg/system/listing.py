"""What lies in a folder of any storage: files by pattern, below a folder, or directly in it."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from batchseg.errors import SourceIOError
from batchseg.system import rooted
from batchseg.system.file_info import (
    FileInfo,
    is_no_answer,
    is_regular,
    points_nowhere,
    to_file_info,
)
from batchseg.system.location import Location, join
from batchseg.system.retry import patiently
from batchseg.system.storage import as_os_error, filesystem

WILDCARDS = "*?["


class Selection:
    """What of the folders that a walk comes to is wanted: all of it, unless a subclass says less."""

    def sees(self, folder: str) -> None:
        """A folder lies in one that is walked, whether it is entered or not."""

    def sees_link(self, folder: str) -> None:
        """A link to a folder lies in one that is walked; such are not entered."""

    def enters(self, folder: str) -> bool:
        """Asked for each folder, the first one too, after all that lies beside it was seen."""
        return True

    def wants(self, folder: str, name: str) -> bool:
        """Asked for each file; what it declines is not looked at."""
        return True

    def passes(self, folder: str, name: str) -> None:
        """A file lies there that a glob does not match."""

    def is_closed(self, folder: str) -> None:
        """A folder is closed to this user, or files in it are: what lies there stays unknown."""


EVERYTHING = Selection()


def list_files(pattern: str) -> Iterator[FileInfo]:
    """Regular files that match a path, a folder (all below it) or a glob, sorted by URI.

    A path that exists is that path, whatever characters its name holds. FIFOs, sockets and devices are
    left out: opening one can block for ever. A link to nothing is listed, as a file that is absent: what it
    points at may lie on a volume that is not mounted.

    Raises:
        SourceIOError: the storage could not be listed.
    """
    try:
        with as_os_error():
            fs, path = filesystem(pattern)
            found = patiently(lambda: _found(fs, path))
    except OSError as e:
        msg = f"cannot list {pattern}: {e}"
        raise SourceIOError(msg) from e
    for name in sorted(found):
        info = found[name]
        if info["type"] == "file" or (info.get("islink") and (is_regular(name) or points_nowhere(name))):
            yield to_file_info(fs, name, info)


def _found(fs: Any, path: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]]
    if _is_remote_pattern(fs, path):
        # fsspec walks down a pattern without `**`, and leaves out folders whose listing fails.
        strictly = {"on_error": _raise_unless_absent} if "s3" in fs.protocol and "**" not in path else {}
        found = fs.glob(path, detail=True, **strictly)
    elif _is_web_file(path):
        try:
            found = {path: fs.info(path)}
        except FileNotFoundError as e:
            if is_no_answer(e.__cause__):
                raise OSError(str(e.__cause__)) from e
            found = {}
    elif fs.isdir(path):
        found = fs.find(path, detail=True)
    elif fs.exists(path):
        found = {path: fs.info(path)}
    else:
        found = fs.glob(path, detail=True) if any(c in path for c in WILDCARDS) else {}
    return found


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _is_web_file(uri: str) -> bool:
    """By its name: to see whether a URL is a folder, fsspec fetches all of it and looks for links."""
    return uri.startswith(("http://", "https://")) and "." in uri.rpartition("/")[2]


def _is_remote_pattern(fs: Any, path: str) -> bool:
    """In a bucket a wildcard is one: to ask whether something has that very name costs round trips."""
    return "file" not in fs.protocol and any(c in path for c in WILDCARDS)


def list_below(where: str | Location) -> list[FileInfo]:
    """Regular files below a folder, sorted; none where there is no such folder. Raises SourceIOError."""
    folder = Location.of(where)
    if folder.root is not None:
        return sorted(_walk_root(folder), key=lambda info: info.uri)
    try:
        with as_os_error():
            fs, path = filesystem(folder)
            found = patiently(lambda: fs.find(path, detail=True))
    except FileNotFoundError:
        return []
    except OSError as e:
        msg = f"cannot list {folder}: {e}"
        raise SourceIOError(msg) from e
    return [to_file_info(fs, name, found[name]) for name in sorted(found) if found[name]["type"] == "file"]


def is_glob(uri: str) -> bool:
    """Whether a path is a pattern: it has wildcards, and nothing of that very name exists."""
    fs, path = filesystem(uri)
    if _is_remote_pattern(fs, path):
        return True
    return any(c in path for c in WILDCARDS) and not fs.exists(path)


def list_folder(where: str | Location) -> Iterator[FileInfo]:
    """Regular files directly in a folder; none where there is no such folder. Raises SourceIOError."""
    folder = Location.of(where)
    if folder.root is not None:
        yield from (_info_of(folder, entry) for entry in _entries(folder) if not entry.is_folder)
        return
    try:
        with as_os_error():
            fs, path = filesystem(folder)
            entries = patiently(lambda: fs.ls(path, detail=True))
    except FileNotFoundError:
        return
    except OSError as e:
        msg = f"cannot list {folder}: {e}"
        raise SourceIOError(msg) from e
    for info in entries:
        if info["type"] == "file" or (info.get("islink") and is_regular(info["name"])):
            yield to_file_info(fs, info["name"], info)


def list_subfolders(where: str | Location) -> list[str]:
    """Folders directly in a folder; none where there is no such folder. Raises SourceIOError."""
    folder = Location.of(where)
    if folder.root is not None:
        return [join(folder.uri, entry.name) for entry in _entries(folder) if entry.is_folder]
    try:
        with as_os_error():
            fs, path = filesystem(folder)
            entries = patiently(lambda: fs.ls(path, detail=True))
    except FileNotFoundError:
        return []
    except OSError as e:
        msg = f"cannot list {folder}: {e}"
        raise SourceIOError(msg) from e
    names = (info["name"].rstrip("/") for info in entries if info["type"] == "directory")
    return [fs.unstrip_protocol(name).removeprefix("file://") for name in names]


def _walk_root(folder: Location) -> Iterator[FileInfo]:
    for entry in _entries(folder):
        if entry.is_folder:
            yield from _walk_root(folder.listed(entry.name))
        else:
            yield _info_of(folder, entry)


def _entries(folder: Location) -> list[rooted.Entry]:
    try:
        return rooted.entries(folder)
    except OSError as e:
        msg = f"cannot list {folder}: {e.strerror}"
        raise SourceIOError(msg) from e


def _info_of(folder: Location, entry: rooted.Entry) -> FileInfo:
    modified = entry.modified
    return FileInfo(
        uri=join(folder.uri, entry.name), size=entry.size, version=str(modified), modified=modified
    )


def is_folder(uri: str) -> bool:
    """Raises SourceIOError where the storage does not answer."""
    if _is_web_file(uri):
        return False
    try:
        with as_os_error():
            fs, path = filesystem(uri)
            return not _is_remote_pattern(fs, path) and bool(patiently(lambda: fs.isdir(path)))
    except OSError as e:
        msg = f"cannot look at {uri}: {e}"
        raise SourceIOError(msg) from e


def pages(folder: str, selection: Selection, *, deep: bool) -> Iterator[list[FileInfo]]:
    """What lies in a folder of an object store, or anywhere below it; nothing where there is no such one."""
    try:
        with as_os_error():
            fs, path = filesystem(folder)
            if "s3" in fs.protocol:
                yield from _s3_pages(fs, path, selection, deep=deep)
            else:
                yield from _folder_pages(fs, path, selection, deep=deep)
    except FileNotFoundError:
        return
    except OSError as e:
        msg = f"cannot list {folder}: {e}"
        raise SourceIOError(msg) from e


def _s3_pages(fs: Any, path: str, selection: Selection, *, deep: bool) -> Iterator[list[FileInfo]]:
    """s3fs itself holds a dict for every object of a listing until the last page."""
    bucket, _, key = path.partition("/")
    asked = {"Bucket": bucket, "Prefix": f"{key.rstrip('/')}/" if key else ""}
    if not deep:
        asked["Delimiter"] = "/"
    while True:
        answer = patiently(partial(fs.call_s3, "list_objects_v2", **asked))
        for below in answer.get("CommonPrefixes", ()):
            selection.sees(fs.unstrip_protocol(f"{bucket}/{below['Prefix'].rstrip('/')}"))
        objects = [entry for entry in answer.get("Contents", ()) if not entry["Key"].endswith("/")]
        yield [
            to_file_info(fs, f"{bucket}/{entry['Key']}", {**entry, "size": entry["Size"]})
            for entry in objects
        ]
        if not answer.get("IsTruncated"):
            return
        asked["ContinuationToken"] = answer["NextContinuationToken"]


def _folder_pages(fs: Any, path: str, selection: Selection, *, deep: bool) -> Iterator[list[FileInfo]]:
    pending = [path]
    while pending:
        folder = pending.pop()
        if folder != path and not selection.enters(fs.unstrip_protocol(folder)):
            continue
        try:
            entries = patiently(partial(fs.ls, folder, detail=True))
        except FileNotFoundError:
            continue
        below = [e["name"].rstrip("/") for e in entries if e["type"] == "directory"]
        for name in below:
            selection.sees(fs.unstrip_protocol(name))
        yield [to_file_info(fs, e["name"], e) for e in entries if e["type"] == "file"]
        if deep:
            pending += below
