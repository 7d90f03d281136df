import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import geometry_mask
from rasterio.transform import Affine
from traced import SETTINGS, polygons_of, rasters, traced

from batchseg.regions.tracing.rings import count


@SETTINGS
@given(rasters, st.integers(1, 12), st.sampled_from([1, 9, 10**6]), st.data())
def test_counts_are_those_of_the_pixels_of_pieces_too(ids, rows, max_vertices, data):
    confidence = data.draw(arrays(np.uint8, ids.shape))
    batches, _ = traced(ids, rows=rows, confidence=confidence, chunk=30, max_vertices=max_vertices)
    for batch in batches:
        counts, polygons = count(batch), polygons_of(batch)
        for at, polygon in enumerate(polygons):
            hit = geometry_mask([polygon], ids.shape, Affine.identity(), invert=True)
            r, c = np.nonzero(hit)
            assert (counts.area[at], counts.col_sum[at], counts.row_sum[at]) == (hit.sum(), c.sum(), r.sum())
            assert batch.confidence[at] == confidence[hit].sum(dtype=int)
            assert counts.perimeter[at] == polygon.length
            assert tuple(counts.box[at]) == polygon.bounds
