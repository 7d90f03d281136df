"""The zones between a scene's shards: every shard's strips added up, classified, and laid over the mosaic."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from batchseg.inputs.source import Scene
from batchseg.job.recipe import Recipe
from batchseg.output.cog import Piece
from batchseg.output.fragments import as_geotiff
from batchseg.output.layout import Layer, layers_of
from batchseg.pixels.grid import Window
from batchseg.predict.answer import decide
from batchseg.predict.blend import FULL, Axis, Strip, close

SUM_BYTES = 32 * 2**20
"""Of the sums that are in memory at a time: long borders are closed part by part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStrips:
    """A shard's part in its borders, read when it is asked for."""

    core: Window
    read: Callable[[Axis, bool], Sequence[Strip]]
    """Those of an axis, of the side where the shard lies before the border, or of the other."""


def seam_pieces(
    scene: Scene, recipe: Recipe, shards: Sequence[ShardStrips], folder: Path
) -> dict[Layer, list[Piece]]:
    """Files of all zones between shards, which are to lie over those of the shards.

    Zones between rows of shards hold the corners where four shards meet, and lie over those between columns.

    Args:
        scene: the source.
        recipe: the pixel settings.
        shards: those of the scene that have a valid pixel.
        folder: exists; gets the files.

    Raises:
        OutputError: a shard's strips cannot be read.
    """
    pieces: dict[Layer, list[Piece]] = {layer: [] for layer in layers_of(recipe)}
    axes: tuple[Axis, Axis] = ("cols", "rows")
    for axis in axes:
        for border, beside in sorted(_by_border(shards, axis).items()):
            for window in _windows(scene, recipe, axis, border):
                found = decide(_closed(recipe, beside, axis, border, window), FULL**2, recipe)
                made: dict[Layer, NDArray[Any] | None] = {
                    "mask": found.classes,
                    "confidence": found.confidence,
                    "probabilities": found.probabilities,
                }
                for layer, below in pieces.items():
                    pixels = made[layer]
                    if pixels is not None:
                        below.append(_written(pixels, window, folder, f"{axis}-{layer}"))
    return pieces


def _by_border(shards: Sequence[ShardStrips], axis: Axis) -> dict[int, list[ShardStrips]]:
    """The first pixel behind each border between two rows or columns of shards, and the shards beside it."""
    found: dict[int, list[ShardStrips]] = {}
    for shard in shards:
        core = shard.core
        sides = (core.row_off, core.row_stop) if axis == "rows" else (core.col_off, core.col_stop)
        for side in sides:
            found.setdefault(side, []).append(shard)
    return found


def _windows(scene: Scene, recipe: Recipe, axis: Axis, border: int) -> Iterator[Window]:
    """Parts of bounded size of the zone around a border; none at the scene's own sides."""
    across, length = (scene.height, scene.width) if axis == "rows" else (scene.width, scene.height)
    if not 0 < border < across:
        return
    first, last = border - recipe.rim, min(border + recipe.rim, across)
    step = max(1, SUM_BYTES // (4 * _planes(recipe) * 2 * recipe.rim))
    for start in range(0, length, step):
        long = min(step, length - start)
        if axis == "rows":
            yield Window(row_off=first, col_off=start, height=last - first, width=long)
        else:
            yield Window(row_off=start, col_off=first, height=long, width=last - first)


def _closed(
    recipe: Recipe, beside: Sequence[ShardStrips], axis: Axis, border: int, window: Window
) -> NDArray[Any]:
    """Sums of a part of a zone, by the shards beside its border."""
    strips = (
        strip
        for shard in beside
        if _reaches(shard.core, window, axis, recipe.rim)
        for strip in shard.read(axis, _is_before(shard.core, axis, border))
        if strip.window.meets(window)
    )
    return close(strips, window, _planes(recipe), blend=recipe.blend, overlap=2 * recipe.rim)


def _reaches(core: Window, window: Window, axis: Axis, rim: int) -> bool:
    """Whether a shard beside the border lies at this part of it, its rim included."""
    if axis == "rows":
        return core.col_off - rim < window.col_stop and window.col_off < core.col_stop + rim
    return core.row_off - rim < window.row_stop and window.row_off < core.row_stop + rim


def _is_before(core: Window, axis: Axis, border: int) -> bool:
    """Whether a shard beside a border lies above it, or left of it."""
    return (core.row_stop if axis == "rows" else core.col_stop) == border


def _planes(recipe: Recipe) -> int:
    return max(2, recipe.facts.class_count or 2)


def _written(pixels: NDArray[Any], window: Window, folder: Path, name: str) -> Piece:
    path = folder / f"seam-{name}-{window.row_off:08d}-{window.col_off:08d}.tif"
    with as_geotiff(pixels, compress=None) as made:
        path.write_bytes(bytes(made.read()))
    return Piece(path=str(path), window=window)
