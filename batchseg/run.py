"""A whole run, from the job file's values to the summary: the order in which everything happens."""

import contextlib
import dataclasses
import datetime as dt
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batchseg import storage
from batchseg.aoi import read_area
from batchseg.aside import start_aside, wait_for
from batchseg.config import PALETTE, ClassInfo, JobConfig
from batchseg.driver import Driver, Tally
from batchseg.errors import BatchsegError, ConfigError, ModelError, SourceIOError, StoppedError
from batchseg.events import Event, Listener, Note, PhaseStarted, PlanReady
from batchseg.executors import Executor, Slot
from batchseg.executors.inline import InlineExecutor
from batchseg.inputs import InputRoot, find_sources
from batchseg.items import write_items
from batchseg.ledger import Ledger, Record
from batchseg.locks import Lock, hold
from batchseg.model import ModelFacts, ModelFiles, read_model
from batchseg.plan import Estimate, Plan, Triage, estimate, in_flight_bound, make_plan, triage
from batchseg.predict import cpu_class, probe
from batchseg.progress import LogListener, Sums, duration
from batchseg.read import UNDECODABLE
from batchseg.recipe import Product, Recipe, make_recipe, region_settings
from batchseg.runlog import RunLog
from batchseg.scene import Refusal
from batchseg.scratch import run_folder
from batchseg.state import OutputState, check_pixel_settings, load_state, save_state
from batchseg.tables import tidy
from batchseg.write import discard_leftovers, fragments_exist

