"""The area of interest: polygons of a vector file, and which pixels of a scene lie in them.

A pixel lies inside where its centre does. Edges are straight in the vector file's own CRS. An area without
the centre of a pixel gets none.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from shapely.geometry.base import BaseGeometry

from batchseg.errors import ConfigError, SourceError
from batchseg.inputs.formats import check_crs
from batchseg.inputs.source import Affine6, Scene
from batchseg.job.recipe import Area
from batchseg.job.settings import AreaFile
from batchseg.pixels.grid import Window
from batchseg.pixels.vector import read_layer

BLOCK = 512
"""Pixels per side of what is burnt at once, from the raster's first pixel on: windows do not matter."""

TOLERANCE = 0.01
"""Pixels by which an edge may leave its true course between two of its points."""

SLIVER = 1e-3
"""Share of a polygon that crossing sides may cut off, as rounding does, without a word."""

_CROSSING = re.compile(r"Self-intersection\[(\S+) ([^]\s]+)")

POLYGON = 3
"""shapely's type id."""


class MisplacedError(ValueError):
    """An area cannot be brought to a scene's pixels; says why in words about the scene."""


def read_area(file: AreaFile) -> Area:
    """Read the polygons of a vector file.

    Raises:
        ConfigError: it cannot be read, or has no polygon or no CRS.
    """
    where = f"aoi: {file.uri}" + (f", layer {file.layer}" if file.layer else "")
    crs, blobs = _read_vector(file, where)
    try:
        polygons = _polygons(shapely.from_wkb([blob for blob in blobs if blob is not None]))
        union = shapely.union_all(_polygons(shapely.make_valid(polygons)))
    except shapely.errors.ShapelyError as e:
        msg = f"{where}: its geometry cannot be used: {e}"
        raise ConfigError(msg) from e
    if union.is_empty:
        msg = f"{where} holds no polygon; give a file of polygons, or name the `layer` that has them"
        raise ConfigError(msg)
    if not crs:
        msg = f"{where} has no CRS, so nothing says where its polygons lie; write it with one"
        raise ConfigError(msg)
    try:
        check_crs(crs)
        pyproj.CRS.from_user_input(crs)
    except SourceError as e:
        msg = f"{where} cannot be used: {e}"
        raise ConfigError(msg) from e
    except ProjError as e:
        msg = f"{where} has a CRS that PROJ does not know: {e}"
        raise ConfigError(msg) from e
    content = [crs.encode(), *sorted(shapely.to_wkb(polygons, byte_order=1, output_dimension=2))]
    digest = hashlib.sha256(b"\0".join(content)).hexdigest()[:16]
    return Area(
        wkb=shapely.to_wkb(union, byte_order=1, output_dimension=2),
        crs=crs,
        digest=digest,
        crossed=_crossed(polygons),
    )


def _crossed(polygons: NDArray[Any]) -> str:
    """Polygons whose sides cross so that more than a sliver may be meant or not, in words."""
    odd = [polygon for polygon in polygons[~shapely.is_valid(polygons)] if _is_a_guess(polygon)]
    if not odd:
        return ""
    place = _CROSSING.match(shapely.is_valid_reason(odd[0]))
    where = " near x {:.10g}, y {:.10g}".format(*map(float, place.groups())) if place else ""
    return f"{len(odd)} of its {len(polygons)} polygons cross{'es' * (len(odd) == 1)} itself{where}"


def _is_a_guess(polygon: BaseGeometry) -> bool:
    """Whether lobes beside the largest, or what is gone around twice, are more than SLIVER of it."""
    if not _CROSSING.match(shapely.is_valid_reason(polygon)):
        return False
    taken = shapely.make_valid(polygon)
    other = shapely.make_valid(polygon, method="structure", keep_collapsed=False)
    areas = np.sort(shapely.area(_polygons(taken)))
    doubt = areas[:-1].sum() + shapely.area(shapely.symmetric_difference(taken, other))
    return bool(doubt > SLIVER * areas.sum())


def _read_vector(file: AreaFile, where: str) -> tuple[str | None, Sequence[bytes | None]]:
    """The CRS and the geometries as WKB of one layer."""
    try:
        return read_layer(file.uri, file.layer)
    except ImportError as e:
        msg = (
            f"{where}: reading vector files needs pyogrio; install it with `pip install '.[vector]'` in "
            f"batchseg's clone"
        )
        raise ConfigError(msg) from e
    except (OSError, RuntimeError, ValueError) as e:
        msg = f"{where} cannot be read: {e}"
        raise ConfigError(msg) from e


