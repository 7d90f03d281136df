"""The grid on which a scene is read where a job names a resolution: pixels of that size, the same corners.

A scene on this grid is a `Scene` like any other, with what its files say in `own`. Tiles, shards and
fragments count in its pixels; `output/own_grid` brings what is published back.
"""

from dataclasses import replace

from batchseg.inputs.source import Georeference, Scene
from batchseg.job.recipe import Recipe
from batchseg.job.resolution import ModelGrid
from batchseg.pixels.ground import Sides, degrees, ground_resolution, most_apart

SAME = 0.01
"""Share by which a side may differ from the one that is asked for."""

UNREADABLE = "cannot be read at"
"""How the reason begins of scenes that are refused for the resolution at which a job reads."""


def on_model_grid(scene: Scene, recipe: Recipe) -> Scene:
    """A scene as the network sees it: itself where its pixels have that size, or the job names none."""
    height, width = model_shape(scene, recipe)
    if (height, width) == (scene.height, scene.width):
        return scene
    down, across = height / scene.height, width / scene.width
    return replace(
        scene,
        height=height,
        width=width,
        block_hw=(_blocks(scene.block_hw[0], down), _blocks(scene.block_hw[1], across)),
        georeference=_scaled(scene.georeference, down, across),
        boxes=tuple(
            (top * down, left * across, end * down, right * across) for top, left, end, right in scene.boxes
        ),
        own=scene,
    )


def published(scene: Scene, recipe: Recipe) -> Scene:
    """A scene of `on_model_grid` on the grid of its mask."""
    grid = recipe.model_grid
    return scene.on_own_grid if grid is not None and grid.mask == "scene" else scene


def model_shape(scene: Scene, recipe: Recipe) -> tuple[int, int]:
    """Height and width on the model's grid; a scene's own where `unreadable` has a reason."""
    grid, shape_hw = recipe.model_grid, (scene.height, scene.width)
    sides = None if grid is None else _sides(scene, grid)
    if grid is None or sides is None or _is_far(sides, grid):
        return shape_hw
    across, down = (side / grid.resolution.size for side in sides)
    return _length(scene.height, down), _length(scene.width, across)


def unreadable(scene: Scene, recipe: Recipe) -> str | None:
    """Why a scene cannot be brought to the job's resolution, in words; None where it can, or is not to be."""
    grid = recipe.model_grid
    if grid is None:
        return None
    sides, begin = _sides(scene, grid), f"{UNREADABLE} {grid.limits}: "
    if sides is None:
        return begin + _lacking(scene, grid)
    if not _is_far(sides, grid):
        return None
    size = grid.resolution.size
    apart = most_apart(sides, size)
    own = " x ".join(dict.fromkeys(f"{side:.3g}" for side in sides))
    larger = max(sides) / size >= size / min(sides)
    return (
        f"{begin}its pixels of {own} {grid.resolution.unit} are {apart:.3g} times "
        f"{'larger' if larger else 'smaller'}; set max_ratio: {at_least(apart):g} to have it all the same"
    )


def _lacking(scene: Scene, grid: ModelGrid) -> str:
    """What a scene has not that says how large its pixels are."""
    place = scene.georeference
    if place.transform is None and len(place.gcps) < 3:
        few = ", and fewer than three control points," if place.gcps else ""
        return (
            f"it has no geotransform{few} that says how large its pixels are; write one into the file "
            f"(gdal_edit.py -a_ullr, -a_srs), or set resolution: any to take every scene as it is"
        )
    if not (place.crs_wkt or place.gcps_crs_wkt):
        return (
            "it has no CRS that says how large its pixels are; write it into the file (gdal_edit.py -a_srs), "
            "or set resolution: any to take every scene as it is"
        )
    if grid.resolution.unit == "deg":
        return "its CRS is none of longitude and latitude; write the job's resolution in metres"
    return (
        "its CRS does not say how many metres its pixels are; write one that does into the file "
        "(gdal_edit.py -a_srs), or set resolution: any to take every scene as it is"
    )


def _sides(scene: Scene, grid: ModelGrid) -> Sides | None:
    """Across and down, in the unit of the job's resolution."""
    return degrees(scene) if grid.resolution.unit == "deg" else ground_resolution(scene)


def _is_far(sides: Sides, grid: ModelGrid) -> bool:
    """By more than rounding and a projection's scale, with which 8 m are 8.003 m."""
    return most_apart(sides, grid.resolution.size) > grid.max_ratio * (1 + SAME)


def _length(pixels: int, ratio: float) -> int:
    """Of an axis. Where a whole number of pixels is near enough to one, that, as GDAL makes overviews: to
    bring four pixels to 0.9997 of one would only blur them."""
    wanted, times = pixels * ratio, round(max(ratio, 1 / ratio))
    whole = pixels * times if ratio > 1 else -(-pixels // times)
    return whole if abs(whole - wanted) <= SAME * wanted else max(1, round(wanted))


def at_least(ratio: float) -> float:
    """A ratio of two digits that is no smaller, for a message."""
    step = 10.0 ** (len(str(int(ratio))) - 2)
    return -(-ratio // step) * step


def _blocks(side: int, ratio: float) -> int:
    """Rounded up, so that whole rows of a file stay whole rows."""
    return max(1, -int(-side * ratio // 1))


def _scaled(place: Georeference, down: float, across: float) -> Georeference:
    """The same place in pixels of another size, whose numbers are those of a raster's first one and on."""
    transform = None
    if place.transform is not None:
        a, b, c, d, e, f = place.transform
        transform = (a / across, b / down, c, d / across, e / down, f)
    return replace(
        place,
        transform=transform,
        gcps=tuple(replace(point, row=point.row * down, col=point.col * across) for point in place.gcps),
        rpcs=_scaled_rpcs(place.rpcs, down, across),
    )


Terms = tuple[tuple[str, str], ...]


def _scaled_rpcs(terms: Terms, down: float, across: float) -> Terms:
    """Rational polynomials, which count from the first pixel's centre; none of damaged ones."""
    scaled = dict(terms)
    try:
        for axis, ratio in (("LINE", down), ("SAMP", across)):
            for what, centre in (("OFF", 0.5), ("SCALE", 0.0)):
                if (key := f"{axis}_{what}") in scaled:
                    scaled[key] = repr((float(scaled[key].split()[0]) + centre) * ratio - centre)
    except (ValueError, IndexError):
        return ()
    return tuple(scaled.items())
