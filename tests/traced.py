"""Rasters, traced strip by strip."""

import numpy as np
import pytest
import shapely
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from batchseg.regions.tracing import tracer as trace
from batchseg.regions.tracing.rings import Regions, ring_coordinates
from batchseg.regions.tracing.tracer import RegionTracer

NODATA = 255
SETTINGS = settings(deadline=None, max_examples=80)

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12)).filter(lambda hw: hw[0] != hw[1])
rasters = st.one_of(
    *(
        arrays(np.uint8, shapes, elements=st.sampled_from(ids))
        for ids in ([0, 1], [0, 1, 1, NODATA], [0, 1, 2, 3])
    )
)


def wanted(*classes: int) -> np.ndarray:
    mask = np.zeros(256, dtype=bool)
    mask[list(classes) or slice(0, NODATA)] = True
    return mask


def traced(
    ids, *, rows, confidence=None, chunk=2**20, which=None, **options
) -> tuple[list[Regions], RegionTracer]:
    which = wanted() if which is None else which
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "CHUNK_PIXELS", chunk)
        tracer = RegionTracer(*ids.shape, wanted=which, with_confidence=confidence is not None, **options)
    batches = []
    for row in range(0, len(ids), rows):
        part = None if confidence is None else confidence[row : row + rows]
        batches += tracer.feed(row, ids[row : row + rows], part)
    return [*batches, tracer.finish()], tracer


def polygons_of(regions: Regions) -> np.ndarray:
    corners, offsets = ring_coordinates(regions)
    kind = shapely.GeometryType.POLYGON
    return shapely.from_ragged_array(kind, corners.astype(float), (offsets, regions.polygons))
