"""The columns that photographs travel in: a million of them must not be a million objects."""

from typing import Any

import pyarrow as pa
import pyarrow.compute

Column = Any
"""pa.Array or pa.ChunkedArray, which take the type of their values in the stubs and none at run time."""

compute: Any = pyarrow.compute
"""Its stubs know neither Python's values beside columns nor what most functions return."""

LISTING = pa.schema(
    {  # type: ignore[arg-type]
        "source_id": pa.string(),
        "uri": pa.string(),
        "tag": pa.string(),  # size and version of the file: another tag, another version
        "size": pa.int64(),  # bytes of the file
        "young": pa.bool_(),  # changed less than the job's `min_age` ago
        "problem": pa.string(),  # what already the listing shows to be wrong with it; empty: nothing
        "attributes": pa.string(),  # JSON object of strings, keys sorted; empty: the input says nothing more
    }
)
"""One row per photograph as the listing shows it, sorted by `source_id`, each id once."""

ANNOTATIONS = pa.schema(
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


def words(column: Column) -> list[Any]:
    """A column's cells as Python values; the stubs think that each may be None."""
    cells: list[Any] = column.to_pylist()
    return cells
