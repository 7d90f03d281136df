"""Scenes that the area of interest does not meet: some are usual, all of them are a mistake in the area."""

from collections.abc import Sequence

import numpy as np
import pyproj
import shapely
from pyproj.exceptions import ProjError

from batchseg.driver.plan import Plan
from batchseg.driver.scene_words import count_of, examples
from batchseg.errors import ConfigError
from batchseg.inputs.source import Affine6, Scene
from batchseg.job.recipe import Area, Recipe
from batchseg.job.settings import AreaFile, JobConfig

Box = tuple[float, float, float, float]
"""Least x, least y, greatest x, greatest y."""


def refuse_area_elsewhere(plan: Plan, recipe: Recipe, config: JobConfig, beyond: int = 0) -> None:
    """An area that meets no scene is wrong, unless earlier runs have done some.

    Args:
        plan: of the job.
        recipe: pixel settings.
        config: the job.
        beyond: scenes outside the area that are not in the plan.

    Raises:
        ConfigError: there are scenes, and none of them, now or earlier, has a pixel in the area.
    """
    if recipe.area is None or plan.triage.done or plan.unread > beyond or not _all_outside(plan):
        return
    where = f"{config.path}: aoi: {_file(config.aoi)}"
    msg = f"{where} meets no scene, of {len(plan.jobs) + beyond}: {_apart(plan, recipe.area)}"
    raise ConfigError(msg)


def area_warning(plan: Plan, recipe: Recipe) -> str:
    """In words where the area meets no scene of this run, only grazes some, or parts of it are turned."""
    if recipe.area is None:
        return ""
    if not plan.unread and _all_outside(plan):
        return outside_warning(plan, recipe.area, len(plan.jobs))
    return _grazed(plan, recipe.area) or _turned(plan, recipe.area)


def outside_warning(plan: Plan, area: Area, count: int) -> str:
    """In words that the area meets none of so many scenes, of which the plan has some."""
    return f"aoi: it meets no scene of this run, of {count}: {_apart(plan, area)}"


def crossing_warning(recipe: Recipe) -> str:
    """In words where polygons of the area cross themselves."""
    if recipe.area is None or not recipe.area.crossed:
        return ""
    return (
        f"aoi: {recipe.area.crossed}: what its outline goes around twice counts as outside, and a corner out "
        f"of order leaves parts out; mend it (in QGIS: Check validity), and the warning is gone"
    )


def _grazed(plan: Plan, area: Area) -> str:
    """Where the area holds no pixel's centre of scenes that it touches."""
    scenes = [job.scene for job in plan.jobs if job.is_grazed]
    if not scenes:
        return ""
    where = f"of {count_of(scenes)} that it touches ({examples(scenes)}) no pixel's centre lies in it"
    there = _box_of(scenes, area.crs)
    boxes = f"it lies at {_words(shapely.from_wkb(area.wkb).bounds)}" + (
        f", they at {_words(there)}" if there else ""
    )
    return f"aoi: {where}, so their masks are nodata: {boxes}"


def _turned(plan: Plan, area: Area) -> str:
    """Where parts of the area would meet scenes if their axes were swapped."""
    parts = shapely.get_parts(shapely.from_wkb(area.wkb))
    there = _box_of([job.scene for job in plan.jobs], area.crs)
    if there is None or len(parts) == 1:
        return ""
    left, bottom, right, top = shapely.bounds(parts).T
    meets = shapely.intersects(shapely.box(left, bottom, right, top), shapely.box(*there))
    turned = shapely.intersects(shapely.box(bottom, left, top, right), shapely.box(*there)) & ~meets
    if not turned.any():
        return ""
    return (
        f"aoi: {int(turned.sum())} of its {len(parts)} parts would meet scenes if their axes were swapped, "
        f"and meet none as they are: write x (longitude, easting) before y"
    )


def _all_outside(plan: Plan) -> bool:
    return bool(plan.jobs) and all(job.is_outside for job in plan.jobs)


def _file(aoi: AreaFile | None) -> str:
    return "" if aoi is None else aoi.uri + (f", layer {aoi.layer}," if aoi.layer else "")


def _apart(plan: Plan, area: Area) -> str:
    """Both boxes in the area's CRS, and whether its axes are swapped."""
    own = shapely.from_wkb(area.wkb).bounds
    there = _box_of([job.scene for job in plan.jobs], area.crs)
    crs = pyproj.CRS.from_user_input(area.crs)
    if there is None:
        return f"it lies at {_words(own)} ({crs.name}), and the scenes have no place in that CRS"
    words = f"it lies at {_words(own)}, the scenes at {_words(there)} ({crs.name})"
    left, bottom, right, top = own
    if shapely.box(bottom, left, top, right).intersects(shapely.box(*there)):
        words += "; its axes are swapped: write x (longitude, easting) before y"
    grazed = [job.scene for job in plan.jobs if job.is_grazed]
    if grazed:
        words += (
            f"; it touches {count_of(grazed)} ({examples(grazed)}), and no pixel's centre lies in it: it is "
            f"smaller than a pixel there, or ends at their edges. Widen it by a pixel to have them"
        )
    return words


def _words(box: Box) -> str:
    left, bottom, right, top = (f"{value:.7g}" for value in box)
    return f"x {left} to {right}, y {bottom} to {top}"


def _box_of(scenes: Sequence[Scene], crs: str) -> Box | None:
    """What holds all scenes, in a CRS; None where PROJ brings none of them there."""
    boxes: dict[str, list[Box]] = {}
    for scene in scenes:
        place = scene.georeference
        if place.crs_wkt and place.transform is not None:
            boxes.setdefault(place.crs_wkt, []).append(_extent(place.transform, scene))
    brought = []
    for wkt, own in boxes.items():
        edges = np.array(own)
        whole = (*edges[:, :2].min(axis=0), *edges[:, 2:].max(axis=0))
        try:
            way = pyproj.Transformer.from_crs(pyproj.CRS.from_wkt(wkt), crs, always_xy=True)
            brought.append(way.transform_bounds(*whole))
        except ProjError:
            continue
    finite = np.array([box for box in brought if np.isfinite(box).all()])
    if not len(finite):
        return None
    left, bottom = (float(value) for value in finite[:, :2].min(axis=0))
    right, top = (float(value) for value in finite[:, 2:].max(axis=0))
    return left, bottom, right, top


def _extent(transform: Affine6, scene: Scene) -> Box:
    a, b, c, d, e, f = transform
    corners = [(0, 0), (scene.width, 0), (0, scene.height), (scene.width, scene.height)]
    xs, ys = zip(*((a * x + b * y + c, d * x + e * y + f) for x, y in corners), strict=True)
    return min(xs), min(ys), max(xs), max(ys)
