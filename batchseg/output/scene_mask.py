"""A scene's fragments to what is published of it: its mask, its regions, its row of numbers.

Classes are counted, and regions traced, in the strips from which the mask is written.
"""

import contextlib
import errno
import hashlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from batchseg.errors import DamagedResultError, OutputError
from batchseg.inputs.source import Scene
from batchseg.job.cleaning import Cleaning
from batchseg.job.recipe import Product, Recipe
from batchseg.output import layout, publish
from batchseg.output.census import Census
from batchseg.output.cleaning import clean_scene
from batchseg.output.cog import Piece, compression_threads, sidecar_is_whole, vrt_of, write_cog
from batchseg.output.fragments import scene_folder
from batchseg.output.layout import Layer
from batchseg.output.lock import check_work_goes_on
from batchseg.output.overviews import (
    Look,
    Pixels,
    find_damage,
    halve_classes,
    halve_confidence,
    look_at,
    make_levels,
)
from batchseg.output.own_grid import on_own_grid
from batchseg.output.record import Output, SceneRecord
from batchseg.output.scene_pieces import Predicted, held_pieces, stored_pieces
from batchseg.output.sidecar import SUFFIX, content_at, with_additions
from batchseg.output.value_layer import Spread, ValueCensus, halve_values, undivided
from batchseg.pixels.grid import Window
from batchseg.pixels.model_grid import published
from batchseg.predict.stitch import ShardMask
from batchseg.regions.geodesy import crs_code
from batchseg.regions.scene_table import RegionWriter
from batchseg.system import fetch, rooted
from batchseg.system.disks import describe, full_disk
from batchseg.system.machine import memory_bytes
from batchseg.system.temp_folders import cache_root

_ASSEMBLY_ERRORS = (RasterioError, rasterio._err.CPLE_BaseError, SystemError, OSError, pa.ArrowException)
"""rasterio raises SystemError where GDAL failed and says no reason, as on a full disk."""


def finish_scene(
    output: str,
    scene: Scene,
    recipe: Recipe,
    product: Product,
    shards: Predicted,
    epoch: int,
    held: Sequence[ShardMask] = (),
) -> tuple[SceneRecord, float]:
    """Assemble, publish and measure one scene's mask.

    Args:
        output: root of the results.
        scene: the source, on the grid of its shards.
        recipe: the pixel settings.
        product: names, colours, compression, regions, what masks are cleaned by.
        shards: the records of all its shards; or its own `done` record, to derive from its mask what differs.
        epoch: of the run's lock: nothing is published for a run that ended or was taken for dead.
        held: the shards' pixels, where they never were fragments.

    Returns:
        The scene's `done` record, not committed yet, and the seconds it took.

    Raises:
        OutputError: fragments are missing or the result cannot be written.
        DamagedResultError: the mask to derive from is not the recorded one.
        NoRoomError: to clean it takes more memory than this machine has.
    """
    started = time.perf_counter()
    shown = published(scene, recipe)
    record = _done_record(shown, scene, recipe, product, shards)
    done = shards[0] if isinstance(shards[0], SceneRecord) else None
    keep = done is not None and done.encoding == product.encoding
    sources = _sources(scene, recipe, product, None if keep else done)
    if done is not None:
        _check_unchanged(output, done, sources.values())
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_folder(output))
        if held:
            pieces = stack.enter_context(held_pieces(scene, recipe, held, tuple(sources), folder))
        else:
            pieces = stored_pieces(output, scene, recipe, shards, sources, folder)
        try:
            with _gdal_for_output(shown):
                if done is None and shown is not scene:
                    pieces = on_own_grid(pieces, scene, recipe, folder)
                made = _Scene(shown, recipe, product, pieces, folder)
                record = made.count(record) if keep else made.encode(record)
        except _ASSEMBLY_ERRORS as e:
            reason = rooted.with_true_names(_reason(e, folder))
            msg = f"cannot assemble the mask of {scene.source.source_id}: {reason}"
            raise OutputError(msg) from e
        check_work_goes_on(output, epoch)
        if keep and done is not None:
            outputs = [o for o in done.outputs if o.path != done.regions_part]
        else:
            outputs = _publish_layers(output, scene, product, made.cogs, done)
        if made.region_rows:
            path = regions_path(scene)
            outputs.append(publish_output(output, path, made.regions_file))
        record = replace(record, outputs=tuple(outputs), region_count=made.region_rows)
    return record, time.perf_counter() - started


def _sources(scene: Scene, recipe: Recipe, product: Product, done: SceneRecord | None) -> dict[Layer, str]:
    """Paths below the output of the layers, the mask's where it is as it was predicted.

    `done`: the record of a mask that is to be made again; None: of none.
    """
    names, source_id = product.mask_names, scene.source.source_id
    paths = {layer: layout.layer_path(source_id, layer, names=names) for layer in layout.layers_of(recipe)}
    if done is not None and done.predicted_mask:
        paths["mask"] = done.predicted_mask
    return paths


