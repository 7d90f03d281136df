"""Files below a folder that others may write to: reached part by part, and never through a link.

Every part of a path is opened in the folder that was opened before it. A check of names beforehand would
leave time to put a link in place of what was checked.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchseg.system.location import Location

_ENTER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LinkError(OSError):
    """A link lies where a file or folder of ours belongs."""


class NotOwnError(OSError):
    """A folder that was to be this user's alone is not."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a folder holds: a file or a folder, no link."""

    name: str
    is_folder: bool
    size: int
    modified: float
    """Seconds since 1970."""


@contextlib.contextmanager
def folder(place: Location, *, make: bool = False) -> Iterator[int]:
    """A folder as a descriptor that other calls take as `dir_fd`.

    Args:
        place: made by `Location.below`, or a root itself, which may be a link.
        make: it and those above it are made where they are missing.

    Raises:
        LinkError: one of its parts is a link.
        OSError: it is not there, or cannot be opened.
    """
    root = _root(place)
    if make:
        root.mkdir(parents=True, exist_ok=True)
    found = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        parts = _parts(place)
        for number, part in enumerate(parts):
            try:
                inner = _enter(found, part, make=make)
            except OSError as e:
                raise _named(e, found, part, "/".join((str(root), *parts[: number + 1]))) from e
            os.close(found)
            found = inner
        yield found
    finally:
        os.close(found)


@contextlib.contextmanager
def parent(place: Location, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """The folder of a file as a descriptor, and the file's name in it. Raises as `folder` does."""
    path = _path(place)
    above = Location(str(path.parent), path.parent, place.protocol, place.root)
    with folder(above, make=make) as found:
        yield found, path.name


def open_file(place: Location, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file.

    Args:
        place: made by `Location.below`.
        flags: of os.open; with O_CREAT the folders above it are made too.

    Raises:
        LinkError: the file or a folder above it is a link.
        OSError: it cannot be opened, or is no regular file.
    """
    with parent(place, make=bool(flags & os.O_CREAT)) as (above, name):
        # O_NONBLOCK: to open a FIFO would wait for somebody who writes.
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with _worded(above, name, str(place.path)):
            found = os.open(name, flags, 0o666, dir_fd=above)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(errno.EINVAL, f"{place.path} is no regular file", str(place.path))
    return found


def read_bytes(place: Location) -> bytes:
    """All of a file. Raises as `open_file` does."""
    with os.fdopen(open_file(place), "rb") as file:
        return file.read()


@contextlib.contextmanager
def native_path(place: Location) -> Iterator[str]:
    """A name of an open file for libraries that take nothing but names. Raises as `open_file` does."""
    found = open_file(place)
    try:
        yield f"/proc/self/fd/{found}"
    finally:
        os.close(found)


def look(place: Location) -> os.stat_result | None:
    """What the file system says of a file or folder; None where there is none. Raises as `folder` does."""
    try:
        with parent(place) as (above, name):
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    _refuse_link(found.st_mode, str(place.path))
    return found


def entries(place: Location) -> list[Entry]:
    """Files and folders directly in a folder, sorted by name; none where there is no such folder.

    Raises:
        LinkError: one of them is a link.
        OSError: the folder cannot be listed.
    """
    with contextlib.ExitStack() as stack:
        try:
            above = stack.enter_context(folder(place))
            listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=above)
        except FileNotFoundError:
            return []
        stack.callback(os.close, listed)
        found = []
        for name in sorted(os.listdir(listed)):  # noqa: PTH208  a descriptor has no path
            try:
                said = os.stat(name, dir_fd=listed, follow_symlinks=False)
            except FileNotFoundError:  # removed since
                continue
            _refuse_link(said.st_mode, f"{place.path}/{name}")
            if stat.S_ISDIR(said.st_mode) or stat.S_ISREG(said.st_mode):
                found.append(Entry(name, stat.S_ISDIR(said.st_mode), said.st_size, said.st_mtime))
        return found


def unlink(place: Location) -> None:
    """Delete a file; of a link the link itself. Raises as `folder` does."""
    with parent(place) as (above, name), _worded(above, name, str(place.path)):
        os.unlink(name, dir_fd=above)


def remove_tree(place: Location) -> None:
    """Delete a folder with all in it. Raises as `folder` does."""
    with parent(place) as (above, name), _worded(above, name, str(place.path)):
        shutil.rmtree(name, dir_fd=above)  # itself follows no link


@contextlib.contextmanager
def private_folder(place: Location) -> Iterator[Path]:
    """A new folder in another one, for this user alone, by a name that leads there whatever is moved.

    Raises:
        NotOwnError: what was opened is another user's: he put it in place of what was made, or the disk keeps
            no owners.
        OSError: it cannot be made.
    """
    with folder(place, make=True) as above:
        name = f"tmp-{secrets.token_hex(8)}"
        os.mkdir(name, 0o700, dir_fd=above)
        own = os.open(name, _ENTER, dir_fd=above)
        try:
            _check_own(own, f"{place.path}/{name}")
            yield Path(f"/proc/self/fd/{own}")
        finally:
            os.close(own)
            shutil.rmtree(name, ignore_errors=True, dir_fd=above)


def _check_own(descriptor: int, shown: str) -> None:
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        msg = f"{shown} is not this user's alone"
        raise NotOwnError(errno.EPERM, msg, shown)


def put_aside(place: Location, path: Path) -> None:
    """Give a file a second name in a folder of this user alone, where nobody puts another one in its place.

    Where the file system has no such names, or keeps them from others' files, it is copied.

    Raises:
        LinkError: it or a folder above it is a link.
        OSError: it cannot be read.
    """
    with parent(place) as (above, name), _worded(above, name, str(place.path)):
        try:
            os.link(name, path, src_dir_fd=above, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError:
            with os.fdopen(open_file(place), "rb") as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
    mode = path.lstat().st_mode
    _refuse_link(mode, str(place.path))


def with_true_names(text: str) -> str:
    """A library's words, with the paths that descriptors of this process stand for."""
    return re.sub(r"/proc/self/fd/\d+", _true_name, text)


def _true_name(found: re.Match[str]) -> str:
    try:
        return str(Path(found[0]).readlink())
    except OSError:
        return found[0]


def _path(place: Location) -> Path:
    if place.path is None:
        msg = f"{place} is on no disk of this machine"
        raise ValueError(msg)
    return place.path


def _root(place: Location) -> Path:
    return _path(place) if place.root is None else place.root


def _parts(place: Location) -> tuple[str, ...]:
    """Below the root."""
    return _path(place).parts[len(_root(place).parts) :]


def _enter(above: int, part: str, *, make: bool) -> int:
    try:
        return os.open(part, _ENTER, dir_fd=above)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, dir_fd=above)
    return os.open(part, _ENTER, dir_fd=above)


@contextlib.contextmanager
def _worded(above: int, name: str, shown: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise _named(e, above, name, shown) from e


def _named(error: OSError, above: int, name: str, shown: str) -> OSError:
    """The kernel calls a link a loop, or no folder, and names it by its last part."""
    with contextlib.suppress(FileNotFoundError):
        try:
            _refuse_link(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode, shown)
        except LinkError as e:
            return e
    return type(error)(error.errno, error.strerror, shown)


def _refuse_link(mode: int, shown: str) -> None:
    if stat.S_ISLNK(mode):
        msg = f"{shown} is a link, and none below an output is followed; put what it points at in its place"
        raise LinkError(errno.ELOOP, msg, shown)
