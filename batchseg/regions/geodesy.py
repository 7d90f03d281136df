"""Metres and degrees of pixels: areas, lengths, and boxes in longitude and latitude."""

import functools
import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from numpy.typing import ArrayLike, NDArray

from batchseg.inputs.source import Affine6, Georeference

Floats = NDArray[np.float64]

POINTS_PER_SIDE = ((16, 1), (64, 2), (np.inf, 16))
"""How densely a box's border is followed: up to so many pixels, so many points on each side."""


def known_crs(georeference: Georeference) -> pyproj.CRS | None:
    """The CRS that a raster's geotransform leads to; None without either, or where the text is no CRS."""
    if georeference.transform is None or not georeference.crs_wkt:
        return None
    return _crs_of(georeference.crs_wkt)


@functools.lru_cache(maxsize=64)  # half a millisecond each, and a small scene's result asks for six
def _crs_of(wkt: str) -> pyproj.CRS | None:
    try:
        return pyproj.CRS.from_wkt(wkt)
    except pyproj.exceptions.CRSError:
        return None


def crs_code(georeference: Georeference) -> str:
    """A CRS's name in paths: authority and code, `wkt-` and eight digits where it has none, or `none`."""
    crs = known_crs(georeference)
    return "none" if crs is None else _code_of(crs.to_wkt())


@functools.lru_cache(maxsize=64)  # a search of PROJ's database
def _code_of(wkt: str) -> str:
    crs = pyproj.CRS.from_wkt(wkt)
    authority = crs.to_authority(min_confidence=90)  # 90: equal to it in all but the name
    if authority is not None:
        return "-".join(authority)
    return f"wkt-{hashlib.sha256(wkt.encode()).hexdigest()[:8]}"


def row_areas(georeference: Georeference, *, height: int, width: int) -> Floats | None:
    """Square metres of one pixel, per row; None without CRS and geotransform.

    Projected: the plane's area, in metres whatever the CRS's unit. Geographic: the ellipsoid's area
    between the row's parallels; for a rotated raster, at the latitude of the row's middle.
    """
    crs = known_crs(georeference)
    if crs is None or georeference.transform is None:
        return None
    a, b, _, d, e, f = georeference.transform
    determinant, unit = abs(a * e - b * d), _unit(crs)
    if crs.is_projected:
        return np.full(height, determinant * unit * unit)
    geod = _geod(crs)
    if geod is None:
        return None
    rows = np.arange(height)
    if d == 0:
        edges = np.clip(np.array((f + e * rows, f + e * (rows + 1))) * unit, -np.pi / 2, np.pi / 2)
        zone = np.abs(np.diff(_authalic(np.sin(edges), geod.es), axis=0))[0]
        areas: Floats = zone * abs(a) * unit * geod.a**2 / 2
        return areas
    sine = np.sin((f + d * width / 2 + e * (rows + 0.5)) * unit)
    # The derivative of _authalic by latitude is 2 (1 - es) cos / (1 - es sin^2)^2.
    density = (1 - geod.es) * np.sqrt(1 - sine**2) / (1 - geod.es * sine**2) ** 2
    return np.asarray(density * determinant * unit**2 * geod.a**2)


def _unit(crs: pyproj.CRS) -> float:
    """Of the first axis, in metres or radians."""
    return float(crs.axis_info[0].unit_conversion_factor) if crs.axis_info else 1.0


def _geod(crs: pyproj.CRS) -> pyproj.Geod | None:
    return crs.get_geod() if crs.is_geographic else None


def _authalic(sine: Floats, es: float) -> Floats:
    """Snyder, Map Projections: A Working Manual (USGS 1987), equation 3-12: q of a latitude.

    The ellipsoid's area between two parallels and over a longitude difference is a**2 / 2 times the
    difference of q times that of longitude, in radians.
    """
    if es == 0:
        return 2 * sine
    ecc = math.sqrt(es)
    return (1 - es) * (sine / (1 - es * sine**2) - np.log((1 - ecc * sine) / (1 + ecc * sine)) / (2 * ecc))


