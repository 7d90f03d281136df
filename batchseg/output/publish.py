"""Files that appear whole or not at all.

On a local disk a file is written beside its place, synced and renamed; on an object store one PUT is
atomic by itself. Readers never see half a file.
"""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from batchseg.errors import ConfigError, OutputError, SourceIOError
from batchseg.output import layout
from batchseg.system import rooted
from batchseg.system.disks import describe
from batchseg.system.fetch import read_bytes
from batchseg.system.listing import WILDCARDS
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


def check_no_links(output: str) -> None:
    """Raises OutputError where a link is in place of a folder of a local output: before a run, not in it."""
    for place in layout.folders(output):
        if place.is_local:
            with output_errors("use", place):
                rooted.look(place)


def publish(place: Location, data: bytes, *, durable: bool = True) -> None:
    """Write a whole file of an output atomically, replacing what was there.

    Args:
        place: where.
        data: what.
        durable: wait until a local disk has it. Without, a power cut may leave a shorter file.

    Raises:
        OutputError: it cannot be written.
    """
    with output_errors("write", place):
        if not place.is_local:
            fs, path = filesystem(place)
            patiently(lambda: fs.pipe_file(path, data))
            return
        with making(place) as made:
            made.write(data, durable=durable)
            made.replace()


def publish_file(local: Path, place: Location) -> None:
    """Move a finished local file to its place in an output atomically. Raises OutputError."""
    with output_errors("write", place):
        if not place.is_local:
            fs, path = filesystem(place)
            patiently(lambda: _upload(fs, local, path))
            local.unlink()
            return
        _sync(local)
        try:
            with rooted.parent(place, make=True) as (above, name):
                os.rename(local, name, dst_dir_fd=above)
        except OSError as e:
            if e.errno != errno.EXDEV:  # the scratch folder lies on another file system
                raise
            with making(place) as made:
                with local.open("rb") as source, made.opened() as target:
                    shutil.copyfileobj(source, target)
                os.fsync(made.descriptor)
                made.replace()
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
_NOT_KNOWN = frozenset(("NotImplemented", "501"))


def create(place: Location, data: bytes) -> bool:
    """Write a file only if it is absent; False where another one is there.

    The data must be unlike what anybody else would write there: a client sends a request again whose
    reply was lost, and is then told that the file exists. It is its own.

    Raises:
        OutputError: it cannot be written.
        ConfigError: the storage cannot do that, see `check_condition`.
    """
    with output_errors("create", place):
        if not place.is_local:
            return _put_if_absent(place, data) or bool(read_bytes(place) == data)
        with making(place) as made:
            made.write(data, durable=True)
            return made.add()


def check_condition(place: Location, data: bytes) -> None:
    """Look whether "only if absent" means anything to a storage: servers pass over what they do not know.

    Args:
        place: a file that is there.
        data: what it holds, as a server that passes over the condition writes it again.

    Raises:
        ConfigError: it does not.
        OutputError: the storage fails.
    """
    with output_errors("create", place):
        if not place.is_local and _put_if_absent(place, data):
            raise _without_condition(place, "it replaced what was there")


def _put_if_absent(place: Location, data: bytes) -> bool:
    fs, path = filesystem(place)
    try:
        patiently(lambda: fs.pipe_file(path, data, mode="create"))
    except OSError as e:
        # Servers word it in several ways, of which s3fs knows Amazon's alone; a conflict is another's
        # request at the same moment.
        if isinstance(e, FileExistsError) or code_of(e) in _EXISTS:
            return False
        if (code := code_of(e)) in _NOT_KNOWN:
            beside = f"{path}.plain"  # the condition may not be what the server lacks: who knows it tells
            patiently(lambda: fs.pipe_file(beside, data))
            fs.rm_file(beside)
            raise _without_condition(place, f"it answered {code}") from e
        raise
    return True


def _without_condition(place: Location, seen: str) -> ConfigError:
    msg = (
        f"output: the storage cannot create {place} only if it is absent (S3's `If-None-Match: *`): {seen}. "
        f"So nothing would keep two runs from working on this output at once"
    )
    return ConfigError(msg, "Write to a disk and copy the output to the bucket, or use a server that can.")


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


def remove_folder(place: Location) -> None:
    """Delete a folder of an output with all in it; nothing there is no error. Raises OutputError."""
    with output_errors("remove", place), contextlib.suppress(FileNotFoundError):
        if place.is_local:
            rooted.remove_tree(place)
        else:
            fs, path = filesystem(place)
            _remove_objects(fs, patiently(lambda: fs.find(path)))


