"""Where faults enter batchseg: all of its names that the injectors know, and the one way to replace them.

A fault names the parameters that it reads. Where the code has no such function or parameter any
more, `around` raises; tests/faults/test_inject.py runs real jobs through every seam.

Environment: FAULT_PASSED a file that gets a line for each seam that a process comes by, and for each step
of a source that could go wrong there.
"""

import functools
import inspect
import os
from dataclasses import dataclass
from typing import Any

import batchseg.driver.photo_worker
import batchseg.driver.scene_worker
import batchseg.driver.tasks
import batchseg.job.recipe
import batchseg.output.lock
import batchseg.output.publish
import batchseg.output.region_parts
import batchseg.pixels.header
import batchseg.pixels.photo.load
import batchseg.pixels.read
import batchseg.predict.photo
import batchseg.predict.predictor
import batchseg.predict.stitch


@dataclass(frozen=True, slots=True)
class Seam:
    """A function of a module, or a method of a class, that its callers look up when they call it."""

    owner: Any
    name: str

    def __str__(self):
        return f"{self.owner.__name__}.{self.name}"

    def around(self, fault):
        """Put a fault in place of the function, which keeps its name, by which Ray finds it.

        Args:
            fault: called with `call` and with those arguments that its other parameters name; what it returns
                is what the caller gets. `call()` does what the function would have done, with arguments that
                are given to it by name in place of the caller's.

        Raises:
            TypeError: the function has no such parameter.
        """
        function = getattr(self.owner, self.name)
        signature = inspect.signature(function)
        asked = list(inspect.signature(fault).parameters)[1:]
        if missing := [name for name in asked if name not in signature.parameters]:
            raise TypeError(f"{self} has no parameter {' or '.join(missing)}: {signature}")

        @functools.wraps(function)
        def wrapped(*arguments, **options):
            bound = signature.bind(*arguments, **options)
            bound.apply_defaults()
            note(str(self))

            def call(**changed):
                bound.arguments.update(changed)
                return function(*bound.args, **bound.kwargs)

            return fault(call, *(bound.arguments[name] for name in asked))

        setattr(self.owner, self.name, wrapped)


@dataclass(frozen=True, slots=True)
class Constant:
    """A number that its module reads at each use."""

    owner: Any
    name: str

    def set(self, value):
        """Raises AttributeError where there is none."""
        getattr(self.owner, self.name)
        setattr(self.owner, self.name, value)


READ_HEADER = Seam(batchseg.pixels.header, "read_header")
READ_SHARD = Seam(batchseg.pixels.read, "_read_shard")
READ_LEASE = Seam(batchseg.driver.scene_worker, "read_lease")
PREDICT_LEASE = Seam(batchseg.driver.scene_worker, "predict_lease")
WRITE_LEASE = Seam(batchseg.driver.scene_worker, "write_lease")
FINISH_SCENE = Seam(batchseg.driver.tasks, "finish_scene")
FINISH_IN_LEASE = Seam(batchseg.driver.scene_worker, "finish_scene")
PLACE_TILE = Seam(batchseg.predict.stitch.Stitcher, "place")
LOAD_NETWORK = Seam(batchseg.predict.predictor.Predictor, "__init__")

DECODE_PHOTOGRAPH = Seam(batchseg.pixels.photo.load, "decode")
FIT_PHOTOGRAPH = Seam(batchseg.driver.photo_worker.GroupWorker, "_fitted")
RUN_BATCH = Seam(batchseg.driver.photo_worker.GroupWorker, "_run")
PLACE_ANSWER = Seam(batchseg.predict.photo.Fitting, "place")
DO_GROUP = Seam(batchseg.driver.photo_worker.GroupWorker, "__call__")

PUBLISH = Seam(batchseg.output.publish, "publish")
PUBLISH_FILE = Seam(batchseg.output.publish, "publish_file")
CREATE = Seam(batchseg.output.publish, "create")
REMOVE_FILES = Seam(batchseg.output.publish, "remove_files")
PUBLISH_PART = Seam(batchseg.output.region_parts, "publish_output")

SEAMS = [value for value in globals().values() if isinstance(value, Seam)]

ALGORITHM = Constant(batchseg.job.recipe, "ALGORITHM")
BEAT_SECONDS = Constant(batchseg.output.lock, "BEAT_SECONDS")
STALE_SECONDS = Constant(batchseg.output.lock, "STALE_SECONDS")

LeasePixels = batchseg.driver.scene_worker.LeasePixels
"""What READ_LEASE gives and PREDICT_LEASE takes, perhaps in another process."""

_noted = set()


def note(line):
    """Write down, once, what this process came by."""
    path = os.environ.get("FAULT_PASSED")
    if path is None or line in _noted:
        return
    _noted.add(line)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)
