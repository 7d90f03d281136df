"""Temporary folders that outlive nobody: each is held by a lock, and those of dead processes are removed."""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batchseg.errors import StoppedError
from batchseg.system.private_folder import is_private, new_folder, open_lock, opened, own_folder

CACHE_VARIABLE = "BATCHSEG_CACHE"
"""Environment: where copies of remote files go. Set by the run, inherited by all that it starts."""

RUN_PREFIX, RAY_PREFIX = "batchseg-run-", "bsray-"
DYING_SECONDS = 2.0
SOCKET_ROOT_LENGTH = 20
"""Characters. Sockets have paths of at most 107 bytes, of which Ray needs 70 below its folder."""


def held_folder(prefix: str, *, root: Path) -> tuple[Path, Any]:
    """A new folder and the open lock that holds it; folders of that prefix that nobody holds are removed.

    Raises:
        StoppedError: the root's disk does not keep owners and modes.
        OSError: the folder cannot be made.
    """
    remove_stale(prefix, root=root)
    while True:
        folder = new_folder(prefix, root=root)
        # Between these two lines another process may take the folder for a dead one's, and remove it: of
        # three processes that made 300 folders each, two met that.
        if (lock := _locked(folder, wait=True)) is not None:
            return folder, lock


def remove_stale(prefix: str, *, root: Path) -> None:
    """Remove this user's folders of that prefix that nobody holds."""
    for old in root.glob(f"{prefix}*"):
        if (lock := _locked(old, wait=False)) is not None:
            with lock:
                if prefix == RAY_PREFIX:
                    end_cluster(old)
                shutil.rmtree(old, ignore_errors=True)


def end_cluster(folder: Path) -> None:
    """End what is left of the Ray cluster of a folder, whose driver is gone or done.

    Two agents of a raylet live on for a minute where its GCS died with it (Ray 2.60), workers for a second
    or two: they call themselves `ray::...`, and have log files of the cluster open. Processes of one that
    did not start have the folder on their command lines.
    """
    victims = [process for process in Path("/proc").glob("[0-9]*") if _is_of_cluster(process, folder)]
    for process in victims:
        with contextlib.suppress(OSError):
            os.kill(int(process.name), signal.SIGKILL)
    until = time.monotonic() + DYING_SECONDS
    while time.monotonic() < until and any(_is_of_cluster(process, folder) for process in victims):
        time.sleep(0.02)  # or they write into a folder that is being removed


def _is_of_cluster(process: Path, folder: Path) -> bool:
    """Whether a living process of this user belongs to the Ray cluster of a folder."""
    with contextlib.suppress(OSError):
        if process.stat().st_uid == os.getuid():
            command = (process / "cmdline").read_bytes()
            is_of_ray = b"/ray/" in command and os.fsencode(folder) + b"/" in command
            return is_of_ray or (command.startswith(b"ray::") and _uses(process, folder))
    return False


def _uses(process: Path, folder: Path) -> bool:
    """Whether a process has a file below a folder open."""
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if descriptor.readlink().is_relative_to(folder):
                return True
    return False


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """A folder for all that one run keeps for a while, removed at its end, or by the next run.

    It is also the temporary folder, and where the user has no home the home, of this process and of
    those that it starts: Paddle and Ray write there, and a killed process cannot clean up.
    """
    root = machine_root()
    remove_stale(RAY_PREFIX, root=socket_root())
    folder, lock = held_folder(RUN_PREFIX, root=root)
    temporary = folder / "tmp"
    temporary.mkdir()
    home = user_home()
    if home is None:
        home = folder / "home"
        home.mkdir()
    names = {CACHE_VARIABLE: str(folder), "TMPDIR": str(temporary), "HOME": str(home)}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    tempfile.tempdir = None  # asks TMPDIR again
    try:
        yield folder
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        tempfile.tempdir = None
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def cache_root() -> Path:
    """Where this process keeps copies: the run's folder, or the machine's where the run is another's.

    Raises:
        StoppedError: the machine's temporary folder has none that is this user's alone.
        OSError: it cannot be made.
    """
    return _run_folder() or own_folder(machine_root(), "batchseg-cache")


def machine_root() -> Path:
    """The machine's temporary folder, which a run's processes see another one in place of."""
    folder = _run_folder()
    if folder is not None:
        return folder.parent
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as e:
        msg = f"{e.strerror}: make room in one of them, or name another in TMPDIR"
        raise StoppedError(msg) from e


def socket_root() -> Path:
    """The machine's temporary folder; /tmp where its path is too long for Ray's sockets."""
    root = machine_root()
    return root if len(str(root)) <= SOCKET_ROOT_LENGTH else Path("/tmp")  # noqa: S108  mkdtemp makes names


def user_home() -> Path | None:
    """The user's home folder, by HOME or else by the user database; None where there is none.

    Users of services often have one that does not exist, or the root of the file system.
    """
    folder = _run_folder()
    home = Path(os.environ.get("HOME") or _recorded_home())
    is_lent = folder is not None and home == folder / "home"
    is_there = home.is_dir() and os.access(home, os.R_OK | os.X_OK)
    return home if is_there and not is_lent and home.is_absolute() and home != Path("/") else None


def _recorded_home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""


def _run_folder() -> Path | None:
    """On another host of a cluster the name is another user's to take."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named and is_private(Path(named)) else None


def _locked(folder: Path, *, wait: bool) -> Any:
    """The folder's lock, held; None where another process holds it, or removed the folder meanwhile.

    Args:
        folder: one that is new, or any: others can make folders and links beside ours, and lead us to
            other files.
        wait: for a new one, until it is held.

    Raises:
        StoppedError, OSError: of a new one the lock cannot be made.
    """
    try:
        with opened(folder) as at:
            lock = open_lock(folder / "lock", at=at)
            with contextlib.suppress(OSError):
                with contextlib.suppress(OSError) if wait else contextlib.nullcontext():
                    # A disk without locks: a new folder is used nevertheless, and an old one never removed.
                    fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                if os.path.samestat(os.fstat(lock.fileno()), os.stat("lock", dir_fd=at)):
                    return lock
            lock.close()
    except (OSError, StoppedError) as e:
        if wait and not isinstance(e, FileNotFoundError):
            raise
    return None
