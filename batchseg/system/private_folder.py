"""Folders and locks that no other user can have prepared.

In /tmp, and wherever else several users write, anybody can make a folder, a file or a link of any name before
batchseg does. What lies in such a folder would pass for ours, and what is opened through such a link is
another file. So a folder is looked at through a descriptor before anything in it is used, a lock before it
counts as one, and neither is opened through a link.

What was looked at stays what it is where no other user can rename it: in a folder of this user's or root's
that others cannot write to, or that has the sticky bit, as /tmp has.
"""

import contextlib
import errno
import grp
import itertools
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from batchseg.errors import StoppedError

NOT_A_LOCK = {
    errno.ELOOP: "is a link",
    errno.EISDIR: "is a folder",
    errno.ENXIO: "is a socket",
    errno.EACCES: "cannot be opened",
}


class NotPrivateError(PermissionError):
    """A folder that is another user's or that others can write to; `strerror` says what was found."""


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A descriptor of a folder that this user alone can have filled, for `dir_fd`.

    Raises:
        NotPrivateError: another user can have, or it is no folder, or a link to one.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as e:
        if e.errno in (errno.ELOOP, errno.ENOTDIR):
            found = "is a link" if folder.is_symlink() else "is no folder"
            raise NotPrivateError(errno.EACCES, found, str(folder)) from e
        raise
    try:
        if (others := _others(descriptor)) is not None:
            raise NotPrivateError(errno.EACCES, others, str(folder))
        yield descriptor
    finally:
        os.close(descriptor)


def is_private(folder: Path) -> bool:
    """Whether it is a folder, no link, and this user alone can have filled it."""
    with contextlib.suppress(OSError), opened(folder):
        return True
    return False


def private_folder(folder: Path) -> Path:
    """A folder that this user named, made where there is none.

    A link is followed if it is the user's own or root's: people move their caches to other disks, and
    systemd makes such links.

    Returns:
        The folder, or what the link leads to.

    Raises:
        NotPrivateError: another user can have filled it.
        OSError: it cannot be made or written to.
    """
    with contextlib.suppress(FileNotFoundError):
        found = folder.lstat()
        if stat.S_ISLNK(found.st_mode) and found.st_uid in (0, os.geteuid()):
            folder = folder.resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with opened(folder):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    return folder


def own_folder(root: Path, name: str) -> Path:
    """The folder `name-UID` of a folder that all users share, made where there is none.

    Where another user was first, it is one whose name nobody can foresee; later calls find that again.

    Raises:
        StoppedError: what is made there is not private.
        OSError: none can be made.
    """
    usual = root / f"{name}-{os.geteuid()}"
    with contextlib.suppress(OSError):
        usual.mkdir(mode=0o700)
    others = (folder for folder in sorted(root.glob(f"{usual.name}-*")))
    for folder in itertools.chain([usual], others):
        if is_private(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return new_folder(f"{usual.name}-", root=root)


def new_folder(prefix: str, *, root: Path) -> Path:
    """A new folder, private, whose name nobody can foresee.

    Raises:
        StoppedError: the disk does not keep owners or modes, or another user replaced the folder.
        OSError: it cannot be made.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    try:
        with opened(folder):
            pass
    except NotPrivateError as e:
        with contextlib.suppress(OSError):
            folder.rmdir()
        msg = (
            f"{folder}, which was just made, {e.strerror}; expected a folder that this user alone can write "
            f"to: name another temporary folder in TMPDIR, on a disk that keeps owners and modes"
        )
        raise StoppedError(msg) from e
    except FileNotFoundError:
        pass  # whoever holds it with a lock finds out
    return folder


def others_can_replace(folder: Path) -> bool:
    """Whether another user can put something else in the place of a folder that is private.

    The group of the folder above does not count: on many systems it is this user's alone.
    """
    above = folder.absolute().parent.stat()
    is_free = above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX
    return bool(is_free) or above.st_uid not in (0, os.geteuid())


def open_lock(path: Path, *, at: int | None = None) -> BinaryIO:
    """A file to be locked, made where there is none; nothing is written to it.

    Args:
        path: of the file.
        at: a descriptor of the folder that it lies in.

    Raises:
        StoppedError: it is a link, or another name of some file, or no file of this user's.
        OSError: it cannot be opened.
    """
    # O_NONBLOCK: a pipe would wait for its other end.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path if at is None else path.name, flags, 0o600, dir_fd=at)
    except OSError as e:
        if e.errno not in NOT_A_LOCK:
            raise
        raise _no_lock(path, NOT_A_LOCK[e.errno]) from e
    found = os.fstat(descriptor)
    what = None if stat.S_ISREG(found.st_mode) else "is no file"
    what = what or (f"is one of {found.st_nlink} names of a file" if found.st_nlink > 1 else None)
    what = what or (f"belongs to {_name(found.st_uid)}" if found.st_uid != os.geteuid() else None)
    if what is not None:
        os.close(descriptor)
        raise _no_lock(path, what)
    if stat.S_IMODE(found.st_mode) != 0o600:
        os.fchmod(descriptor, 0o600)  # whoever can read a file can lock it, for ever
    return os.fdopen(descriptor, "r+b", buffering=0)


def _no_lock(path: Path, what: str) -> StoppedError:
    msg = f"the lock {path} {what}; expected a file of this user's, with one name: remove it"
    return StoppedError(f"{msg} and run the same command again")


def _others(descriptor: int) -> str | None:
    """Who else can have filled a folder; None: nobody."""
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        return f"belongs to {_name(found.st_uid)}"
    is_free = found.st_mode & stat.S_IWGRP and (_has_acl(descriptor) or not _is_own_group(found.st_gid))
    if is_free or found.st_mode & stat.S_IWOTH:
        return f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
    return None


def _is_own_group(gid: int) -> bool:
    """Whether it is this user's primary group, and nobody else's: many systems make one for each user."""
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    is_shared = set(group.gr_mem) - {user.pw_name} or any(
        other.pw_gid == gid and other.pw_uid != user.pw_uid for other in pwd.getpwall()
    )
    # A directory may not list its users, so that the name has to say it, too.
    return user.pw_gid == gid and group.gr_name == user.pw_name and not is_shared


def _has_acl(descriptor: int) -> bool:
    """Whether further users are named for a folder: the group's bits are then those of all of them."""
    try:
        return "system.posix_acl_access" in os.listxattr(descriptor)
    except OSError as e:
        return e.errno not in (errno.ENOTSUP, errno.ENOSYS)


def _name(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return f"user {pwd.getpwuid(uid).pw_name}"
    return f"user {uid}"
