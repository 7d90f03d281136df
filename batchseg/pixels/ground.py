"""What a raster's pixels are on the ground: their size in metres, and on which celestial body."""

import math
import re
from functools import lru_cache

import pyproj
from pyproj.exceptions import ProjError
from rasterio.control import GroundControlPoint
from rasterio.errors import RasterioError
from rasterio.transform import from_gcps

from batchseg.inputs.source import Affine6, Georeference, Scene

RADIUS = re.compile(r'(?:SPHEROID|ELLIPSOID)\["[^"]*",\s*([\d.eE+]+)')
"""Of a CRS's ellipsoid, in WKT."""

Sides = tuple[float, float]

BODIES = {"the Earth": 6_378_137.0, "the Moon": 1_737_400.0, "Mars": 3_396_190.0, "Venus": 6_051_800.0}
"""Equatorial radii in metres (IAU 2015, Archinal et al. 2018; of the Earth WGS 84)."""

NO_LENGTHS = frozenset(("unknown", "degree", "radian", "grad"))
"""Units of a site's own CRS that say no metres."""

SAME_BODY = 0.01
"""Share by which the radii of two ellipsoids of one body may differ."""


def ground_resolution(scene: Scene) -> Sides | None:
    """Metres of a pixel's two sides, across and down, at the scene's centre, along the ellipsoid.

    None where nothing says it: there is no CRS, or neither a geotransform nor three control points.
    """
    wkt, transform = _placed(scene.georeference)
    if not wkt or transform is None:
        return None
    a, b, c, d, e, f = transform
    col, row = scene.width / 2, scene.height / 2
    corners = [(col, row), (col + 1, row), (col, row + 1)]
    points = [(a * x + b * y + c, d * x + e * y + f) for x, y in corners]
    try:
        sides = _sides(wkt, points)
    except ProjError:
        return None
    return sides if sides and all(math.isfinite(side) and side > 0 for side in sides) else None


def degrees(scene: Scene) -> Sides | None:
    """Degrees of a pixel's two sides, across and down, in a CRS of longitude and latitude; None: it has none.

    Lengths of the geotransform's columns, so that a scene may lie turned.
    """
    wkt, transform = _placed(scene.georeference)
    if not wkt or transform is None:
        return None
    try:
        crs = pyproj.CRS.from_wkt(wkt)
    except ProjError:
        return None
    if not crs.is_geographic or not crs.axis_info:
        return None
    a, b, _, d, e, _ = transform
    unit = math.degrees(float(crs.axis_info[0].unit_conversion_factor))
    across, down = math.hypot(a, d) * unit, math.hypot(b, e) * unit
    return (across, down) if all(math.isfinite(side) and side > 0 for side in (across, down)) else None


def metres(sides: Sides) -> str:
    """A pixel's size for people: one number where it is square.

    >>> metres((10.001, 10.0)), metres((2.5, 40.0))
    ('10 m', '2.5 x 40 m')
    """
    return " x ".join(dict.fromkeys(f"{side:.3g}" for side in sides)) + " m"


def most_apart(sides: Sides, made_for: float) -> float:
    """How many times larger or smaller than metres of the model the side is that differs most.

    >>> most_apart((2.5, 40.0), 10.0), most_apart((10.0, 5.0), 10.0)
    (4.0, 2.0)
    """
    return max(max(side / made_for, made_for / side) for side in sides)


def _placed(place: Georeference) -> tuple[str | None, Affine6 | None]:
    if place.transform is not None or len(place.gcps) < 3:
        return place.crs_wkt, place.transform
    points = [GroundControlPoint(row=p.row, col=p.col, x=p.x, y=p.y) for p in place.gcps]
    try:
        a, b, c, d, e, f = from_gcps(points)[:6]
    except (RasterioError, ValueError):  # all on one line
        return None, None
    return place.gcps_crs_wkt, (a, b, c, d, e, f)


def _sides(wkt: str, points: list[tuple[float, float]]) -> Sides | None:
    """Metres from the first point to each of the two others; None: the CRS does not say its unit."""
    crs, there, degree = _way(wkt)
    if there is None:
        if not crs.axis_info or crs.axis_info[0].unit_name.lower() in NO_LENGTHS:
            return None
        unit = float(crs.axis_info[0].unit_conversion_factor)
        first, *others = points
        right, below = (math.dist(first, other) * unit for other in others)
        return right, below
    lon, lat = there.transform(*zip(*points, strict=True))
    lon, lat = ([value * degree for value in values] for values in (lon, lat))
    _, _, along = crs.get_geod().inv([lon[0]] * 2, [lat[0]] * 2, lon[1:], lat[1:])
    return float(along[0]), float(along[1])


@lru_cache(maxsize=256)
def _way(wkt: str) -> tuple[pyproj.CRS, pyproj.Transformer | None, float]:
    """The CRS, the way to longitude and latitude on its own ellipsoid, and their unit in degrees."""
    crs = pyproj.CRS.from_wkt(wkt)
    geodetic = crs.geodetic_crs
    if geodetic is None or crs.get_geod() is None:
        return crs, None, 1.0  # local coordinates of a site
    unit = float(geodetic.axis_info[0].unit_conversion_factor) if geodetic.axis_info else math.radians(1)
    return crs, pyproj.Transformer.from_crs(crs, geodetic, always_xy=True), math.degrees(unit)


def body(scene: Scene) -> str | None:
    """The celestial body that a scene's CRS is of, in words; None where it has no CRS."""
    return _body(scene.georeference.crs_wkt or scene.georeference.gcps_crs_wkt or "")


@lru_cache(maxsize=256)
def _body(wkt: str) -> str | None:
    found = RADIUS.search(wkt)
    try:
        radius = float(found[1]) if found else 0.0
    except ValueError:
        return None
    if radius <= 0:
        return None
    near = [name for name, own in BODIES.items() if abs(radius - own) <= SAME_BODY * own]
    return near[0] if near else f"a body of {radius / 1000:,.0f} km radius"
