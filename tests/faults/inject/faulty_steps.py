"""Reading, predicting and writing that goes wrong, in the processes of a run.

Environment: FAULT_SLOW_READ seconds before a shard or a photograph is read; FAULT_ABORT, FAULT_HANG parts of
file names whose reading ends or stops the process; FAULT_DEFECT of those whose reading raises an error that
says the whole environment.

FAULT_AT `STEP HOW PART`: header, read (scenes), decode (photographs), predict, write or finish of sources
whose id contains PART goes wrong: hang (waits for ever), spin (computes for ever), abort, segv, grow (takes
FAULT_GROW bytes, 1 GB, and waits), starve (grows until it is killed, as the kernel does). FAULT_ONCE: a file;
only who makes it goes wrong. FAULT_ROOM: tiles that fit into the memory of a GPU that is not there;
FAULT_SAYS: in whose words it is refused, paddle or onnxruntime. FAULT_ALGORITHM: another one of the recipe.
"""

import ctypes
import dataclasses
import functools
import os
import signal
import threading
import time

import batchseg.driver.photo_worker
import batchseg.driver.scene_worker
import batchseg.job.recipe
import batchseg.output.scene_mask
import batchseg.pixels.photo.load
import batchseg.pixels.read
import batchseg.predict.photo
import batchseg.predict.predictor
import batchseg.predict.stitch

_current = threading.local()
_names = {}
"""Source ids by the `id` of what stitches them."""

SAYS = {
    "paddle": "ResourceExhaustedError: \n\nOut of memory error on GPU 0. Cannot allocate 98.000244MB "
    "memory on GPU 0, 6.000000GB memory has been allocated and available memory is only 0.000000B.",
    "onnxruntime": "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned "
    "while running Conv node. Name:'conv' Status Message: bfc_arena.cc:376 Failed to allocate memory for "
    "requested buffer of size 1073741824",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NamedPixels(batchseg.driver.scene_worker.LeasePixels):
    """Pixels that know whose they are."""

    source_id: str


class Cramped:
    """A session on a device that has room for so many tiles."""

    def __init__(self, session):
        self.session = session

    def run(self, batch):
        if len(batch) > int(os.environ["FAULT_ROOM"]):
            words = SAYS[os.environ.get("FAULT_SAYS", "paddle")]
            raise (MemoryError if words.startswith("Resource") else RuntimeError)(words)
        return self.session.run(batch)


def _name_of(dataset) -> str:
    """A scene of several files has none."""
    return getattr(dataset, "name", "")


def install():
    """Put the faults into batchseg's modules; functions keep their names, by which Ray finds them."""
    batchseg.driver.scene_worker.read_lease = _naming(batchseg.driver.scene_worker.read_lease)
    batchseg.driver.scene_worker.predict_lease = _knowing(batchseg.driver.scene_worker.predict_lease)
    batchseg.predict.stitch.Stitcher.place = _counting(batchseg.predict.stitch.Stitcher.place)
    fitting, worker = batchseg.predict.photo.Fitting, batchseg.driver.photo_worker.GroupWorker
    fitting.place = _counting_photographs(fitting.place)
    worker._fitting = _naming_photographs(worker._fitting)
    loading = batchseg.pixels.photo.load
    loading.decode = _before(loading.decode, lambda data, name: _fail("decode", name))
    read = batchseg.pixels.read
    read._read_shard = _before(
        read._read_shard, lambda dataset, *_: _fail("read", getattr(dataset, "name", ""))
    )
    read.read_header = _before(read.read_header, lambda source: go_wrong("header", source.source_id))
    batchseg.driver.scene_worker.write_lease = _before(
        batchseg.driver.scene_worker.write_lease,
        lambda output, recipe, lease, masks: go_wrong("write", lease.scene.source.source_id),
    )
    batchseg.output.scene_mask.finish_scene = _before(
        batchseg.output.scene_mask.finish_scene,
        lambda output, scene, *_: go_wrong("finish", scene.source.source_id),
    )
    if "FAULT_ROOM" in os.environ:
        construct = batchseg.predict.predictor.Predictor.__init__

        def cramped(self, recipe, session, batch_size=1):
            construct(self, recipe, Cramped(session), batch_size)

        batchseg.predict.predictor.Predictor.__init__ = cramped
    if "FAULT_ALGORITHM" in os.environ:
        batchseg.job.recipe.ALGORITHM = int(os.environ["FAULT_ALGORITHM"])


def go_wrong(step, name):
    """Do what FAULT_AT says of this step of this source."""
    at, how, part = os.environ.get("FAULT_AT", "- - -").split(maxsplit=2)
    if at != step or part not in name:
        return
    if once := os.environ.get("FAULT_ONCE"):
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    {"hang": _hang, "spin": _spin, "abort": os.abort, "segv": _segv, "grow": _grow, "starve": _starve}[how]()


def _fail(step, name):
    time.sleep(float(os.environ.get("FAULT_SLOW_READ", "0")))
    go_wrong(step, name)
    if (part := os.environ.get("FAULT_ABORT")) and part in name:
        os.abort()
    if (part := os.environ.get("FAULT_DEFECT")) and part in name:
        raise RuntimeError(f"{name}: {dict(os.environ)}")
    if (part := os.environ.get("FAULT_HANG")) and part in name:
        _hang()


def _hang():
    while True:
        time.sleep(1)


def _spin():
    while True:
        pass


def _segv():
    ctypes.string_at(0)


def _grow(then=_hang):
    taken, most = [], int(os.environ.get("FAULT_GROW", 1_000_000_000))
    while len(taken) * 20_000_000 < most:
        taken.append(b"x" * 20_000_000)
        time.sleep(0.02)
    then()


def _starve():
    _grow(lambda: os.kill(os.getpid(), signal.SIGKILL))


def _before(function, fault):
    @functools.wraps(function)
    def wrapped(*arguments, **options):
        fault(*arguments)
        return function(*arguments, **options)

    return wrapped


def _naming(read_lease):
    @functools.wraps(read_lease)
    def wrapped(recipe, lease):
        pixels = read_lease(recipe, lease)
        fields = {field.name: getattr(pixels, field.name) for field in dataclasses.fields(pixels)}
        return NamedPixels(**fields, source_id=lease.scene.source.source_id)

    return wrapped


def _knowing(predict_lease):
    @functools.wraps(predict_lease)
    def wrapped(predictor, recipe, pixels, *arguments, **options):
        _current.name = pixels.source_id
        return predict_lease(predictor, recipe, pixels, *arguments, **options)

    return wrapped


def _naming_photographs(fitting_of):
    @functools.wraps(fitting_of)
    def wrapped(self, loaded, clock):
        fitting = fitting_of(self, loaded, clock)
        _names[id(fitting)] = loaded.row["source_id"]
        return fitting

    return wrapped


def _counting(place):
    @functools.wraps(place)
    def wrapped(self, tile, output, valid):
        if (name := getattr(_current, "name", None)) is not None:
            _work_on(tile.core.row_off, tile.core.col_off, name)
        place(self, tile, output, valid)

    return wrapped


def _counting_photographs(place):
    @functools.wraps(place)
    def wrapped(self, number, answer):
        _work_on(number, 0, _names[id(self)])
        place(self, number, answer)

    return wrapped


def _work_on(row, col, name):
    go_wrong("predict", name)
    time.sleep(float(os.environ.get("FAULT_SLOW", "0")))
    if path := os.environ.get("FAULT_COUNT"):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{row} {col} {name}\n".encode())
        os.close(descriptor)
