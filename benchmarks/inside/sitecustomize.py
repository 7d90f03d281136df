"""Notes each use of a network in a run's processes: Python imports it where PYTHONPATH has its folder.

BENCHMARK_SESSIONS is a file that gets a line per call: process, begin and end (seconds of the epoch), and the
CPU seconds meanwhile of the calling thread and of the engine's own, which are those that appeared in the
session's first call: Paddle, told to use one thread, has another beside it, which takes a thirtieth. What
the process reads and writes meanwhile, in other threads, does not count.
"""

import importlib.abc
import importlib.util
import os
import sys
import threading
import time

WATCHED = "batchseg.engines.base"
ENDING = 0.1
"""Seconds. A thread that ends is no longer Python's for some milliseconds, and still the system's."""

_within = threading.local()


def _threads():
    """Ids of the process's threads."""
    return {int(name) for name in os.listdir("/proc/self/task")}  # noqa: PTH208  no pathlib in every process


def _cpu_of(thread):
    """CPU seconds of a thread of this process: Linux makes a clock's number of a thread's id."""
    try:
        return time.clock_gettime(~thread << 3 | 6)
    except OSError:  # it has ended
        return 0.0


class _Noted:
    """A session whose public methods are noted, the outermost call of a thread alone."""

    def __init__(self, session, file):
        self._session, self._file = session, file
        self._threads = None

    def __getattr__(self, name):
        found = getattr(self._session, name)
        if name.startswith("_") or not callable(found):
            return found

        def call(*arguments, **options):
            if getattr(_within, "call", False):
                return found(*arguments, **options)
            _within.call = True
            known = _threads() if self._threads is None else set()
            began, cpu = time.time(), self._cpu()
            try:
                return found(*arguments, **options)
            finally:
                spent, ended = self._cpu() - cpu, time.time()
                if self._threads is None:
                    spent += self._find_threads(known)
                _within.call = False
                os.write(self._file, f"{os.getpid()} {began:.6f} {ended:.6f} {spent:.6f}\n".encode())

        setattr(self, name, call)
        return call

    def _find_threads(self, known):
        """Find the engine's own threads after the first call. Returns the CPU seconds that they took."""
        own = {thread.native_id for thread in threading.enumerate()}
        appeared = {thread: _cpu_of(thread) for thread in _threads() - known - own}
        time.sleep(ENDING)
        self._threads = appeared.keys() & _threads()
        return sum(appeared[thread] for thread in self._threads)

    def _cpu(self):
        return time.thread_time() + sum(map(_cpu_of, self._threads or ()))


class _Loader(importlib.abc.Loader):
    """The module's own loader; then its function `engine` gives engines whose sessions are noted."""

    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        find = module.engine

        def engine(name):
            found = find(name)
            load = found.load

            def noted(*arguments, **options):
                file = os.open(os.environ["BENCHMARK_SESSIONS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                return _Noted(load(*arguments, **options), file)

            found.load = noted
            return found

        module.engine = engine


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        spec.loader = _Loader(spec.loader)
        return spec


if "BENCHMARK_SESSIONS" in os.environ:
    sys.meta_path.insert(0, _Finder())