Stop = Callable[[], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run did."""

    output: str
    log: str
    tally: Tally
    skipped: int
    """Done, or quarantined, by earlier runs."""
    still_quarantined: int
    vanished: tuple[str, ...]
    young: int
    """Changed less than `min_age` ago: left to a later run."""
    sums: Sums
    refused: tuple[Record, ...]
    damaged: tuple[Record, ...]
    """Done in this run, with blocks that cannot be decoded."""


def new_run_id() -> str:
    return f"{dt.datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def run_job(
    config: JobConfig,
    *,
    run_id: str,
    listeners: Sequence[Listener],
    on_log: Callable[[str], None],
    stop: Stop,
    replace: bool,
) -> Report:
    """Do what is left of a job.

    Args:
        config: the job.
        run_id: appears in the log and in the runs folder, never in a result.
        listeners: hear every event.
        on_log: told the path of a file for what libraries print, as soon as there is a folder for it.
        stop: asked often; a reason in words ends the run.
        replace: predict everything again under other pixel settings.

    Raises:
        BatchsegError: one of errors.py; its exit code says how the run ended.
    """
    storage.configure(config.storage)
    log = RunLog(config.output, run_id)
    with (
        run_folder() as folder,
        _unless_refused(config.output),
        hold(config.output, run_id, also=log.publish) as lock,
        log.opened(folder) as logger,
    ):
        on_log(str(log.path.with_name("libraries.txt")))
        sums = Sums()
        listening: list[Listener] = [sums, LogListener(logger), *listeners]
        run = _Run(config, lock, sums=sums, listeners=listening, stop=stop, log=log.uri)
        logger.info("job %s, output %s", config.path, config.output)
        try:
            report = run.go(run_id, replace=replace)
        except BatchsegError as e:
            logger.error("%s: %s", type(e).__name__, e)
            raise
        except Exception:
            logger.exception("a defect of batchseg")
            raise
        logger.info("finished: %s", report.tally)
        _save_summary(config.output, run_id, report)
        return report


@contextlib.contextmanager
def _unless_refused(output: str) -> Iterator[None]:
    """A job that is refused leaves no folder behind that was not there before."""
    folder = storage.join(output, "_batchseg")
    fresh = not _exists(folder)
    try:
        yield
    except (ConfigError, ModelError):
        if fresh and not _exists(storage.join(folder, "output.json")):
            with contextlib.suppress(BatchsegError):
                storage.remove(folder)
            if (path := storage.local_path(output)) is not None:
                with contextlib.suppress(OSError):
                    path.rmdir()
        raise


def _exists(uri: str) -> bool:
    """Whether a file or folder is there; False where the storage does not answer, which others will say."""
    try:
        return storage.is_folder(uri) or storage.file_info(uri) is not None
    except (OSError, SourceIOError):
        return False


class _Run:
    """The parts of one run, in the order of `go`."""

    def __init__(
        self,
        config: JobConfig,
        lock: Lock,
        *,
        sums: Sums,
        listeners: Sequence[Listener],
        stop: Stop,
        log: str,
    ) -> None:
        self._config, self._lock, self._sums, self._listeners = config, lock, sums, listeners
        self._stop: Stop = lambda: lock.lost() or stop()
        self._log = log

    def _emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def go(self, run_id: str, *, replace: bool) -> Report:
        config = self._config
        self._emit(PhaseStarted(text="checking the model and listing inputs"))
        model = read_model(config.model)
        state = load_state(config.output)
        sources, roots = find_sources(config, state.roots if state else {})
        ledger = Ledger(config.output)
        with contextlib.ExitStack() as stack:
            executor = _LazyExecutor(config, self._stop, stack)
            recipe, product = _settle(config, model, state, executor, self._stop, replace=replace)
            ledger.claim(run_id)
            triaged = triage(
                sources,
                ledger,
                recipe.digest,
                product.digest,
                masks_there(config.output),
                try_again=partial(worth_another_try, config),
            )
            remember = partial(self._remember, recipe, product, roots, triaged.vanished, state)
            if triaged.vanished:
                self._emit(
                    Note(
                        text=f"{len(triaged.vanished)} sources are gone from the inputs; their results are "
                        f"kept until `batchseg prune {self._config.output}`"
                    )
                )
            if triaged.young:
                self._emit(Note(text=describe_young(triaged.young, config.min_age)))
            if triaged.todo:
                return self._work(executor, recipe, product, ledger, triaged, remember)
            remember()
            self._emit(Note(text=f"nothing to do: {triaged.done} sources are done"))
            return self._end(ledger, product, Tally(), triaged, ())

    def _remember(
        self,
        recipe: Recipe,
        product: Product,
        roots: dict[str, InputRoot],
        vanished: tuple[str, ...],
        state: OutputState | None,
    ) -> None:
        new = OutputState(
            pixel=recipe.settings(),
            device=recipe.device,
            facts=recipe.facts,
            roots=roots,
            classes=tuple(info.name for info in product.classes),
            vanished=vanished,
        )
        if new != state:
            save_state(self._config.output, new)

    def _work(
        self,
        executor: "_LazyExecutor",
        recipe: Recipe,
        product: Product,
        ledger: Ledger,
        triaged: Triage,
        remember: Callable[[], None],
    ) -> Report:
        config = self._config
        self._emit(PhaseStarted(text=f"starting predictors, reading {len(triaged.todo)} headers"))
        running = executor.start()
        slots_to_come = start_aside(running.start, recipe, product)  # headers are read while models load
        headers = []
        for header in running.headers(triaged.todo):
            headers.append(header)
            if reason := self._stop():
                raise StoppedError(reason)
        slots = wait_for(slots_to_come, self._stop)
        plan = make_plan(
            triaged,
            headers,
            recipe=recipe,
            product=product,
            ledger=ledger,
            cpu_classes=[slot.cpu_class for slot in slots],
            workers=len(slots),
            shard_tiles=config.shard_tiles,
            fragments_exist=partial(fragments_exist, config.output),
        )
        refuse_spoiled_night(plan, config)
        remember()
        numbers = estimate(plan, recipe, len(slots), config.max_in_flight)
        self._emit(
            PlanReady(
                scenes=len(plan.jobs) + len(plan.refusals),
                tiles=numbers.tiles,
                pixels=numbers.source_pixels,
                skipped=triaged.done,
            )
        )
        return self._drive(running, slots, recipe, product, ledger, plan, numbers)

    def _drive(
        self,
        executor: Executor,
        slots: Sequence[Slot],
        recipe: Recipe,
        product: Product,
        ledger: Ledger,
        plan: Plan,
        numbers: Estimate,
    ) -> Report:
        driver = Driver(
            output=self._config.output,
            recipe=recipe,
            ledger=ledger,
            executor=executor,
            slots=slots,
            emit=self._emit,
            stop=self._stop,
            in_flight_bytes=numbers.in_flight_bytes,
            lease_timeout=self._config.lease_timeout,
            stop_after=self._config.stop_after,
            epoch=self._lock.epoch,
        )
        try:
            driver.run(plan.jobs, [_record(refusal) for refusal in plan.refusals])
        except (StoppedError, ModelError) as e:
            # The table shows what there is; the snapshot waits for a run that is not in a hurry.
            with contextlib.suppress(BatchsegError):
                self._lock.check()
                names, gone = product_names(product), plan.triage.vanished
                write_items(self._config.output, ledger.sources(), names, gone)
            msg = f"{e} [{driver.tally.shards} shards recorded in this run; the same command goes on]"
            raise type(e)(msg) from e
        tags = {job.scene.source.source_id for job in plan.jobs} | {r.source.source_id for r in plan.refusals}
        records = [record for record in ledger.sources() if record.source_id in tags]
        return self._end(ledger, product, driver.tally, plan.triage, records)

    def _end(
        self, ledger: Ledger, product: Product, tally: Tally, triaged: Triage, records: Sequence[Record]
    ) -> Report:
        self._lock.check()
        tidy(self._config.output, ledger)
        ledger.merge()
        discard_leftovers(self._config.output, ledger.unfinished())
        write_items(self._config.output, ledger.sources(), product_names(product), triaged.vanished)
        self._sums.ended = time.monotonic()
        return Report(
            output=self._config.output,
            log=self._log,
            tally=tally,
            skipped=triaged.done,
            still_quarantined=triaged.quarantined,
            vanished=triaged.vanished,
            young=triaged.young,
            sums=self._sums,
            refused=tuple(record for record in records if record.status != "done"),
            damaged=tuple(record for record in records if record.status == "done" and record.bad_pixels),
        )


def worth_another_try(config: JobConfig, record: Record) -> bool:
    """Whether a source was quarantined for a damaged block, and the job now leaves such blocks out."""
    return config.on_bad_block == "nodata" and record.error.startswith(UNDECODABLE)


def describe_young(count: int, min_age: float) -> str:
    plural = "s" * (count > 1)
    age = duration(min_age).removesuffix(" 00 s").removesuffix(" 00 min")
    return f"{count} source{plural} changed less than {age} ago; a later run does them"


def product_names(product: Product) -> tuple[str, ...]:
    return tuple(info.name for info in product.classes)


def _record(refusal: Refusal) -> Record:
    return Record(
        status="failed" if refusal.transient else "quarantined",
        source_id=refusal.source.source_id,
        tag=refusal.source.tag,
        error=refusal.reason,
        uri=refusal.source.uri,
    )


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


class _LazyExecutor:
    """The executor is started when there is work, its engine as early as that is certain."""

    def __init__(self, config: JobConfig, stop: Stop, stack: contextlib.ExitStack) -> None:
        self._config, self._stop, self._stack = config, stop, stack
        self._executor: Executor | None = None

    def start(self) -> Executor:
        if self._executor is None:
            # Not in the main thread: see RayExecutor. The thread stays, as Ray's processes end with it.
            self._executor = start_aside(make_executor, self._config, self._stop, stay=True).result()
            self._stack.callback(self._executor.close)
        return self._executor


def worker_count(config: JobConfig) -> int:
    """Predictors on this machine: one per core it may use, unless the job says."""
    return config.workers or len(os.sched_getaffinity(0))


def make_executor(config: JobConfig, stop: Stop) -> Executor:
    workers = worker_count(config)
    batch_size = config.batch_size or 1
    if config.executor == "inline":
        return InlineExecutor(
            config.output,
            threads=workers,
            batch_size=batch_size,
            timeout=config.lease_timeout,
            stop=lambda: stop() is not None,
        )
    from batchseg.executors.ray import RayExecutor  # half a second and 80 MB that inline runs are spared

    return RayExecutor(
        config.output,
        address=config.ray_address,
        workers=config.workers,
        gpus_per_worker=config.gpus_per_worker,
        batch_size=batch_size,
        timeout=config.lease_timeout,
        object_store_bytes=object_store_bytes(workers, config.max_in_flight),
    )


def object_store_bytes(workers: int, max_in_flight: int | None) -> int:
    """Room for what may be in flight, and for what Ray frees late."""
    bound = max_in_flight or in_flight_bound(workers, None)
    return int(bound * 1.25) + 64 * 2**20


def _settle(
    config: JobConfig,
    model: ModelFiles,
    state: OutputState | None,
    executor: _LazyExecutor,
    stop: Stop,
    *,
    replace: bool,
) -> tuple[Recipe, Product]:
    """Recipe and product, checked against what the output was made with."""
    area = read_area(config.aoi) if config.aoi else None
    facts, device = _facts(config, model, state, executor, stop)
    recipe = make_recipe(config, model, facts, device, area)
    if not replace:
        check_pixel_settings(state, recipe.settings(), config.output)
    return recipe, make_product(config, recipe)


def make_product(config: JobConfig, recipe: Recipe) -> Product:
    """Raises ConfigError where the job's regions name a class that is not there."""
    named = classes(config, recipe)
    return Product(classes=named, compress=config.compress, regions=region_settings(config.regions, named))


def _facts(
    config: JobConfig, model: ModelFiles, state: OutputState | None, executor: _LazyExecutor, stop: Stop
) -> tuple[ModelFacts, str]:
    if state is not None and _same_model(config, model, state):
        return state.facts, state.device
    # Ray takes 4 s to start, the probe 3 s: side by side. The probe forks nothing of Ray's.
    answer = start_aside(probe_model, config, model)
    executor.start()
    return wait_for(answer, stop)


def probe_model(config: JobConfig, model: ModelFiles) -> tuple[ModelFacts, str]:
    """What one tile shows of the job's model, and the device. Raises ModelError."""
    return probe(
        model,
        channels=len(config.bands) if config.bands else None,
        tile_size=config.tile_size,
        precision=config.precision,
        device=config.device,
    )


def _same_model(config: JobConfig, model: ModelFiles, state: OutputState) -> bool:
    """Whether what a probe tile would show is known from an earlier run on a machine of this kind."""
    asked = {
        "model": model.digest,
        "precision": config.precision,
        "tile_size": config.tile_size,
    }
    same_bands = config.bands is None or len(config.bands) == state.facts.channels
    same_device = config.device in ("auto", state.device)
    same_cpu = state.device != "cpu" or state.facts.cpu_class == cpu_class()
    return same_bands and same_device and same_cpu and all(state.pixel.get(k) == v for k, v in asked.items())


def classes(config: JobConfig, recipe: Recipe) -> tuple[ClassInfo, ...]:
    """Names and colours; a model that says how many classes it has gets `class 0`, `class 1`, ..."""
    if config.classes:
        return config.classes
    count = recipe.class_count or 0
    return tuple(ClassInfo(name=f"class {i}", color=PALETTE[i % len(PALETTE)]) for i in range(count))


def masks_there(output: str) -> Callable[[Record], bool]:
    """Whether a source's mask is still there, whole. A bucket is listed once, a disk is asked each time."""
    size_of: Callable[[str], int | None] = _local_size
    if storage.local_path(output) is None:
        sizes = {info.uri: info.size for info in storage.list_files(storage.join(output, "masks"))}
        size_of = sizes.get
    return lambda record: (
        bool(record.outputs)
        and size_of(storage.join(output, *record.mask.split("/"))) == record.outputs[0].nbytes
    )


def _local_size(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except OSError:
        return None


def _save_summary(output: str, run_id: str, report: Report) -> None:
    sums = report.sums
    document = {
        **dataclasses.asdict(report.tally),
        "skipped": report.skipped,
        "young": report.young,
        "bad_pixels": {record.source_id: record.bad_pixels for record in report.damaged},
        "tiles": sums.tiles,
        "pixels": sums.pixels,
        "seconds": round(time.monotonic() - sums.started, 3),
        "seconds_after_start": round(sums.elapsed, 3),
        "step_seconds": {step: round(seconds, 3) for step, seconds in sums.seconds.items()},
    }
    uri = storage.join(output, "_batchseg", "runs", run_id, "summary.json")
    storage.publish(uri, json.dumps(document, indent=1).encode())