def _reason(error: Exception, folder: Path) -> str:
    """GDAL's words for a full disk are those for a damaged file: what is left of the disk tells."""
    if isinstance(error, OSError) and error.strerror:
        return describe(error, folder)
    said = error.__cause__ or error
    left = full_disk(folder)
    return (
        f"the disk is full ({left}; GDAL: {said}); make room there and run the same command again"
        if left
        else f"{said}"
    )


class _Scene:
    """One scene's layers, looked at strip by strip in one pass: classes counted, regions traced."""

    def __init__(
        self, scene: Scene, recipe: Recipe, product: Product, layers: dict[Layer, list[Piece]], folder: Path
    ) -> None:
        self._scene, self._recipe, self._product, self._folder = scene, recipe, product, folder
        self._layers, self._census = dict(layers), Census(scene, recipe)
        self._values = None if recipe.values is None else ValueCensus(recipe.values)
        self.regions_file = folder / "regions.parquet"
        self.region_rows = 0

    @property
    def cogs(self) -> dict[Layer, Path]:
        """The layers' files, once they are encoded."""
        return {name: self._folder / f"{name}.tif" for name in self._layers}

    def encode(self, record: SceneRecord) -> SceneRecord:
        """Write each layer's COG into the folder; what a pass over the mask shows is put on the record.

        Raises:
            NoRoomError: to clean the mask takes more memory than this machine has.
        """
        if self._product.cleaning is not None:
            self._clean(self._product.cleaning)
        for name, made in self.cogs.items():
            mosaic = self._vrt(name)
            with self._looks(name) as look:
                pyramid = make_levels(mosaic, self._folder, name, _halving(self._recipe, name), look)
            write_cog(self._vrt(name, pyramid.levels), made, self._product, numbers=name == "values")
            damage = find_damage(made, pyramid)
            if name == "mask" and not sidecar_is_whole(made, self._product.classes):
                damage = "the file of class names"
            if damage:
                msg = f"{damage} of its {name} is not what was written; is the disk full or failing?"
                raise OSError(errno.EIO, msg, str(made))
        return self._counted(record)

    def _clean(self, cleaning: Cleaning) -> None:
        """From here on the mask is the clean one, and what was predicted a layer of its own."""
        nodata, most = self._recipe.mask_nodata, memory_bytes() // 2
        cleaned = clean_scene(self._vrt("mask"), self._folder, cleaning, nodata, most)
        whole = Window(row_off=0, col_off=0, height=self._scene.height, width=self._scene.width)
        self._layers["predicted"] = self._layers["mask"]
        self._layers["mask"] = [Piece(path=str(cleaned), window=whole)]

    def count(self, record: SceneRecord) -> SceneRecord:
        """The same without writing a mask: the one that is there stays."""
        for name in self._layers:
            with self._looks(name) as look:
                if look is not None:
                    look_at(self._vrt(name), look)
        return self._counted(record)

    def _counted(self, record: SceneRecord) -> SceneRecord:
        record = self._census.counted(record)
        found = self._values.found() if self._values is not None else Spread()
        return replace(record, value_spread=found.lowest_mean_highest, clipped_pixels=found.clipped)

    def _looks(self, name: Layer) -> contextlib.AbstractContextManager[Look | None]:
        """What sees each strip of a layer."""
        if name == "mask":
            return self._looking()
        return contextlib.nullcontext(self._look_at_values if name == "values" else None)

    def _look_at_values(self, row_off: int, strip: Pixels) -> None:
        assert self._values is not None  # noqa: S101  the recipe says that there are some
        self._values.look(strip)
        if not self._recipe.has_mask:
            self._census.look(row_off, undivided(strip, self._recipe.mask_nodata))

    def _vrt(self, name: Layer, levels: Sequence[Path] = ()) -> str:
        is_cleaned = name not in ("predicted", "probabilities")
        classes = self._product.classes if is_cleaned else self._product.predicted_classes
        return vrt_of(self._scene, self._recipe, name, self._layers[name], classes, levels)

    @contextlib.contextmanager
    def _looking(self) -> Iterator[Look]:
        """What sees each strip of the mask, in order."""
        settings = self._product.regions
        if settings is None:
            yield self._census.look
            return
        writer = RegionWriter(
            self.regions_file,
            self._scene,
            settings,
            class_names=tuple(info.name for info in self._product.classes),
            nodata=self._recipe.mask_nodata,
            with_confidence=self._recipe.confidence,
        )
        with contextlib.ExitStack() as stack:
            scores = (
                stack.enter_context(rasterio.open(self._vrt("confidence")))
                if self._recipe.confidence
                else None
            )

            def look(row_off: int, ids: Pixels) -> None:
                self._census.look(row_off, ids)
                window = RasterioWindow(0, row_off, self._scene.width, len(ids))
                writer.feed(row_off, ids, None if scores is None else scores.read(1, window=window))

            yield look
        self.region_rows = writer.close().rows


def regions_path(scene: Scene) -> str:
    """The scene's own region table, below the output."""
    name = hashlib.sha256(scene.source.source_id.encode()).hexdigest()[:16]
    return layout.scene_regions_path(crs_code(scene.georeference), name)


