"""Calls in a process of batchseg's own, so that the process that calls stays as it is.

Paddle puts signal handlers in place when it is imported. Ray, Paddle and GDAL print from C++, past
sys.stdout. A run has a home and a temporary folder of its own, and its storage options are read from the
environment. It starts processes, which in a script without `if __name__ == "__main__"` would run the script
again. A notebook must keep none of it; and a crash of an engine, or Ctrl-C in the middle of a commit, must
not be the notebook's. So a run gets a process, which hears when to stop and tells what happens:

    the caller                             the process
    (function, arguments)      ------->    calls it
    (hear)                     <-------    ("heard", what happened), as often as it likes
    ("stop", why)              ------->    its `stop()` gives the reason from now on
                               <-------    ("done", result) or ("failed", error)

The end of the connection is a reason to stop, too: the caller is gone. A program whose process does nothing
but batchseg's work lends it (`lent`): the command line does, and the process that is started here.
"""

import contextlib
import functools
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from batchseg.api.stopping import stop_signals
from batchseg.errors import BatchsegError, StoppedError
from batchseg.system.disks import disk_failures
from batchseg.system.escape import make_shown, shown, shown_traceback
from batchseg.system.utf8 import check_utf8

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

T = TypeVar("T")

HEARD_AHEAD = 1000
"""Messages that wait for a slow listener, before the process that sends them waits too."""

TOLD_BYTES = 2000
"""Of the last words of a process that ended without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a function finds in the process where it is called."""

    tell: Callable[[Any], None]
    """Says something to the caller."""
    stop: Callable[[], str | None]
    """Asked often: why the function must stop, in words."""
    chatter: Callable[[str], None]
    """Takes the path of a file for what libraries print from now on."""


def _nothing(content: Any) -> None:
    pass


_lent: list[Host] = []
"""The innermost last. Of the process, not of a thread: what is lent is the process."""


@contextlib.contextmanager
def lent(
    *, stop: Callable[[], str | None] = lambda: None, chatter: Callable[[str], None] = _nothing
) -> Iterator[None]:
    """Within it, `call` calls in this process, which may be changed.

    Args:
        stop: gives the reason to stop, in words, or None.
        chatter: takes the path of a file for what libraries print.
    """
    _lent.append(Host(tell=_nothing, stop=stop, chatter=chatter))
    try:
        yield
    finally:
        _lent.pop()


def is_lent() -> bool:
    """Whether this process may be changed."""
    return bool(_lent)


def call(function: Callable[..., T], *args: Any, hear: Callable[[Any], None] | None = None) -> T:
    """Call a function where it may change the process.

    Args:
        function: of a module; called with `args` and a `Host`.
        args: picklable.
        hear: told what the function tells; None: it tells nothing.

    Returns:
        What the function returns, which must be picklable.

    Raises:
        ConfigError: this process takes names of files for another charset than UTF-8.
        KeyboardInterrupt: in this process, after the function has stopped. A second one ends its process.
        StoppedError: the function's process ended without an answer, or could not be started.
        Exception: what the function raises, or `hear`; then the function has stopped.
    """
    if _lent:
        here = _lent[-1]
        return function(*args, Host(tell=hear or _nothing, stop=here.stop, chatter=here.chatter))
    check_utf8()
    answer: T = _Aside(function, args, hear).answer()
    return answer