def _polygons(geometries: Any) -> NDArray[Any]:
    """All polygons, those in collections too."""
    parts = shapely.get_parts(shapely.get_parts(geometries))
    polygons: NDArray[Any] = parts[(shapely.get_type_id(parts) == POLYGON) & ~shapely.is_empty(parts)]
    return polygons


class Footprint:
    """An area in a scene's pixel coordinates: x is the column, y the row, 0 the first pixel's corner."""

    def __init__(self, geometry: BaseGeometry) -> None:
        self._geometry = geometry
        shapely.prepare(geometry)

    def touches(self, windows: Sequence[Window]) -> NDArray[np.bool_]:
        """Which windows have a part of the area in them, shape (windows,).

        A window that the area only grazes, without the centre of a pixel, counts too: `holds_a_pixel` tells.
        """
        edges = np.array([(w.col_off, w.row_off, w.col_stop, w.row_stop) for w in windows]).reshape(-1, 4)
        touched: NDArray[np.bool_] = shapely.intersects(self._geometry, shapely.box(*edges.T))
        return touched

    def holds_a_pixel(self, windows: Sequence[Window]) -> bool:
        """Whether the centre of any pixel of these windows lies in the area."""
        parts = (self.inside(window) for window in windows)
        return any(part is None or bool(part.any()) for part in parts)

    def inside(self, at: Window) -> NDArray[np.bool_] | None:
        """Pixels of a window whose centre lies in the area, shape (height, width); None: all of them."""
        if self._holds(at):
            return None
        mask = np.zeros((at.height, at.width), dtype=bool)
        for row_off in range(at.row_off // BLOCK * BLOCK, at.row_stop, BLOCK):
            for col_off in range(at.col_off // BLOCK * BLOCK, at.col_stop, BLOCK):
                block = Window(row_off=row_off, col_off=col_off, height=BLOCK, width=BLOCK)
                top, left = max(row_off, at.row_off), max(col_off, at.col_off)
                part = Window(
                    row_off=top,
                    col_off=left,
                    height=min(block.row_stop, at.row_stop) - top,
                    width=min(block.col_stop, at.col_stop) - left,
                )
                mask[part.slices_within(at)] = self._burnt(block)[part.slices_within(block)]
        return mask

    def _holds(self, at: Window) -> bool:
        box = shapely.box(at.col_off, at.row_off, at.col_stop, at.row_stop)
        return bool(shapely.contains_properly(self._geometry, box))

    def _burnt(self, block: Window) -> NDArray[np.bool_]:
        """One block; of a large area only what lies near it is burnt."""
        if self._holds(block):
            return np.ones((block.height, block.width), dtype=bool)
        near = shapely.box(block.col_off - 1, block.row_off - 1, block.col_stop + 1, block.row_stop + 1)
        parts: NDArray[Any] = np.array([])
        if shapely.intersects(self._geometry, near):
            parts = _polygons(shapely.intersection(self._geometry, near))  # a line that grazes would be burnt
        if not len(parts):
            return np.zeros((block.height, block.width), dtype=bool)
        from rasterio.features import rasterize  # GDAL, which the processes that only predict are spared
        from rasterio.transform import Affine

        burnt = rasterize(
            parts,
            out_shape=(block.height, block.width),
            transform=Affine.translation(block.col_off, block.row_off),
            dtype="uint8",
        )
        inside: NDArray[np.bool_] = burnt != 0
        return inside


def misplacement(area: Area, scene: Scene) -> str | None:
    """Why nobody can say which pixels of a scene lie in the area; None where it is known."""
    try:
        footprint(area, scene)
    except MisplacedError as e:
        return str(e)
    return None


def footprint(area: Area, scene: Scene) -> Footprint:
    """The area as a scene sees it; the last ones are kept in the process.

    Raises:
        MisplacedError: the scene has no CRS and geotransform, or PROJ knows no way between the CRSs.
    """
    place = scene.georeference
    if place.transform is None or place.crs_wkt is None:
        found = "control points instead of a geotransform" if place.gcps else "no georeference"
        if place.transform is not None:
            found = "no CRS"
        msg = f"has {found}, so the job's aoi cannot be found in it; rectify it (gdalwarp), or leave it out"
        raise MisplacedError(msg)
    return _footprint(area, place.crs_wkt, place.transform, scene.height, scene.width)


@lru_cache(maxsize=4)
def _footprint(area: Area, crs_wkt: str, transform: Affine6, height: int, width: int) -> Footprint:
    try:
        with np.errstate(all="ignore"):  # what is not finite is looked for
            return _brought(area, pyproj.CRS.from_wkt(crs_wkt), transform, height, width)
    except (ProjError, np.linalg.LinAlgError, shapely.errors.ShapelyError) as e:
        # GEOS: of NaN and numbers beyond all measure, which a geotransform may hold
        msg = f"has a CRS or geotransform to which the job's aoi cannot be brought: {e}"
        raise MisplacedError(msg) from e


def _brought(area: Area, crs: pyproj.CRS, transform: Affine6, height: int, width: int) -> Footprint:
    there = pyproj.Transformer.from_crs(area.crs, crs, always_xy=True)
    polygons = _near(shapely.from_wkb(area.wkb), there, transform, height, width)
    pixels = _in_pixels(polygons, there, transform)
    # Beyond 2**53 float64 tells no pixels apart, and GEOS takes half a minute over what comes of it.
    if not (np.abs(shapely.get_coordinates(pixels)) < 2.0**53).all():
        msg = (
            "has a CRS or geotransform in which parts of the job's aoi have no place; cut the aoi to the "
            "scenes' region"
        )
        raise MisplacedError(msg)
    # A pixel beyond the raster, so that the cut's own edges touch none of its pixels.
    raster = shapely.box(-1, -1, width + 1, height + 1)
    parts = _polygons(shapely.make_valid(pixels))
    return Footprint(shapely.union_all(_polygons(shapely.intersection(parts, raster))))


def _near(
    area: BaseGeometry, there: pyproj.Transformer, transform: Affine6, height: int, width: int
) -> BaseGeometry:
    """The part of the area about a scene: far from it a projection may know no coordinates."""
    from rasterio.transform import Affine

    corners = [Affine(*transform) @ corner for corner in ((0, 0), (width, 0), (0, height), (width, height))]
    (left, bottom), (right, top) = np.min(corners, axis=0), np.max(corners, axis=0)
    try:
        left, bottom, right, top = there.transform_bounds(left, bottom, right, top, direction="INVERSE")
    except ProjError:
        return area
    if not np.isfinite((left, bottom, right, top)).all():
        return area
    if left > right:  # across the antimeridian
        boxes = [shapely.box(left, bottom, 180, top), shapely.box(-180, bottom, right, top)]
    else:
        boxes = [shapely.box(left, bottom, right, top)]
    # The bounds are those of 21 points a side: the margin holds what bulges between them.
    extents = shapely.bounds(boxes)
    margin = 0.05 * (extents[:, 2:] - extents[:, :2]).max()
    return shapely.intersection(area, shapely.union_all(shapely.buffer(boxes, margin, join_style="mitre")))


def _in_pixels(area: BaseGeometry, there: pyproj.Transformer, transform: Affine6) -> BaseGeometry:
    """The area in pixel coordinates, with points added until no edge strays by more than TOLERANCE."""
    a, b, c, d, e, f = transform
    inverse = np.linalg.inv(np.array([[a, b], [d, e]]))

    def to_pixels(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = there.transform(points[:, 0], points[:, 1])
        # The offset first: what is left is small and keeps its digits.
        return np.asarray(np.column_stack((x - c, y - f)) @ inverse.T)

    if area.is_empty:
        return area
    left, bottom, right, top = area.bounds
    step = max(right - left, top - bottom) / 8
    for _ in range(12):
        dense = shapely.segmentize(area, step)
        if _strays(dense, to_pixels) <= TOLERANCE:
            break
        step /= 2
    return shapely.transform(dense, to_pixels)


def _strays(area: BaseGeometry, to_pixels: Any) -> float:
    """The largest distance in pixels between the middle of an edge and the straight line there."""
    rings = shapely.get_rings(shapely.get_parts(area))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    ends = to_pixels(points)
    middles = to_pixels((points[1:] + points[:-1])[same] / 2)
    chords = ((ends[1:] + ends[:-1]) / 2)[same]
    return float(np.hypot(*(middles - chords).T).max(initial=0))
