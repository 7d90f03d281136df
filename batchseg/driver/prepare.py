"""What a run needs before it plans: recipe, product, executor, and what is worth doing."""

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from batchseg.driver.events import Listener, Note
from batchseg.driver.executors.inline import InlineExecutor
from batchseg.driver.executors.watched import START_SECONDS, WatchedExecutor
from batchseg.driver.plan import Plan, Triage, in_flight_bound, triage
from batchseg.driver.progress import duration
from batchseg.driver.tasks import Executor
from batchseg.engines.base import Device
from batchseg.errors import ConfigError
from batchseg.inputs.formats import VRT_REFUSED
from batchseg.inputs.source import Source
from batchseg.job.recipe import Product, Recipe
from batchseg.job.resolve import make_recipe, named_engine, region_settings, resolve_rules, tile_size
from batchseg.job.settings import PALETTE, ClassInfo, JobConfig, ModelOptions
from batchseg.models.package import ModelFacts, ModelPackage
from batchseg.models.reading import open_model
from batchseg.output.ledger import Ledger, Record
from batchseg.output.state import OutputState, check_pixel_settings
from batchseg.pixels.area import read_area
from batchseg.pixels.read import UNDECODABLE
from batchseg.predict.engine_choice import ENGINES, Choice, choose, is_open
from batchseg.predict.facts import probed_once
from batchseg.system import publish, storage
from batchseg.system.disks import SHARED_MEMORY, free_bytes
from batchseg.system.machine import cpu_class
from batchseg.system.temp_folders import socket_root
from batchseg.system.threads import start_aside, wait_for

Stop = Callable[[], str | None]


def triage_job(
    config: JobConfig, sources: Sequence[Source], ledger: Ledger, recipe: Recipe, product: Product
) -> Triage:
    """What of a job is left to do, by the ledger and by what is still there."""
    return triage(
        sources,
        ledger,
        recipe.digest,
        product.digest,
        outputs_there(config.output),
        try_again=partial(worth_another_try, config),
    )


def worth_another_try(config: JobConfig, record: Record) -> bool:
    """Whether a source was quarantined for what the job now allows: a damaged block, or to be a VRT."""
    forgiven = config.on_bad_block == "nodata" and record.error.startswith(UNDECODABLE)
    return forgiven or (config.allow_vrt and record.error.startswith(VRT_REFUSED))


def describe_young(count: int, min_age: float) -> str:
    plural = "s" * (count > 1)
    age = duration(min_age).removesuffix(" 00 s").removesuffix(" 00 min")
    return f"{count} source{plural} changed less than {age} ago; a later run does them"


def refuse_spoiled_night(plan: Plan, config: JobConfig) -> None:
    """A job that fits none of its sources is wrong; one that does not fit a few has odd sources.

    Raises:
        ConfigError: every source is sound and none fits the job, nor ever did.
    """
    mismatches = [refusal for refusal in plan.refusals if refusal.mismatch]
    if not mismatches or plan.jobs or plan.triage.done:
        return
    first = mismatches[0]
    more = f" (and {len(mismatches) - 1} more like it)" if len(mismatches) > 1 else ""
    msg = f"{config.path} fits none of its inputs: {first.source.source_id} {first.reason}{more}"
    raise ConfigError(msg)


class LazyExecutor:
    """The executor is started when there is work, its engine as early as that is certain."""

    def __init__(self, config: JobConfig, stop: Stop, stack: contextlib.ExitStack, emit: Listener) -> None:
        self._config, self._stop, self._stack, self._emit = config, stop, stack, emit
        self._executor: Executor | None = None

    def start(self) -> Executor:
        if self._executor is None:
            if (line := describe_small_memory(self._config)) is not None:
                self._emit(Note(text=line))
            # Not in the main thread: see RayExecutor. The thread stays, as Ray's processes end with it.
            self._executor = start_aside(make_executor, self._config, self._stop, stay=True).result()
            self._stack.callback(self._executor.close)
        return self._executor


