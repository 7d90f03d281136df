"""Outlines read back: polygons alone, and never a nested collection."""

import pyarrow as pa
import pytest
import shapely

from batchseg.errors import OutputError
from batchseg.regions.wkb import read_polygons

NESTED = b"\x01\x07\0\0\0\x01\0\0\0" * 200_000 + b"\x01\x01\0\0\0" + b"\0" * 16


def test_polygons_are_read() -> None:
    boxes = [shapely.box(0, 0, 1, 2), shapely.Point(0, 0).buffer(3).difference(shapely.box(0, 0, 1, 1))]
    column = pa.array(shapely.to_wkb(boxes), pa.binary())
    for given in (column, pa.chunked_array([column])):
        assert shapely.equals(read_polygons(given, "t"), boxes).all()
    assert len(read_polygons(pa.array([], pa.binary()), "t")) == 0


@pytest.mark.parametrize(
    "blob",
    [
        NESTED,
        b"\x01\x03\0\0\0\xff\xff\xff\x7f",
        b"\x01\x03\0\0\0",
        b"",
        None,
        shapely.to_wkb(shapely.Point(1, 2)),
        shapely.to_wkb(shapely.box(0, 0, 1, 1), byte_order=0),
    ],
)
def test_anything_else_is_refused_with_the_tables_name(blob: bytes | None) -> None:
    column = pa.array([shapely.to_wkb(shapely.box(0, 0, 1, 1)), blob], pa.binary())
    with pytest.raises(OutputError, match=r"annotations/part\.parquet: an outline is"):
        read_polygons(column, "annotations/part.parquet")


def test_text_is_no_outline() -> None:
    with pytest.raises(OutputError, match="expected outlines as binary WKB, found string"):
        read_polygons(pa.array(["x"]), "t")
