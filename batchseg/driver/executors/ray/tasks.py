"""Steps as Ray tasks: what runs in a worker process, and how long the driver waits for its answer.

Tasks reserve no CPU: the predictors hold them all, and a task that asks for one would never start. Ray's own
retries are off; the driver decides what is done again.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Ray reports usage to the network unless told not to; an overnight job talks to nobody.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray 2.60 warns at every task that it will stop hiding GPUs from tasks without one.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Above 10 GB Ray refuses to keep its objects in files where /dev/shm is too small; the run says so instead.
os.environ.setdefault("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE", "1")
# Ray's C++ handler would turn a SIGTERM into an abort before the run can record what it did.
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")

import ray

from batchseg.driver.tasks import (
    Failure,
    FinishOutcome,
    FinishTask,
    Group,
    Inspected,
    finished,
    from_stream,
)
from batchseg.errors import BatchsegError
from batchseg.inputs.source import Refusal, Scene, Source
from batchseg.job.recipe import Product, Recipe
from batchseg.pixels.header import read_headers_alone, read_some_headers
from batchseg.pixels.value_samples import sample_scenes
from batchseg.pixels.values import ValueSample
from batchseg.system import storage

FETCH_SECONDS = 15.0
"""For an answer that lies on another host; it was cut off if that does not do."""

Where = dict[str, str]
"""Options of the storages: a worker process may be older than the run, or on another machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What all tasks and predictors of a run are given."""

    where: Where
    output: str
    """Root of the results."""
    recipe: Any
    product: Any
    """References: they are sent to a host once."""
    timeout: float
    """Seconds until the driver gives a step up."""


@ray.remote(num_cpus=0, max_retries=0)
def headers(where: Where, sources: list[Source]) -> list[Scene | Refusal]:
    storage.adopt(where)
    return read_some_headers(sources)


@ray.remote(num_cpus=0, max_retries=0, num_returns="streaming")
def headers_alone(where: Where, sources: list[Source], timeout: float) -> Iterator[Scene | Refusal]:
    storage.adopt(where)
    yield from read_headers_alone(sources, timeout)


@ray.remote(num_cpus=0, max_retries=0)
def samples(where: Where, recipe: Recipe, scenes: list[Scene]) -> list[ValueSample]:
    storage.adopt(where)
    return sample_scenes(scenes, recipe)


@ray.remote(num_cpus=0, max_retries=0)
def finish(where: Where, output: str, recipe: Recipe, product: Product, task: FinishTask) -> FinishOutcome:
    storage.adopt(where)
    return finished(output, recipe, product, task)


@ray.remote(num_cpus=0, max_retries=0)
def inspect_group(where: Where, recipe: Recipe, group: Group, timeout: float) -> Inspected | Failure:
    from batchseg.driver.photo_worker import inspect_photos

    try:
        storage.adopt(where)
        rows = from_stream(group.images).to_pylist()
        return inspect_photos(
            rows, recipe, timeout, memory=group.memory, alone=group.alone, usual=group.usual
        )
    except BatchsegError as e:
        return Failure.of(e, "group")
