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
import os
import signal
import time

import seams

_current = []
"""Ids of the sources whose tiles the network is given now: a process has one predictor."""

_names = {}
"""Source ids by the `id` of what fits a photograph."""

SAYS = {
    "paddle": "ResourceExhaustedError: \n\nOut of memory error on GPU 0. Cannot allocate 98.000244MB "
    "memory on GPU 0, 6.000000GB memory has been allocated and available memory is only 0.000000B.",
    "onnxruntime": "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned "
    "while running Conv node. Name:'conv' Status Message: bfc_arena.cc:376 Failed to allocate memory for "
    "requested buffer of size 1073741824",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NamedPixels(seams.LeasePixels):
    """Pixels that know whose they are."""

    source_id: str


class Session:
    """A session in which the step `predict` goes wrong, on a device that has room for so many tiles."""

    def __init__(self, session):
        self.session = session

    def run(self, batch):
        for name in list(_current):
            go_wrong("predict", name)
        if len(batch) > int(os.environ.get("FAULT_ROOM", len(batch))):
            words = SAYS[os.environ.get("FAULT_SAYS", "paddle")]
            raise (MemoryError if words.startswith("Resource") else RuntimeError)(words)
        return self.session.run(batch)


def install():
    """Put the faults into batchseg."""
    seams.READ_HEADER.around(_read_header)
    seams.READ_SHARD.around(_read_shard)
    seams.READ_LEASE.around(_read_lease)
    seams.PREDICT_LEASE.around(_predict_lease)
    seams.PLACE_TILE.around(_place_tile)
    seams.WRITE_LEASE.around(_write_lease)
    seams.FINISH_SCENE.around(_finish_scene)
    seams.FINISH_IN_LEASE.around(_finish_scene)
    seams.DECODE_PHOTOGRAPH.around(_decode_photograph)
    seams.FIT_PHOTOGRAPH.around(_fit_photograph)
    seams.RUN_BATCH.around(_run_batch)
    seams.PLACE_ANSWER.around(_place_answer)
    seams.LOAD_NETWORK.around(lambda call, session: call(session=Session(session)))
    if "FAULT_ALGORITHM" in os.environ:
        seams.ALGORITHM.set(int(os.environ["FAULT_ALGORITHM"]))


def go_wrong(step, name):
    """Do what FAULT_AT says of this step of this source."""
    seams.note(f"{step} {name}")
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


def _read_header(call, source):
    go_wrong("header", source.source_id)
    return call()


def _read_shard(call, dataset):
    _fail("read", getattr(dataset, "name", ""))  # a scene of several files has none
    return call()


def _read_lease(call, lease):
    pixels = call()
    fields = {field.name: getattr(pixels, field.name) for field in dataclasses.fields(pixels)}
    return NamedPixels(**fields, source_id=lease.scene.source.source_id)


def _predict_lease(call, pixels):
    _current[:] = [pixels.source_id]
    return call()


def _place_tile(call, tile):
    if _current:
        _work_on(tile.core.row_off, tile.core.col_off, _current[0])
    return call()


def _write_lease(call, lease):
    go_wrong("write", lease.scene.source.source_id)
    return call()


def _finish_scene(call, scene):
    go_wrong("finish", scene.source.source_id)
    return call()


def _decode_photograph(call, name):
    _fail("decode", name)
    return call()


def _fit_photograph(call, loaded):
    fitted = call()
    if fitted is not None:
        _names[id(fitted[0])] = loaded.row["source_id"]
    return fitted


def _run_batch(call, batch):
    _current[:] = dict.fromkeys(_names[id(fitting)] for fitting, _ in batch)
    return call()


def _place_answer(call, self, number):
    _work_on(number, 0, _names[id(self)])
    return call()


def _work_on(row, col, name):
    time.sleep(float(os.environ.get("FAULT_SLOW", "0")))
    if path := os.environ.get("FAULT_COUNT"):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{row} {col} {name}\n".encode())
        os.close(descriptor)
