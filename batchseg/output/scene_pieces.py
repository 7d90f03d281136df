"""What a scene's layers are put together of: fragments, pixels in memory, or the mask that is there."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from batchseg.errors import DamagedResultError, OutputError, SourceError
from batchseg.inputs.formats import driver_of, local_head
from batchseg.inputs.source import Scene
from batchseg.job.recipe import Recipe
from batchseg.output import layout, publish
from batchseg.output.cog import Piece
from batchseg.output.fragments import (
    as_geotiff,
    fragment_file,
    fragment_folder,
    fragments_exist,
    strips_file,
)
from batchseg.output.layout import Layer
from batchseg.output.record import SceneRecord, ShardRecord
from batchseg.output.seams import ShardStrips, seam_pieces
from batchseg.output.strip_file import read_strips
from batchseg.predict.blend import Axis, Strip
from batchseg.predict.stitch import ShardMask
from batchseg.system import fetch, listing, rooted, storage
from batchseg.system.location import Location

Predicted = tuple[ShardRecord | SceneRecord, ...]
"""All shards of a scene; or the scene's own record alone, to derive from its mask what differs."""


@contextlib.contextmanager
def held_pieces(
    scene: Scene, recipe: Recipe, masks: Sequence[ShardMask], layers: Sequence[Layer], scratch: Path
) -> Iterator[dict[Layer, list[Piece]]]:
    """The layers of shards that are in memory. Their files are there too, and go at the end."""
    with contextlib.ExitStack() as stack:
        pieces: dict[Layer, list[Piece]] = {layer: [] for layer in layers}
        predicted = [mask for mask in masks if mask.classes is not None]
        for mask in predicted:
            for layer in layers:
                pixels = mask.layer(layer)
                if pixels is not None:
                    file = stack.enter_context(as_geotiff(pixels, compress=None))
                    pieces[layer].append(Piece(path=file.name, window=mask.shard.core))
        if recipe.rim and len(masks) > 1:
            strips = [ShardStrips(core=m.shard.core, read=partial(_of_side, m.strips)) for m in predicted]
            pieces = _with_seams(pieces, seam_pieces(scene, recipe, strips, scratch))
        yield pieces


def stored_pieces(
    output: str,
    scene: Scene,
    recipe: Recipe,
    shards: Predicted,
    paths: Mapping[Layer, str],
    scratch: Path,
) -> dict[Layer, list[Piece]]:
    """The layers of a scene that is recorded.

    Args:
        output: root of the results.
        scene: the source.
        recipe: the pixel settings.
        shards: what is recorded.
        paths: by layer, below the output, where it lies once it is done.
        scratch: folder for names that nobody else can change, and for copies.

    Raises:
        OutputError: what is recorded is missing.
        DamagedResultError: the mask to derive from is none.
    """
    single = len(paths) == 1 and not recipe.rim
    pieces = {
        layer: _pieces(output, scene, shards, layer, path, scratch, single=single)
        for layer, path in paths.items()
    }
    if not recipe.rim or isinstance(shards[0], SceneRecord):
        return pieces
    return _with_seams(pieces, seam_pieces(scene, recipe, _stored_strips(output, shards, scratch), scratch))


def _with_seams(
    pieces: Mapping[Layer, list[Piece]], seams: Mapping[Layer, list[Piece]]
) -> dict[Layer, list[Piece]]:
    """GDAL reads what lies in several pieces from the last of them."""
    return {layer: [*below, *seams[layer]] for layer, below in pieces.items()}


def _stored_strips(output: str, shards: Predicted, scratch: Path) -> list[ShardStrips]:
    """Of the shards that have some: one whose neighbours lie outside an area of interest has none."""
    first = shards[0]
    assert isinstance(first, ShardRecord)  # noqa: S101  asked for no other
    folder = fragment_folder(output, first.source_id, first.tag, first.pixel, first.grid, first.cpu_class)
    with publish.output_errors("list", folder):
        there = {info.uri.rpartition("/")[2] for info in listing.list_folder(folder)}
    held = [shard for shard in shards if isinstance(shard, ShardRecord) and not shard.empty]
    if not all(fragments_exist(output, held)):
        msg = f"fragments of {first.source_id} are recorded but missing"
        raise OutputError(msg)
    files = {strips_file(folder, shard.window): shard.window for shard in held}
    files = {file: window for file, window in files.items() if file.name in there}
    copies = scratch / "strips"
    copies.mkdir()
    paths = storage.at_once(partial(_readable, folder=copies, sizes={}), list(files), output)
    return [
        ShardStrips(core=window, read=partial(read_strips, path, file))
        for path, (file, window) in zip(paths, files.items(), strict=True)
    ]


def _of_side(strips: Sequence[Strip], axis: Axis, is_before: bool) -> list[Strip]:
    return [strip for strip in strips if (strip.axis, strip.is_before) == (axis, is_before)]


def _pieces(
    output: str, scene: Scene, shards: Predicted, layer: Layer, path: str, scratch: Path, *, single: bool
) -> list[Piece]:
    """Of a layer, whose `path` it has once it is done."""
    first, source = shards[0], scene.source
    sizes: dict[Location, int] = {}
    if isinstance(first, SceneRecord):
        windows = {layout.result_file(output, path): first.window}
    else:
        folder = fragment_folder(
            output, source.source_id, source.tag, first.pixel, first.grid, first.cpu_class
        )
        held = [shard for shard in shards if isinstance(shard, ShardRecord) and not shard.empty]
        windows = {fragment_file(folder, shard.window, layer): shard.window for shard in held}
        if single:  # what is recorded is of all layers
            sizes = dict(zip(windows, (shard.fragment_bytes for shard in held), strict=True))
    pieces = scratch / f"{layer}-pieces"
    pieces.mkdir()
    paths = storage.at_once(partial(_readable, folder=pieces, sizes=sizes), list(windows), output)
    if isinstance(first, SceneRecord):
        _check_is_geotiff(Path(paths[0]), source.source_id)
    return [Piece(path=path, window=window) for path, window in zip(paths, windows.values(), strict=True)]


def _check_is_geotiff(mask: Path, source_id: str) -> None:
    """Whoever may write to the output may have recorded something else as a mask."""
    try:
        driver = driver_of(local_head(mask), allow_vrt=True)
    except SourceError:
        driver = ""
    if driver != "GTiff":
        msg = f"the mask of {source_id} is no GeoTIFF; the next run predicts it again"
        raise DamagedResultError(msg)


def _readable(file: Location, folder: Path, sizes: Mapping[Location, int]) -> str:
    """Where GDAL can read it and nobody can exchange it: another name of a local file, in `folder`; of a
    bucket's file, a copy. A known size is not asked for."""
    path = folder / file.name
    try:
        if file.is_local:
            rooted.put_aside(file, path)
        else:
            fetch.fetch(file.uri, path, sizes.get(file))
    except FileNotFoundError as e:
        msg = f"{file} is recorded but missing"
        raise OutputError(msg) from e
    except OSError as e:
        msg = f"cannot read {file}: {e}"
        raise OutputError(msg) from e
    return str(path)
