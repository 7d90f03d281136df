"""Who works on an output: one run at a time, on any storage.

An epoch is a numbered file in `layout.locks_folder`, created only if absent and written again as a sign of
life. The highest one holds the output. Its age is judged by the storage's own clock, so clocks that
disagree do no harm. A run that finds it older than STALE_SECONDS takes the next number; the holder,
should it wake, finds its epoch superseded and stops. On a local disk the file is also flocked, so that
a holder that has died is seen at once. What guards the ledger itself is that its segments are created
only if absent, and that a new holder claims the next one before it does anything else.
"""

import contextlib
import datetime as dt
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from batchseg.errors import (
    ConfigError,
    CredentialsError,
    LockedError,
    OutputError,
    SourceIOError,
    StoppedError,
)
from batchseg.output import epochs, layout, publish
from batchseg.system import rooted, storage
from batchseg.system.disks import describe, is_failing
from batchseg.system.file_info import file_info
from batchseg.system.retry import is_passing

BEAT_SECONDS = 5.0
STALE_SECONDS = 30.0
"""A holder that gave no sign of life for so long is taken to be gone: six beats."""


def check_epoch(output: str, epoch: int) -> None:
    """Raises OutputError where another run has taken the output over since that epoch."""
    if epochs.newest(output) > epoch:
        msg = f"another run took over {output}, because this one had given no sign of life"
        raise OutputError(msg)


def check_work_goes_on(output: str, epoch: int) -> None:
    """Ask before results are published: a worker can outlive its run, or be given up by it and not know.

    Raises:
        OutputError: the run of that epoch ended or is ending, or another one has taken the output over.
    """
    with publish.output_errors("look at", output):
        check_epoch(output, epoch)
        found = epochs.read(layout.epoch_file(output, epoch))
    if found is not None and (found.released or found.ending):
        msg = f"the run that this belongs to has ended: nothing more of it is published in {output}"
        raise OutputError(msg)


@dataclass(slots=True)
class Lock:
    """An output that is held."""

    output: str
    epoch: int
    token: str
    text: str
    _file: Any = None
    """The flocked file of a local output."""
    _scope: str = "nowhere"
    """Who sees that it is flocked."""
    _lost: str | None = None
    _beaten: tuple[float, float] = field(default_factory=lambda: _clocks())
    _over: threading.Event = field(default_factory=threading.Event)
    _writing: threading.RLock = field(default_factory=threading.RLock)
    """A sign of life must not follow the word that the output is released, nor meet a closed file."""
    _forgotten: bool = False
    _ending: bool = False

    def lost(self) -> str | None:
        """Why this run no longer holds the output; None while it does."""
        return self._lost

    @property
    def is_first(self) -> bool:
        """Whether nobody ever held the output before."""
        return self.epoch == 1

    def forget(self) -> None:
        """Write nothing any more: what was begun here is removed."""
        self._over.set()
        self._forgotten = True

    def end_work(self) -> None:
        """From now on no worker of this run publishes anything: what is there can be put in order.

        Raises:
            OutputError: the output is no longer held, or cannot be written.
        """
        self.check()
        self._ending = True
        with self._writing:
            _write(self, released=False)

    def check(self) -> None:
        """Ask the storage now. Raises OutputError where the output is no longer held."""
        if self._lost:
            raise OutputError(self._lost)
        with publish.output_errors("look at", self.output):
            self._look()

    def _look(self) -> None:
        check_epoch(self.output, self.epoch)
        place = layout.epoch_file(self.output, self.epoch)
        if self._file is not None:
            seen = rooted.look(place)
            with self._writing:
                if self._file.closed:
                    return  # released meanwhile
                held = os.fstat(self._file.fileno())
            if seen is not None and os.path.samestat(seen, held):
                return
        # A storage that looks first and creates then gives one epoch to two runs of the same moment.
        try:
            found = epochs.read(place)
        except OutputError as e:  # which may pass
            raise SourceIOError(*e.lines) from e
        if found is None:
            msg = f"{place} is gone: was {self.output} moved or removed during the run? Run again"
            raise OutputError(msg)
        if found.token not in ("", self.token):
            msg = f"another run holds {self.output} too ({found.text}): run again when it has ended"
            raise OutputError(msg)

    def guard(self) -> None:
        """As `check`, but asks only after a silence: for what is done often.

        A process that was stopped for longer than it may be silent finds that out here before it does harm.
        Nothing guards between the answer and the write: who is stopped just there writes the same bytes, or a
        table that the next run writes again.
        """
        if self._lost or _since(self._beaten) > STALE_SECONDS / 2:
            self.check()

    def beat(self, also: Callable[[], None]) -> None:
        """Give signs of life until the lock is released; `also` is done at each."""
        while not self._over.wait(BEAT_SECONDS):
            try:
                self._look()
            except OutputError as e:
                self._lost = str(e)
                return
            except (SourceIOError, CredentialsError) as e:
                self._late(e)
                continue
            try:
                with self._writing:
                    if self._over.is_set():
                        return
                    _write(self, released=False)
                self._beaten = _clocks()
                also()
            except StoppedError as e:
                self._late(e)

    def _late(self, error: Exception) -> None:
        silent = _since(self._beaten)
        if silent > STALE_SECONDS:
            self._lost = f"the lock of {self.output} could not be kept for {silent:.0f} s: {error}"

    def abandon(self) -> None:
        """Take back an epoch that was made in vain; one that is another's stays."""
        if self._file is not None:
            self._file.close()
        with contextlib.suppress(OutputError, SourceIOError):
            found = epochs.found(self.output, self.epoch)
            if found is not None and found.token == self.token:
                publish.remove_files([layout.epoch_file(self.output, self.epoch)])

    def release(self) -> None:
        self._over.set()
        with self._writing:
            with contextlib.suppress(StoppedError, SourceIOError):
                if not self._forgotten:
                    self.check()
                    _write(self, released=True)
            if self._file is not None:
                self._file.close()


