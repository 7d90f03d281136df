"""A run over scenes, from the listing to the tables: the order in which everything happens."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from batchseg.driver.bottleneck import is_badly_tiled, setting_of
from batchseg.driver.closing import Closing
from batchseg.driver.commit import refusal_record
from batchseg.driver.context import JobContext
from batchseg.driver.events import Note, PhaseStarted, PlanReady, Setting
from batchseg.driver.executors.start import LazyExecutor, driver_timeout
from batchseg.driver.intake import Intake
from batchseg.driver.loop import Tally
from batchseg.driver.plan import Plan, Planner
from batchseg.driver.prepare import prepare_run
from batchseg.driver.report import Report
from batchseg.driver.scene_loop import SceneLoop
from batchseg.driver.tasks import Executor, Slot
from batchseg.driver.triage import Triage
from batchseg.driver.value_check import judge, look_at_scenes
from batchseg.inputs.source import Column
from batchseg.inputs.source import compute as pc
from batchseg.job.recipe import Product, Recipe
from batchseg.output.class_sums import ClassSums
from batchseg.output.fragments import discard_leftovers, fragments_exist
from batchseg.output.record import SceneRecord, sources_of
from batchseg.pixels.usual_values import Usual, usual_of
from batchseg.predict.moved import share_to_move
from batchseg.system.amounts import are, counted
from batchseg.system.threads import start_aside, wait_for


class SceneRun:
    """The parts of one run, in the order of `go`."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._before = ClassSums()
        self._config, self._lock = context.config, context.lock
        self._stop, self._emit = context.stop, context.emit
        self._warnings: tuple[str, ...] = ()
        self._usual: tuple[Usual, ...] = ()
        """What the output's first scenes held."""

    def go(self, *, replace: bool) -> Report:
        config, context = self._config, self._context
        self._emit(PhaseStarted(text="checking the model and listing inputs"))
        with contextlib.ExitStack() as stack:
            executor = LazyExecutor(config, self._stop, stack, self._emit)
            prepared = prepare_run(context, executor, replace_all=replace)
            recipe, triaged = prepared.recipe, prepared.triaged
            self._closing = Closing.of(context, prepared)
            self._usual = prepared.usual
            remember = partial(context.remember, prepared.state, prepared.new_state)
            del prepared  # its listing: of what is to be done there are slices
            if triaged.todo.num_rows:
                return self._work(executor, recipe, triaged, remember)
            remember(usual=self._usual)
            self._emit(
                Note(text=f"nothing to do: {counted(triaged.done, 'source')} {are(triaged.done)} done")
            )
            return self._end(Tally())

    def _work(
        self,
        executor: "LazyExecutor",
        recipe: Recipe,
        triaged: Triage,
        remember: Callable[..., None],
    ) -> Report:
        config, stop, product, ledger = self._config, self._stop, self._closing.product, self._closing.ledger
        count = counted(triaged.todo.num_rows, "header")
        self._emit(PhaseStarted(text=f"starting predictors, reading {count}"))
        running = executor.start()
        slots_to_come = start_aside(running.start, recipe, product)  # headers are read while models load
        intake = Intake(config, triaged, recipe, running.headers, self._emit, stop)
        with contextlib.closing(intake):
            self._before = self._closing.sums_before()
            headers = intake.gather(slots_to_come.done)
            looking = start_aside(look_at_scenes, headers, recipe, running.samples)
            slots = wait_for(slots_to_come, stop)
            samples = wait_for(looking, stop)
            looked = judge(samples, recipe, config)
            if not triaged.done or not self._usual:
                self._usual = usual_of(samples)
            planner = Planner(
                recipe=recipe,
                ledger=ledger,
                cpu_classes=[slot.cpu_class for slot in slots],
                workers=len(slots),
                leases=sum(slot.leases for slot in slots),
                shard_tiles=config.shard_tiles,
                fragments_exist=partial(fragments_exist, config.output),
            )
            plan = intake.begin(planner, looked.remedy)
            self._context.tell_values(looked)
            for line in intake.warnings:
                self._emit(Note(text=f"warning: {line}"))
            remember(usual=self._usual)
            numbers = intake.numbers
            self._emit(
                PlanReady(
                    scenes=triaged.todo.num_rows,
                    tiles=numbers.tiles,
                    pixels=numbers.source_pixels,
                    skipped=triaged.done,
                    slots=len(slots),
                    setting=self._setting(recipe, product, plan),
                )
            )
            return self._drive(running, slots, recipe, plan, intake)

    def _setting(self, recipe: Recipe, product: Product, plan: Plan) -> Setting:
        scenes = [job.scene.on_own_grid for job in plan.jobs]
        pixels = sum(scene.size for scene in scenes) or 1
        bad = (
            scene.size
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
        plan: Plan,
        intake: Intake,
    ) -> Report:
        loop = SceneLoop(
            output=self._config.output,
            recipe=recipe,
            ledger=self._closing.ledger,
            executor=executor,
            slots=slots,
            emit=self._emit,
            stop=self._stop,
            in_flight_bytes=intake.numbers.in_flight_bytes,
            lease_timeout=driver_timeout(self._config),
            stop_after=self._config.stop_after,
            epoch=self._lock.epoch,
            profile=self._context.profile,
            usual=self._usual if self._config.check_values else (),
            moved_share=share_to_move(intake.numbers.tiles) if self._config.check_seams else 0.0,
        )
        refused = [refusal_record(r.source, r.reason, transient=r.transient) for r in plan.refusals]
        with contextlib.closing(loop):
            with self._closing.told(lambda: counted(loop.tally.shards, "shard")):
                loop.run(plan.jobs, refused, intake)
            self._warnings = (*intake.warnings, *loop.reaches.unlike.warnings)
            return self._end(loop.tally)

    def _end(self, tally: Tally) -> Report:
        closing = self._closing
        self._lock.end_work()
        swept = start_aside(discard_leftovers, self._config.output, closing.ledger.unfinished())
        closing.publish()
        worked = closing.triaged.todo["source_id"]
        records = _to_report(closing.ledger.table(), worked)
        swept.result()
        return closing.report(
            tally,
            worked,
            self._before,
            refused=tuple(record for record in records if record.status != "done"),
            damaged=tuple(record for record in records if record.status == "done" and record.bad_pixels),
            odd_sources=self._warnings,
        )


def _to_report(known: pa.Table, worked: Column) -> list[SceneRecord]:
    """Sources of the run that were refused, or are done with damage."""
    odd = pc.or_(pc.not_equal(known["status"].cast(pa.string()), "done"), pc.greater(known["bad_pixels"], 0))
    rows = known.filter(odd)
    rows = rows.filter(pc.is_in(rows["source_id"], value_set=worked))
    return [record for record in sources_of(rows) if isinstance(record, SceneRecord)]
