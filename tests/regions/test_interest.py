"""Regions of interest against counting pixels."""

import numpy as np
import pytest
import shapely
from rules import box, tables_of

from batchseg.job.settings import Interest
from batchseg.regions.interest import areas_inside, interest_areas


def test_what_reaches_beyond_an_image_does_not_lie_in_it():
    sizes_wh = np.array([(10.0, 20.0), (4.0, 3.0), (10.0, 20.0)])
    whole, inside = interest_areas(box(2, 1, 8, 5), sizes_wh)
    assert (whole.tolist(), inside.tolist()) == ([24, 24, 24], [24, 4, 24])
    whole, inside = interest_areas(box(0.5, 0, 1, 0.5, unit="share"), sizes_wh)
    assert (whole.tolist(), inside.tolist()) == ([50, 3, 50], [50, 3, 50])
    whole, inside = interest_areas(box(30, 30, 40, 40), sizes_wh)
    assert (whole.tolist(), inside.tolist()) == ([100] * 3, [0] * 3)
    triangle = Interest(corners_xy=((0, 0), (8, 0), (0, 8)))
    whole, inside = interest_areas(triangle, sizes_wh)
    assert whole.tolist() == [32] * 3
    assert inside.tolist() == [32, 12, 32]
    assert [part.shape for part in interest_areas(triangle, np.zeros((0, 2)))] == [(0,), (0,)]


@pytest.mark.parametrize("part", [box(1, 1, 4, 3), box(0.25, 0, 0.75, 1, unit="share"), box(90, 90, 99, 99)])
def test_a_region_counts_by_what_lies_inside(part):
    masks = {
        f"{n}.png": np.random.default_rng(n).integers(0, 3, (4 + 4 * n, 8)).astype(np.uint8) for n in (0, 1)
    }
    regions, _ = tables_of(masks)
    sizes_wh = np.array([masks[name].shape[::-1] for name in regions["source_id"].to_pylist()], float)
    unit = sizes_wh if part.unit == "share" else np.ones_like(sizes_wh)
    expected = [
        shapely.Polygon(np.array(part.corners_xy) * one).intersection(shapely.from_wkb(outline)).area
        for one, outline in zip(unit, regions["geometry"].to_pylist(), strict=True)
    ]
    assert areas_inside(part, regions, sizes_wh) == pytest.approx(expected)