@contextlib.contextmanager
def hold(output: str, run_id: str, also: Callable[[], None] = lambda: None) -> Iterator[Lock]:
    """Hold an output while something is done to it.

    Args:
        output: root of the results.
        run_id: for the message that others see.
        also: done at each sign of life, in a thread.

    Raises:
        LockedError: another run holds it.
        ConfigError: the output cannot be written.
        StoppedError: its storage fails in a way that may pass.
        OutputError: its disk is full or failing.
    """
    started = dt.datetime.now().astimezone().isoformat(timespec="seconds")
    text = f"run {run_id}, process {os.getpid()} on {socket.gethostname()}, since {started}"
    publish.check_no_links(output)
    try:
        lock = _take(output, text)
    except (OutputError, StoppedError, SourceIOError) as e:
        if isinstance(e, OutputError) and e.__cause__ is not None and is_failing(e.__cause__):
            raise
        msg = f"output: cannot write to {output}: {e}"
        hint = "" if is_passing(e) else "; check the path, the permissions and the job's `storage`"
        raise storage.refusal(e, msg + hint) from e
    thread = threading.Thread(target=lock.beat, args=(also,), daemon=True)
    thread.start()
    try:
        yield lock
    finally:
        lock.release()


def holder(output: str) -> str | None:
    """Who works on the output now, in words; None: nobody."""
    newest = epochs.newest(output)
    if not newest:
        return None
    found = epochs.found(output, newest)
    if found is None or found.released:
        return None
    if (is_held := _is_flocked(output, newest, found)) is not None:
        return found.text if is_held else None
    # Nothing is written to ask the storage's clock: who only looks may be unable to.
    is_silent = found.modified is not None and abs(time.time() - found.modified) > STALE_SECONDS
    return None if is_silent else found.text


def _take(output: str, text: str) -> Lock:
    newest = epochs.newest(output)
    found = epochs.found(output, newest) if newest else None
    if found is not None and not _is_free(output, newest, found, lambda: _now(output)):
        msg = f"another run holds {output} ({found.text}); wait for it or stop it"
        raise LockedError(msg)
    lock = Lock(output=output, epoch=newest + 1, token=secrets.token_hex(8), text=text)
    if not _create(lock) or not _is_last(lock):
        # The number may have been free again: others took and left the output since it was looked at.
        lock.abandon()
        msg = f"another run holds {output} (begun at the same moment); wait for it or stop it"
        raise LockedError(msg)
    own, folder = layout.epoch_file(output, lock.epoch), layout.locks_folder(output)
    others = (name for info in epochs.listed(output) if (name := info.uri.rpartition("/")[2]) != own.name)
    publish.remove_files([folder.listed(name) for name in others])
    return lock


