"""Small disks for trials: tmpfs of a size, in a mount namespace of this process and of what it starts."""

import contextlib
import ctypes
import os
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWNS = 0x00020000


class Disk:
    """A mounted tmpfs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._covered = False

    @property
    def used(self) -> int:
        """Bytes."""
        found = os.statvfs(self.folder)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    @property
    def files(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_files - found.f_ffree

    def remount(self, options: str) -> None:
        """Such as `size=64k`, `ro`, `rw`; a size below what is used is refused by the kernel."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)

    def turn_read_only(self) -> None:
        """As a disk does after errors. The kernel refuses a remount while a file is open for writing, such
        as a log: a read-only mount of the same disk over it is what all see that opens files from now on."""
        subprocess.run(["mount", "--bind", str(self.folder), str(self.folder)], check=True)
        self._covered = True
        subprocess.run(["mount", "-o", "remount,bind,ro", str(self.folder)], check=True)

    def make_room(self) -> None:
        if self._covered:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
            self._covered = False
        self.remount("rw,size=2g,nr_inodes=1m")


def why_not() -> str:
    """Why no disks can be mounted here; empty where they can."""
    if os.geteuid() != 0:
        return "small disks are mounted by root only"
    try:
        own_namespace()
    except OSError as e:
        return f"no mount namespace of our own: {e.strerror}"
    done = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True
    )
    return done.stderr.strip()


def own_namespace() -> None:
    """Mounts made from now on are seen by this thread and what it starts alone, and end with them.

    Raises:
        OSError: the kernel does not allow it.
    """
    if getattr(_entered, "done", False):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    _entered.done = True


_entered = threading.local()


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Disk]:
    """A tmpfs over a folder, which is made: `size=300k`, `nr_inodes=40`, `ro`."""
    own_namespace()
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=0755,{options}", "none", str(folder)], check=True)
    disk = Disk(folder)
    try:
        yield disk
    finally:
        if disk._covered:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def between(chance: random.Random, low: int, high: int) -> int:
    """At random on a logarithmic scale: little room as likely as much."""
    return round(low * (high / low) ** chance.random())
