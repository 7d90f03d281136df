"""A run over photographs, from the listing to the tables: the order in which everything happens."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

import pyarrow as pa

from batchseg.driver.bottleneck import setting_of
from batchseg.driver.closing import Closing
from batchseg.driver.context import JobContext
from batchseg.driver.events import Note, PhaseStarted, PlanReady
from batchseg.driver.executors.start import LazyExecutor, driver_timeout
from batchseg.driver.loop import Tally
from batchseg.driver.photo_look import fitting_samples, judge_photographs, look_at_photographs
from batchseg.driver.photo_loop import PhotoLoop
from batchseg.driver.prepare import prepare_run
from batchseg.driver.report import Report
from batchseg.driver.revise import Revision, find_copies, results_of, revise, surplus, with_attributes
from batchseg.driver.tasks import Executor, Slot
from batchseg.driver.triage import Triage
from batchseg.driver.value_check import Looked, judge_unseen
from batchseg.inputs.source import Column
from batchseg.inputs.source import compute as pc
from batchseg.job.recipe import Product, Recipe
from batchseg.job.settings import MAX_PHOTO_MEMORY
from batchseg.output import publish
from batchseg.output.class_sums import ClassSums
from batchseg.output.columns import verdict_counts
from batchseg.output.layout import result_file
from batchseg.output.ledger import Ledger
from batchseg.output.rejudge import rejudge, review_counts
from batchseg.pixels.band_order import turned_warning
from batchseg.pixels.usual_values import Usual, usual_of
from batchseg.system.amounts import are, counted
from batchseg.system.threads import start_aside, wait_for


class PhotoRun:
    """One run, in the order of `go`."""

    def __init__(self, context: JobContext) -> None:
        self._context, self._config = context, context.config
        self._listing: pa.Table
        photographs = self._config.photographs
        self._memory = MAX_PHOTO_MEMORY if photographs is None else photographs.max_photo_memory
        self._copied = self._rejudged = 0
        self._before = ClassSums()
        self._usual: tuple[Usual, ...] = ()
        """What the output's first photographs held."""

    def go(self, *, replace: bool) -> Report:
        """Do what is left.

        Raises:
            BatchsegError: one of errors.py; its exit code says how the run ended.
        """
        context, config = self._context, self._config
        context.emit(PhaseStarted(text="checking the model and listing inputs"))
        with contextlib.ExitStack() as stack:
            executor = LazyExecutor(config, context.stop, stack, context.emit)
            prepared = prepare_run(context, executor, replace_all=replace)
            recipe, product, ledger = prepared.recipe, prepared.product, prepared.ledger
            triaged = prepared.triaged
            self._closing = Closing.of(context, prepared)
            self._usual = prepared.usual
            self._listing = prepared.listing
            remember = partial(context.remember, prepared.state, prepared.new_state)
            if triaged.changed_attributes.num_rows:
                ledger.append_table(with_attributes(ledger.table(), triaged.changed_attributes))
            self._judge_again(ledger, product)
            revision = revise(triaged.todo, ledger.table(), recipe, product, vanished=triaged.vanished)
            loop = self._work(executor, recipe, triaged, revision, remember)
            parts = [
                part.column("source_id").combine_chunks() for part in (revision.predict, revision.derive)
            ]
            odd = self._odd_sources(loop, recipe)
            return self._end(loop, pa.concat_arrays(parts), odd)

    def _work(
        self,
        lazy: LazyExecutor,
        recipe: Recipe,
        triaged: Triage,
        revision: Revision,
        remember: Callable[..., None],
    ) -> PhotoLoop | None:
        context, config, product = self._context, self._config, self._closing.product
        todo = revision.predict
        if not (todo.num_rows or revision.derive.num_rows):
            remember(usual=self._usual)
            context.emit(
                Note(text=f"nothing to do: {counted(triaged.done, 'photograph')} {are(triaged.done)} done")
            )
            return None
        context.emit(PhaseStarted(text=f"starting predictors for {counted(todo.num_rows, 'photograph')}"))
        executor = lazy.start()
        self._before = self._closing.sums_before()
        slots = self._start_predictors(executor, recipe, product, todo, is_new=not triaged.done)
        remember(usual=self._usual)
        context.emit(
            PlanReady(
                scenes=todo.num_rows + revision.derive.num_rows,
                tiles=0,
                pixels=0,
                skipped=triaged.done,
                images=True,
                slots=len(slots),
                setting=setting_of(config, recipe, product),
            )
        )
        loop = self._loop(executor, slots, revision)
        with self._closing.told(lambda: counted(loop.tally.done, "photograph")):
            if product.photo_options.same_content:
                self._without_copies(loop, recipe, todo)
            else:
                loop.predict(todo)
            self._derive(loop, revision.derive, revision.results)
        return loop

    def _loop(self, executor: Executor, slots: Sequence[Slot], revision: Revision) -> PhotoLoop:
        context, config = self._context, self._config
        return PhotoLoop(
            output=config.output,
            ledger=self._closing.ledger,
            executor=executor,
            slots=slots,
            emit=context.emit,
            stop=context.stop,
            lease_timeout=driver_timeout(config),
            stop_after=config.stop_after,
            epoch=context.lock.epoch,
            superseded=revision.superseded,
            memory=self._memory,
            profile=context.profile,
            usual=self._usual,
        )

    def _start_predictors(
        self, executor: Executor, recipe: Recipe, product: Product, todo: pa.Table, *, is_new: bool
    ) -> Sequence[Slot]:
        """Load them; of an output that is new, or of which it is not known what its first photographs held, a
        few photographs are looked at meanwhile.

        To look at some takes a process of its own, most of a second: too much for each night of a job whose
        first one did.
        """
        config, stop = self._config, self._context.stop
        slots_to_come = start_aside(executor.start, recipe, product)
        if not (todo.num_rows and (is_new or (config.check_values and not self._usual))):
            looked = judge_unseen(recipe, config) if todo.num_rows else Looked()
            slots = wait_for(slots_to_come, stop)
        else:
            looking = start_aside(look_at_photographs, todo, recipe, config.lease_timeout, self._memory)
            slots = wait_for(slots_to_come, stop)
            seen = wait_for(looking, stop)
            looked = judge_photographs(seen, recipe, config, is_new=is_new)
            if is_new or not self._usual:
                self._usual = usual_of(fitting_samples(seen))
        self._context.tell_values(looked)
        return slots

    def _without_copies(self, loop: PhotoLoop, recipe: Recipe, todo: pa.Table) -> None:
        """Predict each content once; photographs that share it get results of their own, derived from it."""
        ledger, product = self._closing.ledger, self._closing.product
        self._context.emit(
            PhaseStarted(text=f"comparing the contents of {counted(todo.num_rows, 'photograph')}")
        )
        contents = loop.contents(todo)
        copies = find_copies(todo, contents, ledger.table(), pixel=recipe.digest, product=product.digest)
        loop.predict(copies.predict)
        images, results, left = results_of(copies, ledger.table())
        self._copied = images.num_rows
        loop.predict(left)
        self._derive(loop, images, results)

    def _derive(self, loop: PhotoLoop, images: pa.Table, results: pa.Table) -> None:
        """From stored results, or where these do not hold enough by predicting."""
        if images.num_rows:
            loop.derive(images, results)
        if loop.underivable:
            names = pa.array(loop.underivable)
            images = images.filter(pc.is_in(images["source_id"], value_set=names))
            loop.predict(_as_listed_now(images, self._listing))

    def _judge_again(self, ledger: Ledger, product: Product) -> None:
        """Verdicts by today's rules, for photographs that were judged by others, or passed unseen."""
        if product.rules is None:
            return
        rows = rejudge(self._config.output, ledger, product.rules, product=product.digest)
        if not rows.num_rows:
            return
        ledger.append_table(rows)
        self._rejudged = rows.num_rows
        self._context.emit(Note(text=f"{counted(rows.num_rows, 'photograph')} judged again"))

    def _odd_sources(self, loop: PhotoLoop | None, recipe: Recipe) -> tuple[str, ...]:
        """Warnings on what this run saw of its photographs."""
        if loop is None or not self._config.check_values:
            return ()
        turned = turned_warning(loop.turned, recipe)
        return (*loop.unlike.warnings, *([turned] if turned else []))

    def _end(self, loop: PhotoLoop | None, worked: Column, odd_sources: tuple[str, ...]) -> Report:
        closing, output = self._closing, self._config.output
        ledger = closing.ledger
        self._context.lock.end_work()
        rows, paths = surplus(ledger.table(), closing.product)
        if rows.num_rows:
            ledger.append_table(rows)
            publish.remove_files([result_file(output, path) for path in paths])
        closing.publish()
        uninspected, unlike = review_counts(ledger.table())
        return closing.report(
            loop.tally if loop is not None else Tally(),
            worked,
            self._before,
            refused=tuple(loop.refused) if loop is not None else (),
            verdicts=verdict_counts(ledger.table()),
            uninspected=uninspected,
            unlike=unlike,
            odd_sources=odd_sources,
            copied=self._copied,
            rejudged=self._rejudged,
        )


def _as_listed_now(images: pa.Table, listing: pa.Table) -> pa.Table:
    """LISTING rows of photographs to be read: rows that come from the ledger do not say how large a file is.

    One that was changed meanwhile, and is too young to be read, is left as it is.
    """
    at = pc.index_in(images["source_id"], value_set=listing["source_id"].combine_chunks())
    images, rows = images.filter(pc.is_valid(at)), listing.take(at.drop_null())
    return rows.filter(pc.equal(rows["tag"], images["tag"]))
