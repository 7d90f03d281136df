"""Faults for runs in other processes: Python imports this module when PYTHONPATH names its folder.

Environment: FAULT_SLOW seconds per tile; FAULT_ABORT, FAULT_HANG parts of file names whose reading ends
or stops the process; FAULT_COUNT a file that gets a line for each tile that a predictor worked on: its
row and column (of a photograph its number, and 0), and the source's id.

FAULT_AT `STEP HOW PART`: header, read (scenes), decode (photographs), predict, write or finish of sources
whose id contains PART goes wrong: hang (waits for ever), spin (computes for ever), abort, segv, grow (takes
FAULT_GROW bytes, 1 GB, and waits), starve (grows until it is killed, as the kernel does). FAULT_ONCE: a file;
only who makes it goes wrong. FAULT_ROOM: tiles that fit into the memory of a GPU that is not there;
FAULT_SAYS: in whose words it is refused, paddle or onnxruntime.
"""

import ctypes
import dataclasses
import functools
import os
import signal
import sys
import threading
import time

RAYS_OWN = ("dashboard", "runtime_env/agent", "log_monitor", "monitor.py")
"""Processes that Ray waits for 30 s to start: these imports take longer on a machine that is busy."""

if any(name.startswith("FAULT_") for name in os.environ) and not any(
    part in argument for part in RAYS_OWN for argument in sys.orig_argv
):
    import batchseg.finish
    import batchseg.photos.fitting
    import batchseg.photos.loading
    import batchseg.photos.worker
    import batchseg.predict
    import batchseg.read
    import batchseg.steps
    import batchseg.stitch

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

    def go_wrong(step, name):
        at, how, part = os.environ.get("FAULT_AT", "- - -").split(maxsplit=2)
        if at != step or part not in name:
            return
        if once := os.environ.get("FAULT_ONCE"):
            try:
                os.close(os.open(once, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
        WRONGS[how]()

    def hang():
        while True:
            time.sleep(1)

    def spin():
        while True:
            pass

    def grow(then=hang):
        taken, most = [], int(os.environ.get("FAULT_GROW", 1_000_000_000))
        while len(taken) * 20_000_000 < most:
            taken.append(b"x" * 20_000_000)
            time.sleep(0.02)
        then()

    def starve():
        grow(lambda: os.kill(os.getpid(), signal.SIGKILL))

    WRONGS = {
        "hang": hang,
        "spin": spin,
        "abort": os.abort,
        "segv": lambda: ctypes.string_at(0),
        "grow": grow,
        "starve": starve,
    }
    SAYS = {
        "paddle": "ResourceExhaustedError: \n\nOut of memory error on GPU 0. Cannot allocate 98.000244MB "
        "memory on GPU 0, 6.000000GB memory has been allocated and available memory is only 0.000000B.",
        "onnxruntime": "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned "
        "while running Conv node. Name:'conv' Status Message: bfc_arena.cc:376 Failed to allocate memory for "
        "requested buffer of size 1073741824",
    }

    class Cramped:
        """A session on a device that has room for so many tiles."""

        def __init__(self, session):
            self.session = session

        def run(self, batch):
            if len(batch) > int(os.environ["FAULT_ROOM"]):
                words = SAYS[os.environ.get("FAULT_SAYS", "paddle")]
                raise (MemoryError if words.startswith("Resource") else RuntimeError)(words)
            return self.session.run(batch)

    def wrong_at(module, function, step, name_of):
        """Replace a module's function by one that may go wrong first."""
        original = getattr(module, function)

        @functools.wraps(original)
        def wrapped(*arguments, **options):
            go_wrong(step, name_of(*arguments))
            return original(*arguments, **options)

        setattr(module, function, wrapped)

    def work_on(row, col, name):
        go_wrong("predict", name)
        time.sleep(float(os.environ.get("FAULT_SLOW", "0")))
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

    def fail(step, name):
        go_wrong(step, name)
        if (part := os.environ.get("FAULT_ABORT")) and part in name:
            os.abort()
        while (part := os.environ.get("FAULT_HANG")) and part in name:
            time.sleep(1)

    def faulty_read_shard(dataset, *arguments):
        fail("read", dataset.name)
        return read_shard(dataset, *arguments)

    def faulty_decode(data, name):
        fail("decode", name)
        return decode(data, name)

    batchseg.steps.read_lease, batchseg.steps.predict_lease = named_read_lease, named_predict_lease
    batchseg.stitch.Stitcher.place = counted_place
    batchseg.photos.fitting.Fitting.place = counted_place_in_photograph
    batchseg.photos.worker.GroupWorker._fitting = named_fitting
    batchseg.read._read_shard = faulty_read_shard
    batchseg.photos.loading.decode = faulty_decode
    wrong_at(batchseg.read, "read_header", "header", lambda source: source.source_id)
    wrong_at(
        batchseg.steps, "write_lease", "write", lambda out, recipe, lease, masks: lease.scene.source.source_id
    )
    wrong_at(batchseg.finish, "finish_scene", "finish", lambda out, scene, *rest: scene.source.source_id)
    if "FAULT_ROOM" in os.environ:
        construct = batchseg.predict.Predictor.__init__

        def cramped(self, recipe, session, batch_size=1):
            construct(self, recipe, Cramped(session), batch_size)

        batchseg.predict.Predictor.__init__ = cramped
