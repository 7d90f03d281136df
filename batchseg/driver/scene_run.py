"""A run over scenes, from the listing to the tables: the order in which everything happens."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from batchseg.driver.bottleneck import is_badly_tiled, setting_of
from batchseg.driver.class_shares import class_shares
from batchseg.driver.commit import refusal_record
from batchseg.driver.context import JobContext
from batchseg.driver.events import Note, PhaseStarted, PlanReady, Setting, WorkEnded
from batchseg.driver.executors.start import LazyExecutor, driver_timeout
from batchseg.driver.loop import Tally
from batchseg.driver.plan import Estimate, Plan, estimate, make_plan, refuse_unfit_job
from batchseg.driver.prepare import prepare
from batchseg.driver.report import Report
from batchseg.driver.scene_area import refuse_area_elsewhere
from batchseg.driver.scene_loop import SceneLoop
from batchseg.driver.scene_triage import Triage, triage_job
from batchseg.driver.scene_warnings import scene_warnings
from batchseg.driver.tasks import Executor, Slot
from batchseg.driver.value_check import judge, look_at_scenes
from batchseg.errors import BatchsegError, ModelError, StoppedError
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.listing import find_sources
from batchseg.job.recipe import Product, Recipe
from batchseg.models.reading import read_package
from batchseg.output.class_sums import ClassSums, class_sums
from batchseg.output.fragments import discard_leftovers, fragments_exist
from batchseg.output.items import write_items
from batchseg.output.ledger import Ledger
from batchseg.output.record import SceneRecord
from batchseg.output.region_parts import tidy
from batchseg.output.state import load_state
from batchseg.system.amounts import are, counted
from batchseg.system.threads import start_aside, wait_for


class SceneRun:
    """The parts of one run, in the order of `go`."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._before = ClassSums()
        self._config, self._lock, self._sums = context.config, context.lock, context.sums
        self._stop, self._emit, self._log, self._run_id = (
            context.stop,
            context.emit,
            context.log,
            context.run_id,
        )
        self._warnings: tuple[str, ...] = ()

    def go(self, *, replace: bool) -> Report:
        config = self._config
        self._emit(PhaseStarted(text="checking the model and listing inputs"))
        package = read_package(config.model)
        state, left_out = load_state(config.output), LeftOut()
        sources, roots = find_sources(config, state.roots if state else {}, left_out)
        self._left_out = left_out.lines()
        ledger = Ledger(config.output)
        with contextlib.ExitStack() as stack:
            executor = LazyExecutor(config, self._stop, stack, self._emit)
            recipe, product, choice = prepare(
                config, package, state, executor, sources, self._emit, self._stop, replace_all=replace
            )
            ledger.claim(self._run_id, self._lock.guard)
            triaged = triage_job(config, sources, ledger, recipe, product)
            self._choice = choice
            self._context.note_left_out(self._left_out, gone=len(triaged.vanished), young=triaged.young)
            remember = partial(
                self._context.remember,
                recipe,
                product,
                roots=roots,
                choice=choice,
                vanished=triaged.vanished,
                before=state,
            )
            if triaged.todo:
                return self._work(executor, recipe, product, ledger, triaged, remember)
            remember()
            self._emit(
                Note(text=f"nothing to do: {counted(triaged.done, 'source')} {are(triaged.done)} done")
            )
            return self._end(ledger, product, Tally(), triaged, ())

    def _work(
        self,
        executor: "LazyExecutor",
        recipe: Recipe,
        product: Product,
        ledger: Ledger,
        triaged: Triage,
        remember: Callable[[], None],
    ) -> Report:
        config = self._config
        self._emit(PhaseStarted(text=f"starting predictors, reading {counted(len(triaged.todo), 'header')}"))
        running = executor.start()
        slots_to_come = start_aside(running.start, recipe, product)  # headers are read while models load
        self._before = class_sums(ledger.table())
        headers = wait_for(start_aside(lambda: list(running.headers(triaged.todo))), self._stop)
        looking = start_aside(look_at_scenes, headers, recipe, running.samples)
        slots = wait_for(slots_to_come, self._stop)
        looked = judge(wait_for(looking, self._stop), recipe, config)
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
        refuse_unfit_job(plan, config, looked.remedy)
        refuse_area_elsewhere(plan, recipe, config)
        self._context.tell_values(looked)
        self._warnings = scene_warnings(plan, recipe)
        for line in self._warnings:
            self._emit(Note(text=f"warning: {line}"))
        remember()
        numbers = estimate(plan, recipe, len(slots), config.max_in_flight)
        self._emit(
            PlanReady(
                scenes=len(plan.jobs) + len(plan.refusals),
                tiles=numbers.tiles,
                pixels=numbers.source_pixels,
                skipped=triaged.done,
                slots=len(slots),
                setting=self._setting(recipe, product, plan),
            )
        )
        return self._drive(running, slots, recipe, product, ledger, plan, numbers)

    def _setting(self, recipe: Recipe, product: Product, plan: Plan) -> Setting:
        scenes = [job.scene for job in plan.jobs]
        pixels = sum(scene.height * scene.width for scene in scenes) or 1
        bad = (
            scene.height * scene.width
            for scene in scenes
            if is_badly_tiled(scene.block_hw, (scene.height, scene.width), recipe.tile_size)
        )
        remote = sum(not scene.source.is_local for scene in scenes)
        return replace(
            setting_of(self._config, recipe, product),
            remote=2 * remote > len(scenes),
            badly_tiled=sum(bad) / pixels,
        )

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
        loop = SceneLoop(
            output=self._config.output,
            recipe=recipe,
            ledger=ledger,
            executor=executor,
            slots=slots,
            emit=self._emit,
            stop=self._stop,
            in_flight_bytes=numbers.in_flight_bytes,
            lease_timeout=driver_timeout(self._config),
            stop_after=self._config.stop_after,
            epoch=self._lock.epoch,
            profile=self._context.profile,
        )
        refused = [refusal_record(r.source, r.reason, transient=r.transient) for r in plan.refusals]
        with contextlib.closing(loop):
            try:
                loop.run(plan.jobs, refused)
            except (StoppedError, ModelError) as e:
                # The table shows what there is; the snapshot waits for a run that is not in a hurry.
                with contextlib.suppress(BatchsegError):
                    self._lock.check()
                    names, gone = product.class_names, plan.triage.vanished
                    write_items(self._config.output, ledger.table(), names, gone)
                recorded = counted(loop.tally.shards, "shard")
                msg = f"{e} [{recorded} recorded in this run; {self._context.way_on}]"
                raise type(e)(msg) from e
            return self._end(ledger, product, loop.tally, plan.triage, _to_report(plan, ledger))

    def _end(
        self, ledger: Ledger, product: Product, tally: Tally, triaged: Triage, records: Sequence[SceneRecord]
    ) -> Report:
        self._lock.end_work()
        tidy(self._config.output, ledger)
        self._lock.guard()
        swept = start_aside(discard_leftovers, self._config.output, ledger.unfinished())
        write_items(self._config.output, ledger.table(), product.class_names, triaged.vanished)
        self._lock.guard()
        ledger.merge()  # last: a ledger that is merged says that the run came to its end
        self._emit(WorkEnded())
        done_now = pa.array([source.source_id for source in triaged.todo], pa.string())
        now = class_sums(ledger.table(), done_now)
        swept.result()
        return Report(
            output=self._config.output,
            log=self._log,
            choice=self._choice,
            tally=tally,
            skipped=triaged.done,
            still_quarantined=triaged.quarantined,
            vanished=triaged.vanished,
            young=triaged.young,
            sums=self._sums,
            left_out=self._left_out,
            classes=class_shares(now, self._before, product.class_names),
            refused=tuple(record for record in records if record.status != "done"),
            damaged=tuple(record for record in records if record.status == "done" and record.bad_pixels),
            warnings=self._warnings,
        )


def _to_report(plan: Plan, ledger: Ledger) -> list[SceneRecord]:
    """Sources of the plan that were refused, or are done with damage."""
    ids = {job.scene.source.source_id for job in plan.jobs} | {r.source.source_id for r in plan.refusals}
    known = (ledger.source(key) for key in sorted(ids))
    scenes = (record for record in known if isinstance(record, SceneRecord))
    return [record for record in scenes if record.status != "done" or record.bad_pixels]
