"""Outputs that fail or are slow, and runs that sleep before they publish.

Environment: FAULT_SLOW_PUBLISHED seconds between a publication and what follows it; FAULT_STALE seconds of
silence after which a holder is taken for gone; FAULT_STOP as PART:N, the process stops itself (SIGSTOP)
before it publishes or removes the Nth file whose URI contains PART; FAULT_FSYNC_EIO the number of the fsync
of this process that fails; FAULT_FSYNC_SECONDS that each of them takes.
"""

import errno
import functools
import itertools
import os
import signal
import threading
import time

import batchseg.driver.photo_worker
import batchseg.driver.scene_worker
import batchseg.output.region_parts
import batchseg.output.scene_mask
import batchseg.system.output_lock
import batchseg.system.publish


def install():
    """Put the faults that the environment names into os.fsync and batchseg's modules."""
    if "FAULT_FSYNC_EIO" in os.environ or "FAULT_FSYNC_SECONDS" in os.environ:
        os.fsync = _failing(os.fsync)
    if "FAULT_STALE" in os.environ:
        batchseg.system.output_lock.STALE_SECONDS = float(os.environ["FAULT_STALE"])
        batchseg.system.output_lock.BEAT_SECONDS = batchseg.system.output_lock.STALE_SECONDS / 6
    if "FAULT_STOP" in os.environ:
        _stop_at(*os.environ["FAULT_STOP"].rpartition(":")[::2])
    if "FAULT_SLOW_PUBLISHED" in os.environ:
        batchseg.driver.scene_worker.write_lease = _pausing(batchseg.driver.scene_worker.write_lease)
        batchseg.output.scene_mask.finish_scene = _pausing(batchseg.output.scene_mask.finish_scene)
        batchseg.output.region_parts.publish_output = _pausing(batchseg.output.region_parts.publish_output)
        worker = batchseg.driver.photo_worker.GroupWorker
        worker.__call__ = _pausing(worker.__call__)
        batchseg.system.publish.remove_files = _pausing(batchseg.system.publish.remove_files, first=True)


def _failing(fsync):
    numbers = itertools.count(1)

    def wrapped(descriptor):
        time.sleep(float(os.environ.get("FAULT_FSYNC_SECONDS", "0")))
        if next(numbers) == int(os.environ.get("FAULT_FSYNC_EIO", "0")):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    return wrapped


def _pausing(function, *, first=False):
    @functools.wraps(function)
    def wrapped(*arguments, **options):
        if first:
            time.sleep(float(os.environ["FAULT_SLOW_PUBLISHED"]))
        answer = function(*arguments, **options)
        if not first:
            time.sleep(float(os.environ["FAULT_SLOW_PUBLISHED"]))
        return answer

    return wrapped


def _stop_at(part, number):
    left, counting = [int(number)], threading.Lock()

    def stopping(function, target):
        @functools.wraps(function)
        def wrapped(*arguments, **options):
            with counting:
                left[0] -= part in str(arguments[target])
                is_now = left[0] == 0
                left[0] -= is_now
            if is_now:
                os.kill(os.getpid(), signal.SIGSTOP)
            return function(*arguments, **options)

        return wrapped

    for name, target in (("publish", 0), ("publish_file", 1), ("create", 0), ("remove_files", 0)):
        setattr(batchseg.system.publish, name, stopping(getattr(batchseg.system.publish, name), target))
