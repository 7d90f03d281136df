"""Notes each use of a network in a run's processes: Python imports it where PYTHONPATH has its folder.

BENCHMARK_SESSIONS is a file that gets a line per call: process, begin and end (seconds of the epoch), and the
CPU seconds of the process meanwhile: an engine that is told to use one thread may have another beside it.
"""

import importlib.abc
import importlib.util
import os
import sys
import threading
import time

WATCHED = "batchseg.engines.base"

_within = threading.local()


class _Noted:
    """A session whose public methods are noted, the outermost call of a thread alone."""

    def __init__(self, session, file):
        self._session, self._file = session, file

    def __getattr__(self, name):
        found = getattr(self._session, name)
        if name.startswith("_") or not callable(found):
            return found

        def call(*arguments, **options):
            if getattr(_within, "call", False):
                return found(*arguments, **options)
            _within.call = True
            began, cpu = time.time(), time.process_time()
            try:
                return found(*arguments, **options)
            finally:
                spent, ended = time.process_time() - cpu, time.time()
                _within.call = False
                os.write(self._file, f"{os.getpid()} {began:.6f} {ended:.6f} {spent:.6f}\n".encode())

        setattr(self, name, call)
        return call


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