@dataclass(frozen=True, slots=True, kw_only=True)
class SideLengths:
    """Metres of pixel sides by lattice line, for rasters whose rows are parallels or that lie on a plane."""

    along: Floats
    """(height + 1,) one pixel along each line."""
    down: Floats
    """(height + 1,) from the first line to each one, in signed steps."""

    def horizontal(
        self, y: NDArray[np.integer], x: NDArray[np.integer], next_x: NDArray[np.integer]
    ) -> Floats:
        """Of sides on line y from column x to next_x."""
        return np.asarray(self.along[y] * np.abs(next_x - x))

    def vertical(self, x: NDArray[np.integer], y: NDArray[np.integer], next_y: NDArray[np.integer]) -> Floats:
        """Of sides at column x from line y to next_y."""
        return np.asarray(np.abs(self.down[next_y] - self.down[y]))


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnedSideLengths:
    """The same for rasters in degrees whose rows are not parallels: each side at its middle's latitude."""

    transform: Affine6
    unit: float
    geod: pyproj.Geod

    def horizontal(
        self, y: NDArray[np.integer], x: NDArray[np.integer], next_x: NDArray[np.integer]
    ) -> Floats:
        """Of sides on line y from column x to next_x."""
        a, _, _, d, _, _ = self.transform
        steps = next_x.astype(np.int64) - x
        return self._lengths((x + next_x) / 2, y, a * steps, d * steps)

    def vertical(self, x: NDArray[np.integer], y: NDArray[np.integer], next_y: NDArray[np.integer]) -> Floats:
        """Of sides at column x from line y to next_y."""
        _, b, _, _, e, _ = self.transform
        steps = next_y.astype(np.int64) - y
        return self._lengths(x, (y + next_y) / 2, b * steps, e * steps)

    def _lengths(self, x: ArrayLike, y: ArrayLike, east: Floats, north: Floats) -> Floats:
        _, _, _, d, e, f = self.transform
        meridian, parallel = _radii((d * np.asarray(x) + e * np.asarray(y) + f) * self.unit, self.geod)
        return np.hypot(parallel * east * self.unit, meridian * north * self.unit)


def side_lengths(georeference: Georeference, *, height: int) -> SideLengths | TurnedSideLengths | None:
    """Metres of pixel sides: planar in a projected CRS, on the ellipsoid in a geographic one, else None."""
    crs = known_crs(georeference)
    if crs is None or georeference.transform is None:
        return None
    transform, unit = georeference.transform, _unit(crs)
    a, b, _, d, e, f = transform
    lines = np.arange(height + 1)
    if crs.is_projected:
        along = np.full(height + 1, math.hypot(a, d) * unit)
        down = np.asarray(lines * (math.hypot(b, e) * unit), dtype=np.float64)
        return SideLengths(along=along, down=down)
    geod = _geod(crs)
    if geod is None:
        return None
    if b != 0 or d != 0:
        return TurnedSideLengths(transform=transform, unit=unit, geod=geod)
    _, parallel = _radii((f + e * lines) * unit, geod)
    meridian, _ = _radii((f + e * (lines[:-1] + 0.5)) * unit, geod)
    down = np.concatenate([[0.0], np.cumsum(meridian * abs(e) * unit)])
    return SideLengths(along=parallel * abs(a) * unit, down=down)


def _radii(latitude: NDArray[np.floating[Any]], geod: pyproj.Geod) -> tuple[Floats, Floats]:
    """Metres per radian of latitude and of longitude (Snyder 1987, equations 4-19 and 4-20 with 4-21)."""
    latitude = np.clip(latitude, -np.pi / 2, np.pi / 2)
    root = np.sqrt(1 - geod.es * np.sin(latitude) ** 2)
    return geod.a * (1 - geod.es) / root**3, geod.a / root * np.cos(latitude)