class _Aside:
    """A process and what is said to it."""

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], hear: Callable[[Any], None] | None
    ) -> None:
        from multiprocessing.connection import Connection  # 15 ms that the command line is spared

        self._hear = hear or _nothing
        self._printed = os.memfd_create("batchseg")  # a file that needs no folder
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603  this Python, and our own words
                    _command(theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=self._printed,
                    stderr=self._printed,
                    pass_fds=(theirs.fileno(),),
                    # Ctrl-C goes to all processes of a terminal's group; this one is told to stop instead.
                    start_new_session=True,
                )
            except OSError as e:
                ours.close()
                os.close(self._printed)
                msg = f"another Python cannot be started: {e}"
                raise StoppedError(msg) from e
        self._connection = Connection(ours.detach())
        self._messages: queue.Queue[tuple[str, Any] | None] = queue.Queue(HEARD_AHEAD)
        # An interrupt within `recv` would lose the half of a message; so it is not this thread's.
        threading.Thread(target=self._receive, daemon=True).start()
        self._say((function, args, hear is not None))

    def answer(self) -> Any:
        try:
            kind, content = self._answer()
            self._process.wait()
        except BaseException as e:
            self._end(f"stopped by {type(e).__name__}")
            raise
        finally:
            self._connection.close()
            printed = _last_words(self._printed)
            os.close(self._printed)
        if kind == "done":
            return content
        if kind == "failed":
            raise content
        how = _how(self._process.returncode)
        msg = f"the process of batchseg's work {how}; what it recorded stays{':' if printed else ''}"
        raise StoppedError(msg, *printed)

    def _answer(self) -> tuple[str, Any]:
        while (message := self._messages.get()) is not None:
            if message[0] != "heard":
                return message
            self._hear(message[1])
        return "gone", None

    def _end(self, reason: str) -> None:
        """Wait until it has stopped; who interrupts again does not want to."""
        try:
            self._say(("stop", reason))
            while self._messages.get() is not None:
                pass
            self._process.wait()
        except KeyboardInterrupt:
            self._process.kill()
            self._process.wait()

    def _say(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # it ended; how, is seen where its answer is awaited
            self._connection.send(message)

    def _receive(self) -> None:
        try:
            while True:
                self._messages.put(self._connection.recv())
        except (EOFError, OSError):
            pass
        except Exception as e:  # noqa: BLE001  raised where the answer is awaited
            self._messages.put(("failed", e))
        finally:
            self._messages.put(None)


def _command(descriptor: int) -> list[str]:
    """Python as it is here: the same interpreter, flags and path."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({descriptor})"
    return [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", code]  # type: ignore[attr-defined]


def _last_words(descriptor: int) -> list[str]:
    """What a process printed last, to explain its end, in lines."""
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, TOLD_BYTES, max(0, size - TOLD_BYTES)).decode(errors="replace").strip()
    return [f"    {shown(line, name_variables=True)}" for line in text.split("\n")] if text else []


def _how(code: int) -> str:
    if code >= 0:
        return f"ended itself with status {code}"
    memory = "; is there memory enough" if code == -signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-code).name}{memory}"


def serve(descriptor: int) -> None:
    """The whole life of the process: one call.

    Args:
        descriptor: of the connection to the caller.
    """
    from multiprocessing.connection import Connection

    connection = Connection(descriptor)
    reasons: list[str] = []
    sending = threading.Lock()

    def say(message: tuple[str, Any]) -> None:
        with sending, contextlib.suppress(OSError):  # the caller is gone, which is a reason to stop
            connection.send(message)

    function, args, is_heard = connection.recv()
    threading.Thread(target=_hear_stop, args=(connection, reasons), daemon=True).start()
    signalled = stop_signals()
    with lent(stop=lambda: next(iter(reasons), None) or signalled(), chatter=send_chatter_to):
        tell = functools.partial(_tell, say) if is_heard else None
        try:
            with disk_failures("stopped"):
                say(("done", call(function, *args, hear=tell)))
        except BaseException as e:  # noqa: BLE001  raised where it was called
            say(("failed", _portable(e)))
    _leave()


def _tell(say: Callable[[tuple[str, Any]], None], content: Any) -> None:
    say(("heard", content))


def _hear_stop(connection: "Connection", reasons: list[str]) -> None:
    try:
        _, reason = connection.recv()
    except (EOFError, OSError):
        reason = "stopped, as the process that started it is gone"
    reasons.append(reason)


def _portable(error: BaseException) -> BaseException:
    """An error that another process can raise, fit to be shown there.

    One that batchseg does not word brings its traceback.
    """
    if isinstance(error, BatchsegError):
        make_shown(error)
    else:
        error.add_note(shown_traceback(error))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  made in this very line
    except Exception:  # noqa: BLE001  errors of libraries often cannot be made again
        return RuntimeError(shown_traceback(error))
    return error


def send_chatter_to(path: str) -> None:
    """Point the file descriptors 1 and 2 of this process at a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _leave() -> None:
    from batchseg.system.threads import Helper

    if Helper.given_up:  # Python would wait for the threads of pools that hang
        os._exit(0)
