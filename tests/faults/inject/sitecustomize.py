"""Faults for runs in other processes: Python imports this module when PYTHONPATH names its folder.

Environment: FAULT_SLOW seconds per tile; FAULT_ABORT, FAULT_HANG parts of file names whose reading ends
or stops the process; FAULT_COUNT a file that gets a line for each tile that a predictor worked on: its
row and column (of a photograph its number, and 0), and the source's id; FAULT_STALE seconds of silence
after which a holder is taken for gone; FAULT_STOP as PART:N, the process stops itself (SIGSTOP) before it
publishes or removes the Nth file whose URI contains PART; FAULT_DEFECT a part of file names whose reading
raises an error that says the whole environment; FAULT_ALGORITHM another number of the recipe's.
Environment: FAULT_SLOW seconds per tile; FAULT_SLOW_READ seconds before a shard or a photograph is read;
FAULT_SLOW_PUBLISHED seconds between a publication and what follows it; FAULT_ABORT, FAULT_HANG parts of
file names whose reading ends or stops the process; FAULT_COUNT a file that gets a line for each tile
that a predictor worked on: its row and column (of a photograph its number, and 0), and the source's id.
row and column (of a photograph its number, and 0), and the source's id; FAULT_FSYNC_EIO the number of
the fsync of this process that fails; FAULT_FSYNC_SECONDS that each of them takes; FAULT_SPILL lets Ray
spill all objects; FAULT_CACHE is BATCHSEG_MODEL_CACHE.
"""

import dataclasses
import errno
import functools
import itertools
import os
import signal
import threading
import time

if "FAULT_SPILL" in os.environ:
    os.environ |= {"RAY_object_spilling_threshold": "0.0001", "RAY_min_spilling_size": "0"}
if "FAULT_CACHE" in os.environ:
    os.environ["BATCHSEG_MODEL_CACHE"] = os.environ["FAULT_CACHE"]
if "FAULT_FSYNC_EIO" in os.environ or "FAULT_FSYNC_SECONDS" in os.environ:
    fsync, fsyncs = os.fsync, itertools.count(1)

    def faulty_fsync(descriptor):
        time.sleep(float(os.environ.get("FAULT_FSYNC_SECONDS", "0")))
        if next(fsyncs) == int(os.environ.get("FAULT_FSYNC_EIO", "0")):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    os.fsync = faulty_fsync

if any(name.startswith("FAULT_") for name in os.environ):
    import batchseg.finish
    import batchseg.photos.fitting
    import batchseg.photos.loading
    import batchseg.photos.worker
    import batchseg.publishing
    import batchseg.read
    import batchseg.steps
    import batchseg.stitch
    import batchseg.tables

    place, place_in_photograph = batchseg.stitch.Stitcher.place, batchseg.photos.fitting.Fitting.place
    fitting_of = batchseg.photos.worker.GroupWorker._fitting
    read_shard, decode = batchseg.read._read_shard, batchseg.photos.loading.decode
    read_lease, predict_lease = batchseg.steps.read_lease, batchseg.steps.predict_lease
    current = threading.local()
    names = {}

    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class NamedPixels(batchseg.steps.LeasePixels):
        source_id: str

    @functools.wraps(read_lease)
    def named_read_lease(recipe, lease):
        pixels = read_lease(recipe, lease)
        fields = {field.name: getattr(pixels, field.name) for field in dataclasses.fields(pixels)}
        return NamedPixels(**fields, source_id=lease.scene.source.source_id)

    @functools.wraps(predict_lease)
    def named_predict_lease(predictor, recipe, pixels, *arguments, **options):
        current.name = pixels.source_id
        return predict_lease(predictor, recipe, pixels, *arguments, **options)

    def named_fitting(self, loaded, clock):
        fitting = fitting_of(self, loaded, clock)
        names[id(fitting)] = loaded.row["source_id"]
        return fitting

    def pause(name):
        time.sleep(float(os.environ.get(name, "0")))

    def pausing_after(function):
        @functools.wraps(function)
        def wrapped(*arguments, **options):
            answer = function(*arguments, **options)
            pause("FAULT_SLOW_PUBLISHED")
            return answer

        return wrapped

    def pausing_before(function):
        @functools.wraps(function)
        def wrapped(*arguments, **options):
            pause("FAULT_SLOW_PUBLISHED")
            return function(*arguments, **options)

        return wrapped

    def work_on(row, col, name):
        pause("FAULT_SLOW")
        if path := os.environ.get("FAULT_COUNT"):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, f"{row} {col} {name}\n".encode())
            os.close(descriptor)

    def counted_place(self, tile, output, valid):
        if (name := getattr(current, "name", None)) is not None:
            work_on(tile.core.row_off, tile.core.col_off, name)
        place(self, tile, output, valid)

    def counted_place_in_photograph(self, number, answer):
        work_on(number, 0, names[id(self)])
        place_in_photograph(self, number, answer)

    def fail(name):
        pause("FAULT_SLOW_READ")
        if (part := os.environ.get("FAULT_ABORT")) and part in name:
            os.abort()
        if (part := os.environ.get("FAULT_DEFECT")) and part in name:
            raise RuntimeError(f"{name}: {dict(os.environ)}")
        while (part := os.environ.get("FAULT_HANG")) and part in name:
            time.sleep(1)

    def faulty_read_shard(dataset, *arguments):
        fail(dataset.name)
        return read_shard(dataset, *arguments)

    def faulty_decode(data, name):
        fail(name)
        return decode(data, name)

    batchseg.steps.read_lease, batchseg.steps.predict_lease = named_read_lease, named_predict_lease
    batchseg.stitch.Stitcher.place = counted_place
    batchseg.photos.fitting.Fitting.place = counted_place_in_photograph
    batchseg.photos.worker.GroupWorker._fitting = named_fitting
    batchseg.read._read_shard = faulty_read_shard
    batchseg.photos.loading.decode = faulty_decode

    if "FAULT_STALE" in os.environ:
        import batchseg.locks

        batchseg.locks.STALE_SECONDS = float(os.environ["FAULT_STALE"])
        batchseg.locks.BEAT_SECONDS = batchseg.locks.STALE_SECONDS / 6

    if "FAULT_ALGORITHM" in os.environ:
        import batchseg.recipe

        batchseg.recipe.ALGORITHM = int(os.environ["FAULT_ALGORITHM"])

    if "FAULT_STOP" in os.environ:
        import batchseg.publishing

        part, _, number = os.environ["FAULT_STOP"].rpartition(":")
        left, counting = [int(number)], threading.Lock()

        def stopping(function, target):
            @functools.wraps(function)
            def stopped(*arguments, **options):
                with counting:
                    left[0] -= part in str(arguments[target])
                    is_now = left[0] == 0
                    left[0] -= is_now
                if is_now:
                    os.kill(os.getpid(), signal.SIGSTOP)
                return function(*arguments, **options)

            return stopped

        for name, target in (("publish", 0), ("publish_file", 1), ("create", 0), ("remove_files", 0)):
            setattr(batchseg.publishing, name, stopping(getattr(batchseg.publishing, name), target))
    batchseg.steps.write_lease = pausing_after(batchseg.steps.write_lease)
    batchseg.finish.finish_scene = pausing_after(batchseg.finish.finish_scene)
    batchseg.tables.publish_output = pausing_after(batchseg.tables.publish_output)
    batchseg.photos.worker.GroupWorker.__call__ = pausing_after(batchseg.photos.worker.GroupWorker.__call__)
    batchseg.publishing.remove_files = pausing_before(batchseg.publishing.remove_files)
