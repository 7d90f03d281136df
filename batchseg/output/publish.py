"""Files that appear whole or not at all.

On a local disk a file is written beside its place, synced and renamed; on an object store one PUT is
atomic by itself. Readers never see half a file.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from batchseg.errors import ConfigError, OutputError, SourceIOError
from batchseg.output import layout
from batchseg.system.disks import describe
from batchseg.system.fetch import read_bytes
from batchseg.system.location import Location
from batchseg.system.retry import ShortReplyError, code_of, patiently
from batchseg.system.storage import as_os_error, filesystem


@contextlib.contextmanager
def output_errors(verb: str, where: str | Location) -> Iterator[None]:
    """What a storage says of an output is the output's error, not a source's."""
    try:
        with as_os_error():
            yield
    except SourceIOError as e:
        raise OutputError(str(e)) from e
    except OSError as e:
        msg = f"cannot {verb} {where}: {describe(e, Location.of(where).path)}"
        raise OutputError(msg) from e


def check_writable(folder: str) -> None:
    """Raise ConfigError where a local folder could not be written or made; writes nothing."""
    path = Location.of(folder).path
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
    place = Location.of(uri)
    with output_errors("write", place):
        target = place.path
        if target is None:
            fs, path = filesystem(place)
            patiently(lambda: fs.pipe_file(path, data))
            return
        with _beside(target) as temporary:
            temporary.write_bytes(data)
            if durable:
                _sync(temporary)
            temporary.replace(target)


def scratch_root(output: str) -> Path | None:
    """Where files of a local output are made, on its own file system; None for other storages."""
    root = Location.of(output).path
    return None if root is None else layout.scratch_folder(root)


def publish_file(local: Path, uri: str) -> None:
    """Move a finished local file to its place atomically. Raises OutputError."""
    place = Location.of(uri)
    with output_errors("write", place):
        target = place.path
        if target is None:
            fs, path = filesystem(place)
            patiently(lambda: _upload(fs, local, path))
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


def _upload(fs: Any, local: Path, path: str) -> None:
    try:
        fs.put_file(str(local), path)
    except FileNotFoundError as e:
        # A multipart upload whose completion was done, and then sent again as its reply was lost.
        if code_of(e) != "NoSuchUpload":
            raise
        msg = f"the reply to the end of an upload was lost ({e})"
        raise ShortReplyError(msg) from None


_EXISTS = frozenset(("PreconditionFailed", "412", "ConditionalRequestConflict", "409"))


def create(uri: str, data: bytes) -> bool:
    """Write a file only if it is absent; False where another one is there. Raises OutputError.

    The data must be unlike what anybody else would write there: a client sends a request again whose
    reply was lost, and is then told that the file exists. It is its own.
    """
    place = Location.of(uri)
    with output_errors("create", place):
        target = place.path
        if target is None:
            fs, path = filesystem(place)
            try:
                patiently(lambda: fs.pipe_file(path, data, mode="create"))
            except OSError as e:
                # Servers word it in several ways, of which s3fs knows Amazon's alone; a conflict is another's
                # request at the same moment.
                told = isinstance(e, FileExistsError) or code_of(e) in _EXISTS
                if not told:
                    raise
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


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """A file beside one that the user named, with its suffix; it takes that one's place at the end.

    Raises:
        OutputError: it cannot be written.
    """
    making = target.with_name(f".tmp-{uuid.uuid4().hex}{target.suffix}")
    try:
        yield making
        _sync(making)
        making.replace(target)
    except OSError as e:
        msg = f"cannot write {target}: {describe(e, target)}"
        raise OutputError(msg) from e
    finally:
        with contextlib.suppress(OSError):
            making.unlink(missing_ok=True)


def remove(uri: str) -> None:
    """Delete a file or a folder with all in it; nothing there is no error. Raises OutputError."""
    with output_errors("remove", uri):
        fs, path = filesystem(uri)
        with contextlib.suppress(FileNotFoundError):
            patiently(lambda: fs.rm(path, recursive=True))


def remove_files(uris: Sequence[str]) -> None:
    """Delete files, in few requests. Raises OutputError."""
    if not uris:
        return
    first = Location.of(uris[0])
    with output_errors("remove", first):
        fs, _ = filesystem(first)
        paths = [filesystem(uri)[1] for uri in uris]
        if not first.is_local:
            with contextlib.suppress(FileNotFoundError):
                patiently(lambda: fs.rm(paths))
            return
        for path in paths:
            Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A temporary name on the target's file system; within an output, where the next run removes it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not in the name: the target's own, which may be as long as the file system allows.
    temporary = _scratch_for(target.parent) / f".tmp-{uuid.uuid4().hex}"
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _scratch_for(folder: Path) -> Path:
    """The scratch folder of the output that a folder is in; itself where there is none on its disk."""
    for parent in (folder, *folder.parents):
        if layout.is_output(parent):
            scratch = layout.scratch_folder(parent)
            scratch.mkdir(exist_ok=True)
            return scratch if scratch.stat().st_dev == folder.stat().st_dev else folder
    return folder


def _sync(path: Path) -> None:
    with path.open("rb") as f:
        os.fsync(f.fileno())
