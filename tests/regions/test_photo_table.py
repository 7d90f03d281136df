"""Rows of photographs' regions against rasterio's regions of the whole mask, and against those of scenes."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from factories import make_scene, make_source
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_tables import annotator, mask_of, rows_of
from photographs import NAMES
from polygons import rings, spiral, whole_regions
from strategies import sizes

from batchseg.job.recipe import RegionSettings
from batchseg.regions import photo_table
from batchseg.regions.rows import PHOTO_COLUMNS
from batchseg.regions.scene_table import RegionWriter, wanted_classes


def defects(shape, seed, nodata=255):
    """A few small regions of classes 1, 2, 3 and 9, some nodata; the rest is class 0."""
    random = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8 if nodata == 255 else np.uint16)
    for value in random.choice([1, 2, 3, 9, nodata], random.integers(0, 6)):
        row, col = random.integers(0, shape[0]), random.integers(0, shape[1])
        part = mask[row : row + random.integers(1, 9), col : col + random.integers(1, 9)]
        part[random.random(part.shape) < 0.8] = value
    return mask


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(sizes(), st.integers(0, 2**32 - 1)), min_size=1, max_size=4),
    st.sampled_from([None, (0, 1, 2), (2, 9), (7,)]),
    st.sampled_from([0, 1, 5]),
    st.sampled_from([255, 65535]),
    st.sampled_from([1, 300, 2**20]),
)
def test_rows_are_the_regions_of_the_whole_mask(stacked, drawn, classes, min_area, nodata, most):
    stacked.setattr(photo_table, "STACKED_PIXELS", most)
    masks = {f"{n}/ü.jpg": defects(shape, seed, nodata) for n, (shape, seed) in enumerate(drawn)}
    chosen = RegionSettings(classes=classes, min_area=min_area)
    table = rows_of(masks, settings=chosen, nodata=nodata, pixel_size=0.05)
    found = {(row["source_id"], row["region_id"]): row for row in table.to_pylist()}
    assert len(found) == len(table)
    expected = {
        (name, region_id): (class_id, polygon, mask.shape)
        for name, mask in masks.items()
        for region_id, (class_id, polygon) in whole_regions(mask, wanted_classes(chosen, nodata)).items()
        if polygon.area >= min_area
    }
    assert found.keys() == expected.keys()
    assert [name for name in masks if name in set(table["source_id"].to_pylist())] == list(
        dict.fromkeys(table["source_id"].to_pylist())
    )
    for key, (class_id, polygon, (height, width)) in expected.items():
        row = found[key]
        left, top, right, bottom = polygon.bounds
        assert row["class_id"] == class_id
        assert row["class_name"] == (NAMES[class_id] if class_id < 4 else None)
        assert shapely.from_wkb(row["geometry"]).normalize() == polygon.normalize()
        assert (row["area_px"], row["perimeter_px"]) == (polygon.area, polygon.length)
        assert row["area_mm2"] == pytest.approx(polygon.area * 0.0025)
        assert (row["centroid_x"], row["centroid_y"]) == pytest.approx(polygon.centroid.coords[0])
        assert (row["box_x"], row["box_y"]) == (left, top)
        assert (row["box_width"], row["box_height"]) == (right - left, bottom - top)
        assert row["touches_edge"] == (left == 0 or top == 0 or right == width or bottom == height)
        assert row["confidence"] is None


@pytest.fixture(scope="module")
def stacked():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def scene_rows(path, mask, confidence, settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    scene = make_scene(*mask.shape, source=make_source("a.jpg"))
    writer = RegionWriter(
        path, scene, settings, class_names=NAMES, nodata=255, with_confidence=confidence is not None
    )
    writer.feed(0, mask, confidence)
    writer.close()
    return pq.read_table(path)


@pytest.mark.parametrize("simplify", [0.0, 1.5])
@pytest.mark.parametrize("sure", [False, True])
@pytest.mark.parametrize("kind", ["defects", "spiral", "rings"])
def test_rows_are_those_of_scenes(tmp_path, simplify, sure, kind):
    mask = {"defects": defects((61, 47), 6), "spiral": spiral(30), "rings": rings(25)}[kind]
    mask = np.pad(mask, [(3, 5), (7, 1)])
    confidence = np.random.default_rng(1).integers(1, 256, mask.shape, dtype=np.uint8) if sure else None
    chosen = RegionSettings(min_area=2, simplify=simplify)
    ours = rows_of({"a.jpg": mask}, None if confidence is None else {"a.jpg": confidence}, settings=chosen)
    theirs = scene_rows(tmp_path / "a.parquet", mask, confidence, chosen)
    shared = [name for name in PHOTO_COLUMNS.names if name in theirs.column_names]
    assert len(shared) == 11
    expected = theirs.select(shared).sort_by("region_id").replace_schema_metadata()
    assert ours.select(shared).sort_by("region_id").equals(expected)
    assert len(ours) > 0


def test_confidence_is_the_mean_of_a_regions_pixels():
    mask, confidence = np.zeros((9, 14), np.uint8), np.full((9, 14), 255, np.uint8)
    mask[2:4, 5:7], mask[6, 1] = 1, 2
    confidence[2:4, 5:7] = [[10, 20], [30, 41]]
    confidence[6, 1] = 51
    table = rows_of({"a": mask}, {"a": confidence})
    assert table["confidence"].to_pylist() == pytest.approx([101 / 4 / 255, 51 / 255])


def test_of_large_masks_only_the_box_around_the_defects_is_traced(monkeypatch):
    seen = []

    class Watched(photo_table.RegionTracer):
        def __init__(self, height, width, **options):
            seen.append((height, width))
            super().__init__(height, width, **options)

    monkeypatch.setattr(photo_table, "RegionTracer", Watched)
    mask = np.zeros((500, 700), np.uint8)
    mask[90:95, 400:410] = 3
    assert len(rows_of({"a": mask})) == 1
    assert rows_of({"a": mask}, settings=RegionSettings(classes=(0,)))["region_id"].to_pylist() == [0]
    assert seen == [(6, 10), (501, 700)]
    seen.clear()
    monkeypatch.setattr(photo_table, "STACKED_PIXELS", 150)
    masks = [mask_of(defect) for defect in (mask, mask[:, :600], mask.T, 0 * mask, mask)]
    assert annotator().trace(masks).photo.tolist() == [0, 1, 2, 4]
    assert seen == [(12, 10), (11, 5), (6, 10)]


@pytest.mark.parametrize(
    "mask", [np.zeros((5, 9), np.uint8), np.full((5, 9), 255, np.uint8), np.eye(5, 9, dtype=np.uint8)]
)
def test_a_mask_without_wanted_regions_has_none(mask):
    made = annotator(RegionSettings(classes=(2,)))
    assert len(made.trace([mask_of(mask)] * 2).regions) == 0
    for masks in ({}, {"a": mask}):
        assert rows_of(masks, settings=RegionSettings(classes=(2,))).equals(PHOTO_COLUMNS.empty_table())


def test_regions_that_are_too_small_go_with_their_confidence():
    mask = np.zeros((9, 14), np.uint8)
    mask[2:4, 5:7], mask[6, 1] = 1, 2
    chosen = RegionSettings(min_area=4)
    photo = mask_of(mask, np.full(mask.shape, 51, np.uint8))
    traced = annotator(chosen, sure=True).trace([mask_of(0 * mask, 0 * mask), photo])
    assert (traced.regions.region_id.tolist(), traced.counts.area.tolist()) == ([33], [4])
    assert (traced.regions.confidence.tolist(), traced.photo.tolist()) == ([204], [1])
    assert not len(annotator(dataclasses.replace(chosen, min_area=5)).trace([mask_of(mask)]).regions)
