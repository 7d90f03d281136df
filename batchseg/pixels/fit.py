"""Whether a scene fits a job, and what that decides of its tiles, its types and its fills."""

import dataclasses
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.inputs.metadata import missing_metadata
from batchseg.inputs.source import Scene
from batchseg.job.recipe import Recipe, spread
from batchseg.job.resolution import MAX_RATIO
from batchseg.job.settings import Fit, Scale
from batchseg.pixels.area import misplacement
from batchseg.pixels.bands import NoBandError, bands_of, called, misnamed
from batchseg.pixels.grid import TileGrid
from batchseg.pixels.ground import ground_resolution, metres, most_apart
from batchseg.pixels.model_grid import at_least, model_shape, unreadable
from batchseg.pixels.overlap import apart

MAX_TILES = 2_000_000
"""Of one scene, 540,000 pixels square in usual tiles: the driver takes 0.6 GB for it. A file of 122 bytes may
claim 2e13."""

WARNED_FACTOR, REFUSED_FACTOR = 1.5, 4.0
"""Between either side of a scene's pixels and the model's."""

RESOLUTION_REFUSED = "has pixels of"
"""How the reason begins of sources that are refused for it."""


def tile_grid(recipe: Recipe, height: int, width: int) -> TileGrid:
    """The tiles of a raster of this size, in pixels."""
    return TileGrid(height=height, width=width, tile_size=recipe.tile_size, halo=recipe.halo, rim=recipe.rim)


def of_scene(recipe: Recipe, scene: Scene) -> Recipe:
    """The recipe with the scene's own band numbers and scale, where the job leaves them to the scene.

    raw * scale + offset is (raw - low) / (high - low), which is exact for Sentinel-2's integers.

    Raises:
        ValueError: the scene has none for a band; `mismatch` says so before.
    """
    bands = bands_of(scene, recipe)
    if bands != recipe.bands:
        recipe = dataclasses.replace(recipe, bands=bands)
    if recipe.scale.kind != "metadata":
        return recipe
    pairs = [scene.rescale[band - 1] for band in recipe.bands]
    chosen = [pair for pair in pairs if pair is not None]
    if len(chosen) < len(pairs):
        msg = f"{scene.source.source_id} has no scale for every band"
        raise ValueError(msg)
    low = tuple(-offset / scale for scale, offset in chosen)
    high = tuple((1 - offset) / scale for scale, offset in chosen)
    return dataclasses.replace(recipe, scale=dataclasses.replace(recipe.scale, low=low, high=high))


def mismatch(scene: Scene, recipe: Recipe) -> str | None:
    """Why this scene cannot be segmented by this recipe, in words; None where it can."""
    if (
        reason := _other_shape(scene, recipe)
        or _other_values(scene, recipe)
        or _far_resolution(scene, recipe)
        or unreadable(scene, recipe)
    ):
        return reason
    return misplacement(recipe.area, scene) if recipe.area is not None else None


def value_mismatch(scene: Scene, recipe: Recipe) -> str | None:
    """Why only this scene's values keep it from the recipe, as far as its header tells; else None."""
    if _other_shape(scene, recipe) or (_unscaled(scene, recipe) and _lacking_file(scene)):
        return None
    return _other_values(scene, recipe)


def _lacking_file(scene: Scene) -> str:
    """Which metadata of its product a scene lacks, in words; empty: none, or it is of no product."""
    source = scene.source
    return "" if any(source.metadata) or any(source.said) else missing_metadata(source.opened[0])


def _other_shape(scene: Scene, recipe: Recipe) -> str | None:
    count = scene.band_count
    if recipe.all_bands:
        usable = count - len(scene.alpha_bands)
        if usable != len(recipe.bands):
            alpha = f" (and alpha: band {scene.alpha_bands[0]})" if scene.alpha_bands else ""
            return f"has {usable} bands{alpha}, the model takes {len(recipe.bands)}; name the job's `bands`"
    elif recipe.band_names:
        try:
            bands_of(scene, recipe)
        except NoBandError as e:
            return str(e)
    elif max(recipe.bands) > count:
        return f"has {count} band{'s' * (count > 1)}, the job asks for band {max(recipe.bands)}"
    bands = bands_of(scene, recipe)
    if reason := misnamed(scene, bands) or apart(scene, bands):
        return reason
    if (tiles := tile_grid(recipe, *model_shape(scene, recipe)).count) > MAX_TILES:
        return (
            f"claims {scene.height:,} x {scene.width:,} pixels, which are {tiles:,} tiles; at most "
            f"{MAX_TILES:,} are taken of one scene"
        )
    return None


def _other_values(scene: Scene, recipe: Recipe) -> str | None:
    if unscaled := _unscaled(scene, recipe):
        return unscaled
    for dtype in sorted({scene.dtypes[band - 1] for band in bands_of(scene, recipe)}):
        if reason := out_of_scale(dtype, recipe.scale) or impossible_nodata(dtype, recipe.nodata):
            return reason
    return None


def _far_resolution(scene: Scene, recipe: Recipe) -> str | None:
    if recipe.resolution is None or recipe.any_resolution or recipe.model_grid is not None:
        return None
    own = ground_resolution(scene)
    if own is None or (apart := most_apart(own, recipe.resolution)) <= REFUSED_FACTOR:
        return None
    far = f" and max_ratio: {at_least(apart):g}" if apart > MAX_RATIO else ""
    return (
        f"{RESOLUTION_REFUSED} {metres(own)} on the ground, the model was made for {recipe.resolution:.3g} "
        f"m: set resolution: model{far} to have it read at that, or resolution: any to take every scene as "
        f"it is"
    )


