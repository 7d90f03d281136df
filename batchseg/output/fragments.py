"""A shard's predicted cores to fragment files: small GeoTIFFs that exist until the scene is finished."""

import contextlib
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from batchseg.inputs.source import Scene
from batchseg.job.recipe import Recipe, digest
from batchseg.output import layout, publish
from batchseg.output.record import ShardRecord
from batchseg.output.strip_file import strips_as_bytes
from batchseg.pixels.grid import Window
from batchseg.predict.stitch import ShardMask
from batchseg.system import listing, storage
from batchseg.system.location import Location

LAYERS: tuple[layout.Layer, ...] = ("mask", "confidence", "values", "probabilities")

_DIGEST = re.compile("[0-9a-f]{16}")
"""A scene's folder, by `digest`."""


def scene_folder(output: str, source_id: str) -> Location:
    """Where fragments of all versions of a scene lie.

    The source id is hashed, as it may be longer than a file name can be.
    """
    return layout.fragments_folder(output).below(digest({"id": source_id}))


def fragment_folder(output: str, source_id: str, tag: str, pixel: str, grid: str, cpu_class: str) -> Location:
    """Where a scene's fragments lie: another version, setting or shard grid lies elsewhere."""
    version = digest({"tag": tag, "pixel": pixel, "grid": grid, "cpu": cpu_class})
    return scene_folder(output, source_id).below(version)


def fragment_file(folder: Location, window: Window, layer: layout.Layer) -> Location:
    return layout.fragment_file(folder, layer, window.row_off, window.col_off)


def strips_file(folder: Location, window: Window) -> Location:
    return layout.strips_file(folder, window.row_off, window.col_off)


def fragments_exist(output: str, records: Sequence[ShardRecord]) -> list[bool]:
    """Which committed shards of one scene have their fragments, whole; those without pixels need none.

    Fragments are not synced to disk (an fsync took 40 to 190 ms on a busy disk): after a power cut one
    may be missing or cut off though it is recorded. Its size tells.
    """
    if not records:
        return []
    first = records[0]
    folder = fragment_folder(output, first.source_id, first.tag, first.pixel, first.grid, first.cpu_class)
    with publish.output_errors("list", folder):
        sizes = {info.uri.rpartition("/")[2]: info.size or 0 for info in listing.list_folder(folder)}

    def held(record: ShardRecord) -> int:
        files = [fragment_file(folder, record.window, layer) for layer in LAYERS]
        files.append(strips_file(folder, record.window))
        return sum(sizes.get(file.name, 0) for file in files)

    return [record.empty or held(record) == record.fragment_bytes for record in records]


def write_shards(
    output: str, scene: Scene, recipe: Recipe, grid: str, cpu_class: str, masks: list[ShardMask]
) -> tuple[list[ShardRecord], float]:
    """Publish the fragments of some shards.

    Returns:
        One ledger record per shard, and the seconds it took.

    Raises:
        OutputError: a fragment cannot be written.
    """
    started = time.perf_counter()
    source = scene.source
    folder = fragment_folder(output, source.source_id, source.tag, recipe.digest, grid, cpu_class)
    records, files = [], []
    for mask in masks:
        core, size = mask.shard.core, 0
        for layer in LAYERS if recipe.has_mask else ("values",):
            if (pixels := mask.layer(layer)) is not None:
                with as_geotiff(pixels, compress="zstd") as made:
                    data = bytes(made.read())
                files.append((fragment_file(folder, core, layer), data))
                size += len(data)
        if mask.strips:
            data = strips_as_bytes(mask.strips)
            files.append((strips_file(folder, core), data))
            size += len(data)
        records.append(shard_record(scene, recipe, grid, cpu_class, mask, size))
    storage.at_once(lambda file: publish.publish(*file, durable=False), files, output)
    return records, time.perf_counter() - started


def shard_record(
    scene: Scene, recipe: Recipe, grid: str, cpu_class: str, mask: ShardMask, fragment_bytes: int = 0
) -> ShardRecord:
    """What is recorded of a shard: 0 bytes are of one that is empty, or never is a fragment."""
    source, core = scene.source, mask.shard.core
    return ShardRecord(
        source_id=source.source_id,
        tag=source.tag,
        pixel=recipe.digest,
        cpu_class=cpu_class,
        grid=grid,
        row_off=core.row_off,
        col_off=core.col_off,
        height=core.height,
        width=core.width,
        empty=mask.classes is None,
        predicted=mask.predicted,
        fragment_bytes=fragment_bytes,
        bad_pixels=mask.bad_pixels,
        uri=source.uri,
    )


@contextlib.contextmanager
def as_geotiff(array: NDArray[Any], *, compress: str | None) -> Iterator[MemoryFile]:
    """A GeoTIFF in memory, without a place; its `name` is what GDAL opens.

    Args:
        array: (H, W), or (N, H, W) of several bands.
        compress: zstd is done at its fastest: 0.1 s for 22 megapixels of mask, and read back once.
    """
    bands = array if array.ndim == 3 else array[None]
    count, height, width = bands.shape
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": count,
        "dtype": array.dtype,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
    }
    if compress is not None:
        profile |= {"compress": compress, "zstd_level": 1}
    with MemoryFile() as memory:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with memory.open(**profile) as dataset:
                dataset.write(bands)
        yield memory


def discard_leftovers(output: str, unfinished: Sequence[str]) -> None:
    """Remove fragments that no unfinished scene needs, left by a run that was killed. Raises OutputError."""
    root = layout.fragments_folder(output)
    needed = {digest({"id": source_id}) for source_id in unfinished}
    with publish.output_errors("list", root):
        folders = listing.list_subfolders(root)
    for name in (folder.rpartition("/")[2] for folder in folders):
        if _DIGEST.fullmatch(name) and name not in needed:  # what has another name is none of ours
            publish.remove_folder(root.below(name))
