"""Regions to table rows: measures, boxes and geometry in the scene's place."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyproj
import shapely
from numpy.typing import NDArray

from batchseg.inputs.source import Affine6, Georeference
from batchseg.regions.geodesy import Floats, LonLatBoxes, known_crs, row_areas, side_lengths
from batchseg.regions.tracing.ragged import Ints, following, offsets_of
from batchseg.regions.tracing.rings import Counts, Regions, ring_coordinates

PIXELS: Affine6 = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""The place of rasters without geotransform."""

_FIELDS: dict[str, pa.DataType] = {
    "source_id": pa.string(),
    "region_id": pa.int64(),  # row * width + column of the first pixel
    "class_id": pa.int32(),
    "class_name": pa.string(),  # null where the job names none
    "area_px": pa.int64(),
    "area_m2": pa.float64(),  # null without a CRS
    "perimeter_px": pa.int64(),
    "perimeter_m": pa.float64(),
    "centroid_x": pa.float64(),  # in the CRS; in pixels without geotransform
    "centroid_y": pa.float64(),
    "lon_min": pa.float64(),  # greater than lon_max across the antimeridian
    "lat_min": pa.float64(),
    "lon_max": pa.float64(),
    "lat_max": pa.float64(),
    "confidence": pa.float32(),  # mean, 0..1; null without scores
    "touches_edge": pa.bool_(),
    "geometry": pa.binary(),
}
SCENE_COLUMNS = pa.schema(list(_FIELDS.items()))
"""One row per region of a scene; `region_schema` adds the CRS."""


def region_schema(georeference: Georeference) -> pa.Schema:
    """Columns, and GeoParquet 1.1's metadata: WKB, polygons, the CRS as PROJJSON or null."""
    crs = known_crs(georeference)
    geometry = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": None if crs is None else crs.to_json_dict(),
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    return pa.schema(list(_FIELDS.items()), metadata={"geo": json.dumps(geo, sort_keys=True)})