def _check_unchanged(output: str, done: SceneRecord, paths: Iterable[str]) -> None:
    """What is derived from a damaged mask would look sound ever after."""
    recorded = {made.path: made.sha256 for made in done.outputs}
    for path in paths:
        try:
            found = fetch.sha256(layout.result_file(output, path))
        except OSError as e:
            msg = f"cannot read {path}: {e}"
            raise OutputError(msg) from e
        if found != recorded.get(path):
            msg = f"{path} is damaged: its checksum is not the recorded one; the next run predicts it again"
            raise DamagedResultError(msg)


def _halving(recipe: Recipe, layer: Layer) -> Callable[[Pixels], Pixels]:
    if layer == "values":
        return halve_values
    if layer in ("confidence", "probabilities"):
        return halve_confidence
    return partial(halve_classes, nodata=recipe.mask_nodata)


def _done_record(
    shown: Scene, scene: Scene, recipe: Recipe, product: Product, shards: Predicted
) -> SceneRecord:
    """Of a scene whose mask lies on another grid, `shown`, than its shards."""
    first = shards[0]
    bad = sum(shard.bad_pixels for shard in shards)
    if not isinstance(first, SceneRecord):  # as many of those that are shown
        bad = round(bad * shown.size / scene.size)
    return SceneRecord(
        status="done",
        source_id=scene.source.source_id,
        tag=scene.source.tag,
        pixel=recipe.digest,
        product=product.digest,
        encoding=product.encoding,
        cpu_class=first.cpu_class,
        grid=first.grid,
        height=shown.height,
        width=shown.width,
        predicted=sum(shard.predicted for shard in shards),
        bad_pixels=bad,
        seams=tuple(sample for shard in shards for sample in shard.seams),
        uri=scene.source.uri,
        recorded=first.recorded if isinstance(first, SceneRecord) else 0,
    )


def _publish_layers(
    output: str, scene: Scene, product: Product, cogs: Mapping[Layer, Path], done: SceneRecord | None
) -> list[Output]:
    """The mask first. `done`: the record of the mask that is replaced, where nothing was predicted."""
    outputs = []
    same_pixels = done is not None and not done.predicted_mask and product.cleaning is None
    for layer, cog in cogs.items():
        path = layout.layer_path(scene.source.source_id, layer, names=product.mask_names)
        if layer == "predicted":  # nobody looks at it: its classes are named in the file itself
            outputs.append(publish_output(output, path, cog))
        else:
            outputs += _publish(output, path, cog, is_new=done is None, same_pixels=same_pixels)
    return outputs


def _publish(output: str, target: str, cog: Path, *, is_new: bool, same_pixels: bool) -> list[Output]:
    """The sidecar with the class names first: a mask that is there is complete.

    What others added to the one that is there stays: all of it where the mask has the same pixels.
    """
    own, place = cog.with_name(cog.name + SUFFIX), layout.result_file(output, target + SUFFIX)
    published = []
    if own.exists():
        if not is_new or place.is_local:  # else a request for each new scene
            with publish.output_errors("read", place):
                there = content_at(place)
            if there is not None:
                own.write_bytes(with_additions(own.read_bytes(), there, same_pixels=same_pixels))
        published.append(publish_output(output, target + SUFFIX, own))
    elif is_new:
        publish.remove_files([place])
    return [publish_output(output, target, cog), *published]


def publish_output(output: str, path: str, local: Path) -> Output:
    """Move a finished local file to its path below the output. Raises OutputError."""
    size = local.stat().st_size
    checksum = fetch.sha256(str(local))
    publish.publish_file(local, layout.result_file(output, path))
    return Output(path=path, nbytes=size, sha256=checksum)


@contextlib.contextmanager
def scratch_folder(output: str) -> Iterator[Path]:
    """A folder for files in the making: on a local output's file system, so that publishing is a rename."""
    own = layout.scratch_folder(output)
    with contextlib.ExitStack() as stack:
        folder = None
        if own.is_local:
            # On a disk without owners files are made elsewhere, and copied there.
            with publish.output_errors("write", own), contextlib.suppress(rooted.NotOwnError):
                folder = stack.enter_context(rooted.private_folder(own))
        if folder is None:  # asked for only here, as it makes a folder that stays on a cluster's other hosts
            copies = layout.copies_folder(str(cache_root()))
            with publish.output_errors("write", copies):
                folder = stack.enter_context(rooted.private_folder(copies))
        yield folder


@contextlib.contextmanager
def _gdal_for_output(scene: Scene) -> Iterator[None]:
    threads = compression_threads(scene.height, scene.width)
    with rasterio.Env(GDAL_CACHEMAX=96 * 1024**2, GDAL_NUM_THREADS=threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def discard_fragments(output: str, source_id: str) -> None:
    """Remove what a finished scene no longer needs, of this and of earlier versions."""
    publish.remove_folder(scene_folder(output, source_id))
