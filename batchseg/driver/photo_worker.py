"""A group's life: photographs read ahead, predicted in batches across images, traced, judged, published.

Where a group fails, its photographs are looked at one by one in fresh processes, to find those at fault.
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from batchseg.driver.photo_fitting import fit_photo
from batchseg.driver.tasks import Group, GroupAnswer, Inspected, from_stream
from batchseg.errors import DamagedResultError, SourceError
from batchseg.inputs.source import Doubt, words
from batchseg.job.recipe import Product, Recipe
from batchseg.job.settings import MAX_PHOTO_MEMORY
from batchseg.output.photo_mask import StoredMasks
from batchseg.output.photo_results import Finished, ResultWriter
from batchseg.pixels.band_order import turns
from batchseg.pixels.photo.limits import Limits
from batchseg.pixels.photo.load import Loaded, Row, listed_digest, load, read_ahead
from batchseg.pixels.photo.room import Claim
from batchseg.pixels.usual_values import Usual
from batchseg.predict.photo import Fitting, answer_bytes
from batchseg.predict.predictor import Predictor, Preparation
from batchseg.system import storage
from batchseg.system.location import Location
from batchseg.system.machine import give_back_freed_memory, memory_share
from batchseg.system.processes import MEMORY_BYTES, ProcessDiedError, each_in_fresh_process
from batchseg.system.timing import Stopwatch

BESIDE_BYTES = 2**30
"""Of a fresh process, beside the photograph that it looks at."""


@dataclass(slots=True)
class _Clock:
    watch: Stopwatch
    tiles: int = 0
    pixels: int = 0
    doubts: list[Doubt] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    large: list[str] = field(default_factory=list)
    turned: str = ""


class GroupWorker:
    """Does groups with one predictor. One group at a time.

    Args:
        output: root of the results.
        recipe: the pixel settings.
        product: names, formats, rules.
        predictor: the network.
        batch_size: tiles per run of the network, across photographs; pixels do not depend on it.
        readers: threads that read and decode ahead.
        cpu_class: of the predictor.
    """

    def __init__(
        self,
        output: str,
        recipe: Recipe,
        product: Product,
        predictor: Predictor,
        *,
        batch_size: int,
        readers: int,
        cpu_class: str,
    ) -> None:
        self._output, self._recipe, self._product = output, recipe, product
        self._predictor, self._readers, self._cpu_class = predictor, readers, cpu_class
        self._preparation = Preparation(recipe)
        self._buffer = self._preparation.buffer(batch_size)
        self._with_content = product.photo_options.same_content

    def __call__(self, group: Group) -> GroupAnswer:
        """Do a group.

        Raises:
            ModelError: the network gives what no mask can hold.
            OutputError: a result cannot be written.
        """
        images = from_stream(group.images)
        if group.work == "hash":
            return self._hash(images)
        cpu = time.thread_time if self._predictor.threads == 1 else time.process_time
        watch = Stopwatch("predictor", profiled=group.profiled, cpu=cpu)
        clock = _Clock(watch=watch)
        writer = ResultWriter(self._output, self._recipe, self._product, self._cpu_class, group.epoch)
        if group.work == "predict":
            ahead = self._ahead(images, clock, group)
            until = time.monotonic() + group.seconds
            masks = self._predicted(images, ahead, clock, group.usual, until=until)
        else:
            masks = self._derived(images, from_stream(group.results), clock)
        before = time.perf_counter()
        for finished in masks:
            with watch.step("results"):
                writer.add(finished)
        with watch.step("results"):
            rows = writer.close()
        give_back_freed_memory()
        total = time.perf_counter() - before
        read, predict = (watch.seconds.get(step, 0.0) for step in ("read", "network"))
        return GroupAnswer(
            rows=rows,
            doubts=tuple(clock.doubts),
            left=tuple(clock.left),
            large=tuple(clock.large),
            turned=clock.turned,
            tiles=clock.tiles,
            pixels=clock.pixels,
            read_seconds=read,
            predict_seconds=predict,
            stitch_seconds=max(0.0, total - predict - writer.seconds - read),
            write_seconds=writer.seconds,
            stints=(*self._predictor.take_loading(), watch.stint("group")),
        )

    def _predicted(
        self,
        images: pa.Table,
        ahead: Iterator[Loaded],
        clock: _Clock,
        usual: Sequence[Usual],
        *,
        until: float,
    ) -> Iterator[Finished]:
        """Masks in the order of the images; a batch holds tiles of as many images as it takes.

        Images are begun until `until`, of time.monotonic, at least one.
        """
        open_: deque[tuple[Loaded, Fitting, str]] = deque()
        batch: list[tuple[Fitting, int]] = []
        for at, loaded in enumerate(ahead):
            if at and time.monotonic() > until:
                clock.left += words(images["source_id"].slice(at))
                break
            fitted = self._fitted(loaded, clock, usual)
            if fitted is None:
                continue
            fitting, unlike = fitted
            open_.append((loaded, fitting, unlike))
            for number in range(fitting.inputs):
                self._preparation(fitting.tile(number), self._buffer[len(batch)])
                batch.append((fitting, number))
                if len(batch) == len(self._buffer):
                    self._run(batch, clock)
                    batch = []
            while open_ and open_[0][1].is_complete:
                yield _finished(*open_.popleft())
        self._run(batch, clock)
        for item in open_:
            yield _finished(*item)

    def _fitted(self, loaded: Loaded, clock: _Clock, usual: Sequence[Usual]) -> tuple[Fitting, str] | None:
        if loaded.is_large:
            clock.large.append(loaded.row["source_id"])
        if loaded.doubt is not None:
            clock.doubts.append(loaded.doubt)
        if loaded.picture is None:
            return None
        try:
            fitting, unlike = fit_photo(loaded.row["source_id"], loaded.picture, self._recipe, usual)
        except SourceError as e:
            clock.doubts.append(Doubt.of(loaded.row["source_id"], e))
            return None
        if not clock.turned and loaded.picture.is_rgb and turns(self._recipe):
            clock.turned = loaded.row["source_id"]
        clock.tiles += fitting.inputs
        clock.pixels += fitting.shape_hw[0] * fitting.shape_hw[1]
        return fitting, unlike

    def _run(self, batch: list[tuple[Fitting, int]], clock: _Clock) -> None:
        if not batch:
            return
        with clock.watch.step("network"):
            answers = self._predictor.run(self._buffer[: len(batch)])
        for (fitting, number), answer in zip(batch, answers, strict=True):
            fitting.place(number, answer)

    def _ahead(self, images: pa.Table, clock: _Clock, group: Group) -> Iterator[Loaded]:
        """Photographs in their order; the time that it takes to wait for them is clocked."""
        loading = read_ahead(
            images,
            readers=self._readers,
            with_content=self._with_content,
            limits=Limits(memory=group.memory, answer_bytes=answer_bytes(self._recipe)),
            share=math.inf if group.alone else memory_share(),
        )
        while True:
            with clock.watch.step("read"):
                loaded = next(loading, None)
            if loaded is None:
                return
            yield loaded

    def _derived(self, images: pa.Table, results: pa.Table, clock: _Clock) -> Iterator[Finished]:
        """From what is stored; a photograph of which too little is stored is in doubt."""
        stored = StoredMasks(self._output, self._recipe)
        for row, known in zip(images.to_pylist(), results.to_pylist(), strict=True):
            try:
                mask = stored(known)
            except DamagedResultError as e:
                clock.doubts.append(Doubt.of(row["source_id"], e))
                continue
            is_copy = known["source_id"] != row["source_id"]
            yield Finished(
                row=row,
                mask=mask,
                content=known["content"] or "",
                same_as=known["source_id"] if is_copy else known["same_as"] or "",
                unlike=known["unlike"] or "",
                recorded=0 if is_copy else known["recorded"],
            )

    def _hash(self, images: pa.Table) -> GroupAnswer:
        rows = [row for row in images.to_pylist() if not row["problem"]]

        def digest(row: Row) -> str | Doubt:
            try:
                return listed_digest(row)
            except SourceError as e:
                return Doubt.of(row["source_id"], e)

        with ThreadPoolExecutor(max(self._readers, 2)) as pool:
            digests = list(pool.map(digest, rows))
        known = {r["source_id"]: d for r, d in zip(rows, digests, strict=True) if isinstance(d, str)}
        columns = {"source_id": list(known), "content": list(known.values())}
        table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        return GroupAnswer(rows=table, doubts=())


def _finished(loaded: Loaded, fitting: Fitting, unlike: str) -> Finished:
    return Finished(row=loaded.row, mask=fitting.mask(), content=loaded.content, unlike=unlike)


def look_at(
    row: Row,
    recipe: Recipe,
    memory: int = MAX_PHOTO_MEMORY,
    share: float = math.inf,
    usual: Sequence[Usual] = (),
) -> Doubt | None:
    """Read, decode and fit one photograph; why it cannot be done, None where it can.

    Args:
        row: as it was listed.
        recipe: the pixel settings.
        memory: bytes that it may take.
        share: bytes that it may take beside others; what takes more is left to be done alone.
        usual: what the output's first photographs held.
    """
    if row["size"] > share:
        return None
    limits = Limits(memory=memory, answer_bytes=answer_bytes(recipe), has_room=Claim(None, share))
    loaded = load(row, with_content=False, limits=limits)
    if loaded.picture is None:
        return loaded.doubt
    try:
        fit_photo(row["source_id"], loaded.picture, recipe, usual)
    except SourceError as e:
        return Doubt.of(row["source_id"], e)
    return None


def inspect_photos(
    rows: Sequence[Row],
    recipe: Recipe,
    timeout: float,
    *,
    memory: int = MAX_PHOTO_MEMORY,
    alone: bool = False,
    usual: Sequence[Usual] = (),
) -> Inspected:
    """Look at photographs one by one in a fresh process; one that ends or stops it is in doubt.

    Args:
        rows: as they were listed.
        recipe: the pixel settings.
        timeout: seconds after which no more of them are looked at. One that hangs gets a third of that, 60
            at most, twice.
        memory: bytes that one may take.
        alone: whether nothing that takes very much memory is under way beside; else such are not decoded.
        usual: what the output's first photographs held.
    """
    until = time.monotonic() + timeout
    doubts: list[Doubt] = []
    each = max(5.0, min(60.0, timeout / 3))
    given = recipe, storage.environment(), memory, math.inf if alone else memory_share(), usual
    most = max(MEMORY_BYTES, memory + BESIDE_BYTES)
    answers = each_in_fresh_process(_look, rows, *given, timeout=each, memory=most)
    for count, (row, answer) in enumerate(zip(rows, answers, strict=True), start=1):
        if isinstance(answer, ProcessDiedError):
            doubts.append(died(row, answer))
        elif answer is not None:
            doubts.append(answer)
        if time.monotonic() > until:
            return Inspected(doubts=tuple(doubts), left=tuple(row["source_id"] for row in rows[count:]))
    return Inspected(doubts=tuple(doubts))


def died(row: Row, error: ProcessDiedError) -> Doubt:
    """A photograph whose server does not answer is not blamed."""
    transient = error.hung and not Location.of(row["uri"]).is_local
    return Doubt(
        source_id=row["source_id"], reason=f"the process that decoded it {error}", transient=transient
    )


def _look(
    row: Row,
    recipe: Recipe,
    where: dict[str, str],
    memory: int,
    share: float,
    usual: Sequence[Usual],
) -> Doubt | None:
    storage.adopt(where)
    return look_at(row, recipe, memory, share, usual)