class RowMaker:
    """Makes tables of one scene's regions.

    Args:
        georeference: of the scene.
        height: of the scene in pixels.
        width: of the scene in pixels.
        source_id: of the scene.
        class_names: by class id.
        simplify: tolerance in pixels, 0 for none.
        with_confidence: whether regions come with sums of confidence.
    """

    def __init__(
        self,
        georeference: Georeference,
        *,
        height: int,
        width: int,
        source_id: str,
        class_names: tuple[str, ...],
        simplify: float,
        with_confidence: bool,
    ) -> None:
        self.schema = region_schema(georeference)
        self._height, self._width, self._source_id = height, width, source_id
        self._class_names, self._simplify, self._with_confidence = class_names, simplify, with_confidence
        self._transform = georeference.transform or PIXELS
        self._areas = row_areas(georeference, height=height, width=width)
        self._sides = side_lengths(georeference, height=height)
        self._boxes = _boxes(georeference)

    def __call__(self, regions: Regions, counts: Counts) -> pa.Table:
        """One row per region, in their order."""
        area, box, nulls = counts.area, counts.box, pa.nulls(len(regions), pa.float64())
        centroid_x, centroid_y = self._place(counts.col_sum / area + 0.5, counts.row_sum / area + 0.5)
        touches = (box[:, :2] == 0).any(axis=1) | (box[:, 2] == self._width) | (box[:, 3] == self._height)
        degrees = [nulls] * 4 if self._boxes is None else [_or_null(side) for side in self._boxes(box).T]
        names = pa.array(self._class_names, pa.string())
        named: Any = pa.array(regions.class_id, mask=regions.class_id >= len(names))
        columns: dict[str, Any] = {
            "source_id": pa.repeat(pa.scalar(self._source_id), len(regions)),
            "region_id": regions.region_id,
            "class_id": regions.class_id.astype(np.int32),
            "class_name": names.take(named),
            "area_px": area,
            "area_m2": self._square_metres(regions, area),
            "perimeter_px": counts.perimeter,
            "perimeter_m": self._metres(regions),
            "centroid_x": centroid_x,
            "centroid_y": centroid_y,
            **dict(zip(("lon_min", "lat_min", "lon_max", "lat_max"), degrees, strict=True)),
            "confidence": (regions.confidence / area / 255).astype(np.float32)
            if self._with_confidence
            else None,
            "touches_edge": touches,
            "geometry": self._geometry(regions),
        }
        arrays = [
            pa.nulls(len(regions), field.type)
            if columns[field.name] is None
            else pa.array(columns[field.name], field.type)
            for field in self.schema
        ]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _place(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[Floats, Floats]:
        a, b, c, d, e, f = self._transform
        return a * x + b * y + c, d * x + e * y + f

    def _square_metres(self, regions: Regions, area: Ints) -> Floats | None:
        """Each row's pixels by the area of one there; sums that agree with those of the scene's classes."""
        if self._areas is None:
            return None
        if np.all(self._areas == self._areas[0]):
            return np.asarray(area * self._areas[0])
        above = np.concatenate([[0.0], np.cumsum(self._areas)])
        step = regions.x - regions.x[following(regions.rings)]
        return _sums(regions, above[regions.y] * step)

    def _metres(self, regions: Regions) -> Floats | None:
        if self._sides is None:
            return None
        after = following(regions.rings)
        x, y, next_x, next_y = regions.x, regions.y, regions.x[after], regions.y[after]
        return _sums(regions, self._sides.horizontal(y, x, next_x) + self._sides.vertical(next_x, y, next_y))

    def _geometry(self, regions: Regions) -> Any:
        """Polygons, simplified in pixels, then put in their place."""
        return polygons_of(regions, self._simplify, self._place)


def polygons_of(
    regions: Regions, simplify: float, place: Callable[[NDArray[Any], NDArray[Any]], tuple[Floats, Floats]]
) -> Any:
    """Regions as an array of WKB polygons.

    Args:
        regions: what was traced.
        simplify: tolerance in pixels, 0 for none.
        place: columns and lines of corners to x and y.
    """
    corners, rings = ring_coordinates(regions)
    polygons = regions.polygons
    if simplify:
        corners, rings, polygons = _simplified(corners, rings, polygons, simplify, ~regions.cut)
    places = np.empty(corners.shape, dtype="<f8")
    places[:, 0], places[:, 1] = place(corners[:, 0], corners[:, 1])
    return _wkb(places, rings, polygons)


def _wkb(places: NDArray[Any], rings: Ints, polygons: Ints) -> Any:
    """Ragged polygons as well-known binary (OGC 06-103r4, 8.2), little-endian.

    The same bytes as shapely's; to build its objects only to write them takes three times as long.
    """
    head = np.zeros(
        len(rings) - 1, dtype=[("order", "u1"), ("type", "<u4"), ("rings", "<u4"), ("points", "<u4")]
    )
    head["order"], head["type"] = 1, 3
    head["rings"][polygons[:-1]], head["points"] = np.diff(polygons), np.diff(rings)
    skipped = np.full(len(head), 9)  # only a polygon's first ring has all four fields
    skipped[polygons[:-1]] = 0
    heads, points = memoryview(head.tobytes()), places.reshape(-1).view(np.uint8).data
    size, bounds = head.itemsize, (16 * rings).tolist()
    parts: list[memoryview] = [heads] * (2 * len(head))
    parts[::2] = [heads[at * size + skip : (at + 1) * size] for at, skip in enumerate(skipped.tolist())]
    parts[1::2] = [points[start:stop] for start, stop in pairwise(bounds)]
    ends = offsets_of(16 * np.diff(rings) + size - skipped)[polygons].astype(np.int32)
    buffers = [None, pa.py_buffer(ends.tobytes()), pa.py_buffer(b"".join(parts))]
    return pa.Array.from_buffers(pa.binary(), len(polygons) - 1, buffers)


def _boxes(georeference: Georeference) -> LonLatBoxes | None:
    crs = known_crs(georeference)
    if crs is None or georeference.transform is None:
        return None
    try:
        return LonLatBoxes(crs, georeference.transform)
    except pyproj.exceptions.ProjError:
        return None


def _or_null(values: Floats) -> Any:
    return pa.array(values, pa.float64(), mask=np.isnan(values))


def _sums(regions: Regions, values: Floats) -> Floats:
    if not len(regions):
        return np.zeros(0)
    return np.add.reduceat(values, regions.rings[regions.polygons[:-1]])


def _simplified(
    corners: NDArray[Any], rings: Ints, polygons: Ints, tolerance: float, which: NDArray[np.bool_]
) -> tuple[NDArray[Any], Ints, Ints]:
    """Ragged polygons with fewer corners; one that would become invalid stays as it is."""
    shapes = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, corners.astype(np.float64), (rings, polygons)
    )
    simple = shapely.simplify(shapes, tolerance, preserve_topology=True)
    better = which & shapely.is_valid(simple) & ~shapely.is_empty(simple)
    _, places, (rings, polygons) = shapely.to_ragged_array(np.where(better, simple, shapes))
    return places, rings, polygons


PHOTO_COLUMNS = pa.schema(
    {  # type: ignore[arg-type]
        "source_id": pa.string(),
        "region_id": pa.int64(),  # row * width + column of the first pixel
        "class_id": pa.int32(),
        "class_name": pa.string(),  # null where the job names none
        "area_px": pa.int64(),
        "area_mm2": pa.float64(),  # null without the job's `pixel_size`
        "perimeter_px": pa.int64(),
        "centroid_x": pa.float64(),
        "centroid_y": pa.float64(),
        "box_x": pa.int32(),  # upper left corner of the bounding box, and its size, in pixels
        "box_y": pa.int32(),
        "box_width": pa.int32(),
        "box_height": pa.int32(),
        "confidence": pa.float32(),  # mean probability of its pixels, 0..1; null without scores
        "touches_edge": pa.bool_(),
        "geometry": pa.binary(),  # WKB polygon along pixel sides, x to the right and y down
    }
)
"""One row per region of a photograph, in pixels of the upright image."""