def impossible_nodata(dtype: str, nodata: float | str) -> str | None:
    """Why no pixel of this dtype can have the job's nodata value; None where one can, or it has none."""
    if isinstance(nodata, str):
        return None
    kind = np.dtype(dtype)
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            if not np.isinf(np.array(nodata).astype(kind)) or np.isinf(nodata):
                return None
        reach = f"up to {np.finfo(kind).max:.3g}"
    else:
        info = np.iinfo(kind)
        if info.min <= nodata <= info.max and float(nodata).is_integer():
            return None
        reach = f"{info.min}..{info.max}"
    return (
        f"has {dtype} pixels ({reach}), of which none can be the job's nodata: {nodata:.12g}; name a value "
        f"that they have, or leave `nodata` to the files"
    )


def _unscaled(scene: Scene, recipe: Recipe) -> str | None:
    if recipe.scale.kind != "metadata":
        return None
    bands = bands_of(scene, recipe)
    lacking = [band for band in bands if not scene.rescale or scene.rescale[band - 1] is None]
    if not lacking:
        return None
    if missing := _lacking_file(scene):  # no number in the job says what it would: offsets changed in 2022
        return f"has no scale and offset: {missing}; fetch the product again"
    return (
        f"has no scale and offset for {called(scene, lacking[0])}: neither a STAC item, Sentinel-2's "
        f"MTD_MSI*.xml or Landsat's *_MTL file says them, nor the file itself; "
        f"{_usual_scales(scene.dtypes[lacking[0] - 1])}"
    )


def out_of_scale(dtype: str, scale: Scale, fit: Fit | None = None, stored: str = "") -> str | None:
    """Why pixels of this dtype cannot be brought to the model's unit, and what to write; None where they can.

    Args:
        dtype: of the pixels.
        scale: the recipe's.
        fit: the recipe's; None: scenes.
        stored: the file's, where it is another one.
    """
    wrong = misfit(dtype, scale, stored)
    if wrong is None or not is_number(dtype):
        return wrong
    return f"{wrong}; {_usual_scales(dtype, fit)}"


def is_number(dtype: str) -> bool:
    """Whether a scale can bring it to the model; numpy does not know all of rasterio's names."""
    return re.fullmatch(r"u?int(8|16|32|64)|float(16|32|64)", dtype) is not None


def misfit(dtype: str, scale: Scale, stored: str = "") -> str | None:
    """Why pixels of this dtype cannot be brought to the model's unit; None where they can.

    Arguments as of `out_of_scale`.
    """
    if not is_number(dtype):
        words = f"complex pixels ({dtype})" if "complex" in dtype else f"{dtype} pixels"
        return f"has {words}, which no scale can bring to the model"
    kind = np.dtype(dtype)
    if scale.kind == "transforms":
        if dtype != "uint8":
            return f"has {stored or dtype} pixels, the model's transforms expect uint8 (0..255)"
    elif kind.kind in "ui" and scale.kind != "metadata":
        info = np.iinfo(kind)
        if max(scale.high) > info.max or min(scale.low) < info.min:
            reach = f"{min(scale.low):g}..{max(scale.high):g}"
            return f"has {dtype} pixels ({info.min}..{info.max}), scale reaches {reach}"
        if scale.kind == "divide" and info.max > 255 and 100 <= max(scale.high) <= 256:
            return f"has {dtype} pixels, scale divides by {max(scale.high):g} as for uint8"
    return None


def _usual_scales(dtype: str, fit: Fit | None = None) -> str:
    """What to write for pixels of which only the type is known. `value_remedy` looks at the values."""
    if dtype == "uint8":
        return "set scale: {divide: 255}, or leave `scale` out"
    if dtype.startswith("float"):
        more = "{divide: 255} for 0..255" if fit else "{divide: 10000} for 0..10000"
        ways = f"{{divide: 1}} for 0..1, {more}"
    elif fit:
        ways = "{divide: 1023}, {divide: 4095}, {divide: 16383} or {divide: 65535} for 10, 12, 14 or 16 bits"
    else:
        ways = (
            "{divide: 10000} for reflectance in integers, {divide: 4095} or {divide: 65535} for 12 or 16 bits"
        )
    return f"set `scale` by what they hold: {ways}, else {{stretch: [low, high]}}"


def held_dtype(scene: Scene, recipe: Recipe) -> np.dtype[Any]:
    """The type that a scene's pixels have in memory: their own if the scales know it, else float32."""
    own = np.result_type(*(scene.dtypes[band - 1] for band in bands_of(scene, recipe)))
    return own if own in (np.uint8, np.uint16, np.int16, np.float32) else np.dtype(np.float32)


def fill_values(recipe: Recipe, dtype: str) -> NDArray[np.generic]:
    """One raw value per band for invalid pixels: what scales and normalises to zero, or nearest to it.

    Returns:
        Shape (bands,), of `dtype`.
    """
    count = len(recipe.bands)
    low, high = (np.array(spread(v, count)) for v in (recipe.scale.low, recipe.scale.high))
    mean = np.array(recipe.normalize.mean if recipe.normalize else (0.0,) * count)
    raw = low + mean * (high - low)
    kind = np.dtype(dtype)
    if kind.kind in "ui":
        info = np.iinfo(kind)
        raw = np.clip(np.rint(raw), info.min, info.max)
    filled: NDArray[np.generic] = raw.astype(kind)
    return filled
