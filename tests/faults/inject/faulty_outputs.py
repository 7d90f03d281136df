"""Outputs that fail or are slow, and runs that sleep before they publish.

Environment: FAULT_SLOW_PUBLISHED seconds between a publication and what follows it; FAULT_STALE seconds of
silence after which a holder is taken for gone; FAULT_STOP as PART:N, the process stops itself (SIGSTOP)
before it publishes or removes the Nth file whose URI contains PART; FAULT_FSYNC_EIO the number of the fsync
of this process that fails; FAULT_FSYNC_SECONDS that each of them takes.
"""

import errno
import itertools
import os
import signal
import threading
import time

import seams


def install():
    """Put the faults that the environment names into os.fsync and batchseg."""
    if "FAULT_FSYNC_EIO" in os.environ or "FAULT_FSYNC_SECONDS" in os.environ:
        os.fsync = _failing(os.fsync)
    if "FAULT_STALE" in os.environ:
        stale = float(os.environ["FAULT_STALE"])
        seams.STALE_SECONDS.set(stale)
        seams.BEAT_SECONDS.set(stale / 6)
    if "FAULT_STOP" in os.environ:
        _stop_at(*os.environ["FAULT_STOP"].rpartition(":")[::2])
    if "FAULT_SLOW_PUBLISHED" in os.environ:
        for seam in (seams.WRITE_LEASE, seams.FINISH_SCENE, seams.PUBLISH_PART, seams.DO_GROUP):
            seam.around(_pause_after)
        seams.REMOVE_FILES.around(_pause_before)


def _failing(fsync):
    numbers = itertools.count(1)

    def wrapped(descriptor):
        time.sleep(float(os.environ.get("FAULT_FSYNC_SECONDS", "0")))
        if next(numbers) == int(os.environ.get("FAULT_FSYNC_EIO", "0")):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    return wrapped


def _pause_after(call):
    answer = call()
    time.sleep(float(os.environ["FAULT_SLOW_PUBLISHED"]))
    return answer


def _pause_before(call):
    time.sleep(float(os.environ["FAULT_SLOW_PUBLISHED"]))
    return call()


def _stop_at(part, number):
    left, counting = [int(number)], threading.Lock()

    def stop(target):
        with counting:
            left[0] -= part in str(target)
            is_now = left[0] == 0
            left[0] -= is_now
        if is_now:
            os.kill(os.getpid(), signal.SIGSTOP)

    def at_file(call, place):
        stop(place)
        return call()

    def at_files(call, places):
        stop([str(place) for place in places])
        return call()

    for seam in (seams.PUBLISH, seams.PUBLISH_FILE, seams.CREATE):
        seam.around(at_file)
    seams.REMOVE_FILES.around(at_files)