def remove_files(places: Sequence[Location]) -> None:
    """Delete files of an output, in few requests. Raises OutputError."""
    if not places:
        return
    with output_errors("remove", places[0]):
        if not places[0].is_local:
            fs, _ = filesystem(places[0])
            _remove_objects(fs, [filesystem(place)[1] for place in places])
            return
        for place in places:
            with contextlib.suppress(FileNotFoundError):
                rooted.unlink(place)


def _remove_objects(fs: Any, paths: Sequence[str]) -> None:
    """Delete objects of these very names: to `rm` one with a wildcard is a pattern, of others' names too."""
    patterns = {path for path in paths if any(character in path for character in WILDCARDS)}
    plain = [path for path in paths if path not in patterns]
    with contextlib.suppress(FileNotFoundError):
        if plain:
            patiently(lambda: fs.rm(plain))
    for path in sorted(patterns):
        with contextlib.suppress(FileNotFoundError):
            patiently(partial(fs.rm_file, path))


def clear_scratch(output: str) -> None:
    """Remove what is in the making in a local output. Raises OutputError where a link is in its place.

    What another user's run left stays, as nobody else may remove it; so do folders too deep to be removed.
    """
    place = layout.scratch_folder(output)
    if place.is_local:
        with output_errors("clear", place):
            try:
                rooted.remove_tree(place)
            except rooted.LinkError:
                raise
            except (OSError, RecursionError):
                pass


_NO_LINKS = frozenset(
    (
        errno.EPERM,  # exFAT, FAT
        errno.EOPNOTSUPP,  # SMB
        errno.ENOSYS,  # gcsfuse, libfuse without `link`
        errno.EIO,  # rclone mount
        errno.EMLINK,
        errno.EXDEV,  # unions of disks
    )
)
"""What link() answers on file systems that have no hard links. If it means something else, so does O_EXCL."""


@dataclass(frozen=True, slots=True)
class Making:
    """A new file by a temporary name on the file system of its place."""

    descriptor: int
    _scratch: int
    _temporary: str
    _above: int
    _name: str

    def opened(self) -> BinaryIO:
        """To write it; to close that leaves the descriptor open."""
        return os.fdopen(self.descriptor, "wb", closefd=False)

    def write(self, data: bytes, *, durable: bool) -> None:
        """Durable: wait until the disk has it."""
        with self.opened() as file:
            file.write(data)
        if durable:
            os.fsync(self.descriptor)

    def replace(self) -> None:
        """Put it in its place, whatever is there."""
        os.rename(self._temporary, self._name, src_dir_fd=self._scratch, dst_dir_fd=self._above)

    def add(self) -> bool:
        """Put it in its place if that is free; False where it is taken.

        Where a disk has no hard links the place is taken first, by an empty file: that is what one finds who
        reads just then, or after a crash just there.
        """
        at = {"src_dir_fd": self._scratch, "dst_dir_fd": self._above}
        try:
            # link fails if the name exists, which rename does not
            os.link(self._temporary, self._name, follow_symlinks=False, **at)
        except FileExistsError:
            return False
        except OSError as e:
            if e.errno not in _NO_LINKS:
                raise
            return self._take()
        return True

    def _take(self) -> bool:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.close(os.open(self._name, flags, 0o666, dir_fd=self._above))
        except FileExistsError:
            return False
        try:
            self.replace()
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._above)
            raise
        return True


@contextlib.contextmanager
def making(place: Location, *, keep_open: bool = False) -> Iterator[Making]:
    """A file in the making, removed at the end where it took no place.

    Args:
        place: where it will be, in a local output.
        keep_open: the descriptor stays open, and is the caller's.
    """
    with rooted.parent(place, make=True) as (above, name), _scratch_for(place, above) as scratch:
        # Not in the name: the target's own, which may be as long as the file system allows.
        temporary = f".tmp-{uuid.uuid4().hex}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o666, dir_fd=scratch)
        try:
            yield Making(descriptor, scratch, temporary, above, name)
        finally:
            if not keep_open:
                os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=scratch)


@contextlib.contextmanager
def _scratch_for(place: Location, above: int) -> Iterator[int]:
    """The scratch folder of a file's output, where the next run removes what a killed one leaves; the
    file's own folder where that lies on another disk."""
    with rooted.folder(layout.scratch_folder(str(place.root)), make=True) as scratch:
        yield scratch if os.fstat(scratch).st_dev == os.fstat(above).st_dev else above


def _sync(path: Path) -> None:
    with path.open("rb") as f:
        os.fsync(f.fileno())
