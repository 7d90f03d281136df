"""Temporary folders that outlive nobody: each is held by a lock, and those of dead processes are removed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CACHE_VARIABLE = "BATCHSEG_CACHE"
"""Environment: where copies of remote files go. Set by the run, inherited by all that it starts."""


def held_folder(prefix: str, *, root: Path | None = None) -> tuple[Path, Any]:
    """A new folder and the open lock that holds it; folders of that prefix that nobody holds are removed."""
    root = root or Path(tempfile.gettempdir())
    for old in root.glob(f"{prefix}*"):
        with contextlib.suppress(OSError), (old / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    lock = (folder / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """A folder for one run's copies and files in the making, removed at its end."""
    folder, lock = held_folder("batchseg-run-")
    os.environ[CACHE_VARIABLE] = str(folder)
    try:
        yield folder
    finally:
        os.environ.pop(CACHE_VARIABLE, None)
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def cache_root() -> Path:
    """Where this process keeps copies: the run's folder, or the machine's where the run is another's."""
    named = os.environ.get(CACHE_VARIABLE)
    if named and Path(named).is_dir():
        return Path(named)
    root = Path(tempfile.gettempdir()) / f"batchseg-cache-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    return root
