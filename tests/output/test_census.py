import numpy as np
import pytest
from factories import make_recipe, make_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from batchseg.inputs.source import Georeference
from batchseg.output.census import Census
from batchseg.output.record import SceneRecord
from batchseg.regions.geodesy import row_areas

TALL, WIDE = 37, 53


DEGREES = Georeference(
    crs_wkt=CRS.from_epsg(4326).to_wkt(),
    transform=(0.001, 0.0, 7.0, 0.0, -0.002, 60.0),
    gcps=(),
    gcps_crs_wkt=None,
    rpcs=(),
)


def census_of(mask, scene, recipe, rows: int) -> SceneRecord:
    census = Census(scene, recipe)
    for row_off in range(0, TALL, rows):
        census.look(row_off, mask[row_off : row_off + rows])
    return census.counted(SceneRecord(source_id="a.tif", tag="t", status="done"))


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, TALL), wide=st.booleans())
@settings(max_examples=30, deadline=None)
def test_strips_add_up_to_the_masks_pixels_and_areas(seed, rows, wide):
    rng = np.random.default_rng(seed)
    recipe = make_recipe(class_count=400 if wide else 5)
    ids = np.array([0, 1, 4, 300 if wide else 2, recipe.mask_nodata])
    mask = ids[rng.integers(0, len(ids), (TALL, WIDE))].astype(np.uint16 if wide else np.uint8)
    scene = make_scene(TALL, WIDE, georeference=DEGREES)
    record = census_of(mask, scene, recipe, rows)
    areas = row_areas(scene.georeference, height=TALL, width=WIDE)
    present = [i for i in np.unique(mask).tolist() if i != recipe.mask_nodata]
    assert record.class_ids == tuple(present)
    assert record.class_pixels == tuple(np.count_nonzero(mask == i) for i in present)
    expected = [float(((mask == i).sum(axis=1) * areas).sum()) for i in present]
    assert record.class_area_m2 == pytest.approx(expected, rel=1e-12)
    assert record.valid_pixels == np.count_nonzero(mask != recipe.mask_nodata)