def describe_small_memory(config: JobConfig) -> str | None:
    """What is to be known of a local Ray cluster whose object store does not fit into shared memory.

    Ray keeps it in files then: containers have 64 MiB of /dev/shm unless told otherwise.
    """
    if config.executor != "ray" or config.ray_address is not None:
        return None
    needed = object_store_bytes(worker_count(config), config.max_in_flight)
    with contextlib.suppress(OSError):
        if (free := free_bytes(SHARED_MEMORY)) < needed:
            return (
                f"{SHARED_MEMORY} has {free / 2**20:.0f} MiB free, and {needed / 2**20:.0f} MiB may be in "
                f"flight: kept in {socket_root()} instead, which is slower; give the container "
                f"more (docker run --shm-size={math.ceil(needed / 2**20)}m), or lower max_in_flight"
            )
    return None


def worker_count(config: JobConfig) -> int:
    """Predictors on this machine: one per core it may use, unless the job says."""
    return config.workers or len(os.sched_getaffinity(0))


def driver_timeout(config: JobConfig) -> float:
    """Seconds until the driver gives a step up. The inline executor keeps the limit itself."""
    return math.inf if config.executor == "inline" else config.lease_timeout


def make_executor(config: JobConfig, stop: Stop) -> Executor:
    workers = worker_count(config)
    batch_size = config.batch_size
    if config.executor == "inline":
        return InlineExecutor(
            config.output,
            threads=workers,
            batch_size=batch_size,
            timeout=config.lease_timeout,
            stop=lambda: stop() is not None,
        )
    from batchseg.driver.executors.ray import (
        RayExecutor,  # half a second and 80 MB that inline runs are spared
    )

    engine = RayExecutor(
        config.output,
        address=config.ray_address,
        workers=config.workers,
        gpus_per_worker=config.gpus_per_worker,
        batch_size=batch_size,
        timeout=config.lease_timeout,
        object_store_bytes=object_store_bytes(workers, config.max_in_flight),
    )
    # One file that hangs is read twice before its header is refused.
    return WatchedExecutor(engine, header_seconds=4 * config.lease_timeout + START_SECONDS)


def object_store_bytes(workers: int, max_in_flight: int | None) -> int:
    """Room for what may be in flight, and for what Ray frees late."""
    bound = max_in_flight or in_flight_bound(workers, None)
    return int(bound * 1.25) + 64 * 2**20


def read_package(options: ModelOptions) -> ModelPackage:
    """The job's model, completed by what the job says of it. Raises ModelError."""
    package = open_model(options.path, layout=options.layout, key_file=options.key_file)
    given = {
        key: value
        for key in ("output", "threshold", "size_divisor")
        if (value := getattr(options, key)) is not None
    }
    return replace(package, **given)


def settle(
    config: JobConfig,
    package: ModelPackage,
    state: OutputState | None,
    executor: LazyExecutor,
    sources: Sequence[Source],
    emit: Listener,
    stop: Stop,
    *,
    replace_all: bool,
) -> tuple[Recipe, Product, Choice]:
    """Recipe, product and engine, checked against what the output was made with."""
    area = read_area(config.aoi) if config.aoi else None
    kept = None if replace_all else kept_choice(package, state)
    facts, device = _facts(config, package, state, executor, stop, quiet=is_open(config, kept))
    recipe = make_recipe(config, package, facts, device, area)
    product = make_product(config, recipe)
    choosing = start_aside(
        partial(
            choose,
            config,
            recipe,
            kept,
            sources,
            workers=worker_count(config),
            say=lambda line: emit(Note(text=line)),
        )
    )
    recipe, choice = wait_for(choosing, stop)
    if not replace_all:
        check_pixel_settings(state, recipe.settings(), config.output)
    return recipe, product, choice