def _is_last(lock: Lock) -> bool:
    """Whether no later epoch is there, and this one was created by a storage that keeps its word.

    Raises:
        ConfigError: it does not.
        OutputError: it fails.
    """
    place = layout.epoch_file(lock.output, lock.epoch)
    try:
        if place.is_local:
            return epochs.newest(lock.output) <= lock.epoch
        from batchseg.system.threads import start_aside  # a hundredth of a second that local runs are spared

        trying = start_aside(publish.check_condition, place, _document(lock, released=False))
        newest = epochs.newest(lock.output)
        trying.result()
    except (ConfigError, StoppedError, SourceIOError):
        lock.abandon()
        raise
    return newest <= lock.epoch


def _is_free(output: str, epoch: int, found: epochs.Epoch, now: Callable[[], float]) -> bool:
    """Released, its process dead, or silent for too long."""
    if found.released or _is_flocked(output, epoch, found) is False:
        return True
    if found.modified is None:
        return False
    silent = now() - found.modified
    return silent > STALE_SECONDS or (silent < -STALE_SECONDS and _stays(output, epoch, found.modified))


def _stays(output: str, epoch: int, modified: float) -> bool:
    """Whether nobody gives a sign of life: a file from the future does not tell its age, and is watched."""
    until = time.monotonic() + STALE_SECONDS
    while time.monotonic() < until:
        time.sleep(BEAT_SECONDS)
        info = file_info(layout.epoch_file(output, epoch))
        if info is None or info.modified != modified:
            return False
    return True


def _now(output: str) -> float:
    """The time by the storage's own clock: when it says that a file was written just now."""
    file = layout.locks_folder(output).below(f"clock-{secrets.token_hex(4)}")
    publish.publish(file, b"", durable=False)
    info = file_info(file)
    publish.remove_files([file])
    return info.modified if info is not None and info.modified is not None else time.time()


def _document(lock: Lock, *, released: bool) -> bytes:
    said = {"token": lock.token, "holder": lock.text, "released": released, "ending": lock._ending}
    if lock._file is not None:
        said["scope"] = lock._scope
    return json.dumps(said).encode()


def _write(lock: Lock, *, released: bool) -> None:
    """A local file keeps its inode, which is flocked; an object is put again."""
    place = layout.epoch_file(lock.output, lock.epoch)
    if lock._file is None:
        publish.publish(place, _document(lock, released=released))
        return
    try:
        # Padded with blanks, not cut off: whoever reads meanwhile must find whole JSON. By the descriptor:
        # the name may be another file's by now.
        size = os.fstat(lock._file.fileno()).st_size
        os.pwrite(lock._file.fileno(), _document(lock, released=released).ljust(size), 0)
    except OSError as e:
        msg = f"cannot write {place}: {describe(e, place.path)}"
        raise OutputError(msg) from e


def _create(lock: Lock) -> bool:
    """Write the epoch only if nobody has. A local file appears flocked, so it is never taken for dead."""
    place = layout.epoch_file(lock.output, lock.epoch)
    path = place.path
    if path is None:
        return publish.create(place, _document(lock, released=False))
    try:
        with publish.making(place, keep_open=True) as made:
            lock._file = os.fdopen(made.descriptor, "r+b")
            with contextlib.suppress(OSError):  # a disk without flock still has signs of life
                fcntl.flock(lock._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock._scope = epochs.flock_scope(made.descriptor)
            made.write(_document(lock, released=False), durable=False)
            return made.add()
    except FileNotFoundError:  # who was first removed ours, see _take
        return False
    except OSError as e:
        said = (
            f"cannot write {path}: {describe(e, path)}" if is_failing(e) else f"{e.strerror} ({path.parent})"
        )
        raise OutputError(said) from e


def _is_flocked(output: str, epoch: int, found: epochs.Epoch) -> bool | None:
    """Whether a local holder's process is there, however it sleeps.

    None: nothing tells. It is no disk, the holder is on another host or came by another mount, or the file is
    damaged, or just begun and not flocked yet.
    """
    place = layout.epoch_file(output, epoch)
    if not place.is_local or not found.token:
        return None
    try:
        with os.fdopen(rooted.open_file(place), "rb") as file:
            if found.scope not in ("", epochs.flock_scope(file.fileno())):
                return None
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return None


def _clocks() -> tuple[float, float]:
    return time.clock_gettime(time.CLOCK_BOOTTIME), time.time()


def _since(then: tuple[float, float]) -> float:
    """Seconds by the clock that went further: one stands still while a machine sleeps, one can be set."""
    return max(now - before for now, before in zip(_clocks(), then, strict=True))
