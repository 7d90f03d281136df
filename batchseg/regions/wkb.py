"""Outlines read back from region tables, which others may have written since."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from batchseg.errors import OutputError

POLYGON = "\x01\x03\x00\x00\x00"
"""Byte order and type that each outline begins with: little-endian, a polygon of two dimensions."""


def read_polygons(column: Any, place: str) -> NDArray[Any]:
    """A column of WKB as an array of shapely's polygons (N,).

    Args:
        column: binary, as this package writes it.
        place: the table that it is of, for the message.

    Raises:
        OutputError: a value is no polygon, or is damaged.
    """
    if not pa.types.is_binary(column.type):
        msg = f"{place}: expected outlines as binary WKB, found {column.type}; run `batchseg verify`"
        raise OutputError(msg)
    # Collections nest, and GEOS reads them recursively: a planted one would overflow the stack.
    sound: Any = pc.fill_null(pc.starts_with(column, POLYGON), pa.scalar(False))
    if not pc.all(sound, min_count=0).as_py():
        msg = f"{place}: an outline is no WKB polygon; run `batchseg verify`"
        raise OutputError(msg)
    try:
        polygons: NDArray[Any] = shapely.from_wkb(column.to_numpy(zero_copy_only=False))
    except shapely.errors.GEOSException as e:
        msg = f"{place}: an outline is damaged ({e}); run `batchseg verify`"
        raise OutputError(msg) from e
    return polygons