def kept_choice(package: ModelPackage, state: OutputState | None) -> Choice | None:
    """What the output's earlier runs chose for this model."""
    if state is None or state.pixel.get("model") != package.digest:
        return None
    return state.choice


def make_product(config: JobConfig, recipe: Recipe) -> Product:
    """Raises ConfigError where the job's regions or rules name a class that is not there."""
    named = classes(config, recipe)
    regions, photographs = region_settings(config.regions, named), config.photographs
    return Product(
        classes=named,
        compress=config.compress,
        regions=regions,
        photographs=photographs,
        rules=None if photographs is None else resolve_rules(photographs, named, regions),
    )


def _facts(
    config: JobConfig,
    package: ModelPackage,
    state: OutputState | None,
    executor: LazyExecutor,
    stop: Stop,
    *,
    quiet: bool,
) -> tuple[ModelFacts, Device]:
    """What the probe tile shows. `quiet`: engines will be measured, and nothing else should work then."""
    if state is not None and _same_model(config, package, state):
        return state.facts, state.device
    # Ray takes 4 s to start, the probe 3 s: side by side. The probe forks nothing of Ray's.
    answer = start_aside(probe_model, config, package)
    if not quiet:
        executor.start()
    return wait_for(answer, stop)


def probe_model(config: JobConfig, model: ModelPackage) -> tuple[ModelFacts, Device]:
    """What one tile shows of the job's model, and the device. Raises ModelError."""
    return probed_once(
        model,
        channels=len(config.bands) if config.bands else None,
        tile_size=tile_size(config, model),
        device=config.device,
        engines=ENGINES if config.engine == "auto" else (named_engine(config, model),),
    )


def _same_model(config: JobConfig, model: ModelPackage, state: OutputState) -> bool:
    """Whether what a probe tile would show is known from an earlier run on a machine of this kind."""
    asked = {
        "model": model.digest,
        "tile_size": tile_size(config, model),
    }
    same_bands = config.bands is None or len(config.bands) == state.facts.channels
    same_device = config.device in ("auto", state.device)
    same_cpu = state.device != "cpu" or state.facts.cpu_class == cpu_class()
    return same_bands and same_device and same_cpu and all(state.pixel.get(k) == v for k, v in asked.items())


def classes(config: JobConfig, recipe: Recipe) -> tuple[ClassInfo, ...]:
    """Names and colours; a model that says how many classes it has gets `class 0`, `class 1`, ..."""
    if config.classes:
        return config.classes
    if recipe.model.classes and len(recipe.model.classes) >= (recipe.class_count or 0):
        return recipe.model.classes
    count = recipe.class_count or 0
    return tuple(ClassInfo(name=f"class {i}", color=PALETTE[i % len(PALETTE)]) for i in range(count))


def outputs_there(output: str) -> Callable[[Record], Literal["all", "mask", "none"]]:
    """What of a source's results is still there, by size. A bucket is listed once, a disk asked each time."""
    size_of = _local_size if storage.local_path(output) is not None else _ListedSizes(output)

    def there(record: Record) -> Literal["all", "mask", "none"]:
        whole = [size_of(storage.join(output, o.path)) == o.nbytes for o in record.outputs]
        if not whole or not all(
            w for w, o in zip(whole, record.outputs, strict=True) if o.path in record.layers
        ):
            return "none"
        return "all" if all(whole) else "mask"

    return there


class _ListedSizes:
    """Sizes of a bucket's results, listed when the first one is asked for."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._sizes: dict[str, int] | None = None

    def __call__(self, uri: str) -> int | None:
        if self._sizes is None:
            roots = [storage.join(self._output, folder) for folder in ("masks", "confidence", "annotations")]
            with publish.output_errors("list", self._output):
                listed = storage.at_once(storage.list_below, roots, self._output)
            self._sizes = {info.uri: info.size for infos in listed for info in infos}
        return self._sizes.get(uri)


def _local_size(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except OSError:
        return None