class LonLatBoxes:
    """Boxes of pixels to boxes in longitude and latitude (EPSG:4326)."""

    def __init__(self, crs: pyproj.CRS, transform: Affine6) -> None:
        """Raises pyproj.exceptions.ProjError where the CRS has no way to longitude and latitude."""
        self._transform = transform
        self._transformer = _to_lon_lat(crs)

    def __call__(self, boxes: NDArray[np.int64]) -> Floats:
        """
        Args:
            boxes: (n, 4) first column, first row, last column + 1, last row + 1.

        Returns:
            (n, 4) west, south, east, north in degrees, of points along each box's border. West is greater
            than east where the box crosses the antimeridian (RFC 7946, 5.2); around a pole a box is
            all longitudes and ends at the pole. NaN where the projection has no answer.
        """
        sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        degrees = np.empty((len(boxes), 4))
        smaller = -1.0
        for most, points in POINTS_PER_SIDE:
            group = np.flatnonzero((sides > smaller) & (sides <= most))
            degrees[group] = self._follow(boxes[group], points)
            smaller = most
        return degrees

    def _follow(self, boxes: NDArray[np.int64], points: int) -> Floats:
        a, b, c, d, e, f = self._transform
        steps = np.arange(points) / points
        zeros, ones = np.zeros(points), np.ones(points)
        along = np.concatenate([steps, ones, 1 - steps, zeros])
        down = np.concatenate([zeros, steps, ones, 1 - steps])
        x = boxes[:, :1] + (boxes[:, 2:3] - boxes[:, :1]) * along
        y = boxes[:, 1:2] + (boxes[:, 3:] - boxes[:, 1:2]) * down
        lon, lat = self._transformer.transform(a * x + b * y + c, d * x + e * y + f)
        return _bounds(np.asarray(lon), np.asarray(lat))


def lon_lat(georeference: Georeference, row: float, col: float) -> tuple[float, float]:
    """Longitude and latitude (EPSG:4326) of a point in a raster; nan where it has none."""
    crs, transform = known_crs(georeference), georeference.transform
    if crs is None or transform is None:
        return np.nan, np.nan
    try:
        transformer = _to_lon_lat(crs)
    except pyproj.exceptions.ProjError:
        return np.nan, np.nan
    a, b, c, d, e, f = transform
    lon, lat = transformer.transform(a * col + b * row + c, d * col + e * row + f)
    return (float(lon), float(lat)) if np.isfinite(lon + lat) else (np.nan, np.nan)


@functools.lru_cache(maxsize=64)
def _to_lon_lat(crs: pyproj.CRS) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(crs, 4326, always_xy=True)


def _bounds(lon: Floats, lat: Floats) -> Floats:
    """Of closed lines (n, points): (n, 4) west, south, east, north."""
    failed = ~np.all(np.isfinite(lon + lat), axis=1, keepdims=True)
    lon, lat = np.where(failed, 0, lon), np.where(failed, 0, lat)
    # From point to point the short way round, so that a line runs on across the antimeridian. One whose steps
    # add up to a full turn goes around a pole.
    turns = np.diff(lon, axis=1, append=lon[:, :1])
    turns = turns - 360 * np.round(turns / 360)
    lines = lon[:, :1] + np.concatenate([np.zeros((len(lon), 1)), np.cumsum(turns[:, :-1], axis=1)], axis=1)
    west, east = lines.min(axis=1), lines.max(axis=1)
    south, north = lat.min(axis=1), lat.max(axis=1)
    around = np.abs(turns.sum(axis=1)) > 180
    north = np.where(around & (south + north > 0), 90, north)
    south = np.where(around & (south + north <= 0), -90, south)
    everywhere = around | (east - west >= 360 - 1e-9)
    bounds = np.stack([np.where(everywhere, -180, _wrapped(west)), south,
                       np.where(everywhere, 180, _wrapped(east)), north], axis=1)  # fmt: skip
    return np.where(failed, np.nan, bounds)


def _wrapped(lon: Floats) -> Floats:
    """Within -180..180, both ends kept as they are."""
    return np.where(np.abs(lon) <= 180, lon, (lon + 180) % 360 - 180)
