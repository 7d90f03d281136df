"""Masks from what is stored of them are those that were predicted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_tables import masks_of, written
from photographs import product_of
from polygons import rings, spiral
from strategies import sizes

from batchseg.errors import DamagedResultError
from batchseg.job.recipe import RegionSettings
from batchseg.output.photo_mask import StoredMasks

RECIPE = make_recipe()


def rows_by_id(table):
    return {row["source_id"]: row for row in table.to_pylist()}


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(sizes(25), st.integers(0, 2**32 - 1), st.floats(0, 1)), min_size=1, max_size=3),
    st.booleans(),
)
def test_a_mask_drawn_from_regions_is_the_one_that_was_predicted(tmp_path_factory, drawn, wide):
    """Of any pixels: holes, diagonal touches, several classes."""
    output = tmp_path_factory.mktemp("out")
    recipe = make_recipe(class_count=300 if wide else 4)
    masks = {}
    for number, (shape, seed, share) in enumerate(drawn):
        random = np.random.default_rng(seed)
        ids = random.integers(0, 5, shape) * (random.random(shape) < share) * (50 if wide else 1)
        masks[f"{number}.jpg"] = ids.astype(recipe.mask_dtype)
    table = written(output, masks, product_of(masks="none"), recipe=recipe)
    stored = StoredMasks(str(output), recipe)
    for number, row in enumerate(table.to_pylist()):
        mask = stored(row)
        assert np.array_equal(mask.classes, masks[row["source_id"]])
        assert (mask.classes.dtype, mask.confidence, mask.tiles) == (recipe.mask_dtype, None, number)


@pytest.mark.parametrize("mask", [spiral(40), rings(31), np.eye(9, 14, dtype=np.uint8)])
def test_outlines_of_all_shapes_are_drawn(tmp_path, mask):
    row = rows_by_id(written(tmp_path, {"a": mask}, product_of(masks="none")))["a"]
    assert np.array_equal(StoredMasks(str(tmp_path), RECIPE)(row).classes, mask)


@pytest.mark.parametrize("form", ["png", "tif"])
@pytest.mark.parametrize("sure", [False, True])
def test_files_come_before_regions(tmp_path, form, sure):
    masks = masks_of()
    confidences = {name: mask | 1 for name, mask in masks.items()} if sure else None
    product = product_of(regions=RegionSettings(min_area=99), mask_format=form)
    table = written(tmp_path, masks, product, confidences=confidences)
    stored = StoredMasks(str(tmp_path), replace(RECIPE, confidence=sure))
    for row in table.to_pylist():
        mask = stored(row)
        assert np.array_equal(mask.classes, masks[row["source_id"]])
        assert mask.confidence is None if not sure else np.array_equal(mask.confidence, mask.classes | 1)


STAIRS = np.tri(24, 31, dtype=np.uint8)
SPECKS = np.eye(9, 14, dtype=np.uint8)
SPECKS[:4, :4] = 1


@pytest.mark.parametrize(
    ("mask", "regions", "reason"),
    [
        (SPECKS, RegionSettings(min_area=2), "not the whole mask"),
        (SPECKS, RegionSettings(classes=(2,)), "not the whole mask"),
        (SPECKS, None, "not the whole mask"),
        (STAIRS, RegionSettings(simplify=1.5), "simplified"),
        (np.where(SPECKS, 255, 0).astype(np.uint8), RegionSettings(), "not the whole mask"),
        (np.where(SPECKS, 1, 255).astype(np.uint8), RegionSettings(), "not the whole mask"),
    ],
)
def test_what_is_not_the_whole_mask_is_refused(tmp_path, mask, regions, reason):
    row = rows_by_id(written(tmp_path, {"a.jpg": mask}, product_of(regions=regions, masks="none")))["a.jpg"]
    with pytest.raises(DamagedResultError, match=rf"of a\.jpg cannot be used: .*{reason}") as caught:
        StoredMasks(str(tmp_path), RECIPE)(row)
    assert caught.value.transient


def test_damage_and_loss_are_seen(tmp_path):
    masks = masks_of(12)
    kept = rows_by_id(written(tmp_path, masks, product_of()))
    drawn = rows_by_id(written(tmp_path, masks, product_of(masks="none")))
    whole, part = StoredMasks(str(tmp_path), RECIPE), "annotations/crs=none"
    name = next(name for name, row in drawn.items() if row["region_count"])
    path = Path(tmp_path, kept[name]["outputs"][0]["path"])
    data = path.read_bytes()
    path.write_bytes(data[:-30] + bytes([data[-30] ^ 1]) + data[-29:])
    with pytest.raises(DamagedResultError, match="another checksum"):
        whole(kept[name])
    path.unlink()
    with pytest.raises(DamagedResultError, match=f"of {name} cannot be used"):
        whole(kept[name])
    for wrong in ({"outputs": []}, {"class_pixels": [1]}):
        with pytest.raises(DamagedResultError):
            whole(drawn[name] | wrong)
    for file in Path(tmp_path, part).iterdir():
        file.write_bytes(file.read_bytes()[:99])
    with pytest.raises(DamagedResultError):
        StoredMasks(str(tmp_path), RECIPE)(drawn[name])


def test_confidence_cannot_be_drawn(tmp_path):
    masks = masks_of(9)
    sure = {name: mask | 1 for name, mask in masks.items()}
    table = written(tmp_path, masks, product_of(masks="none"), confidences=sure)
    with pytest.raises(DamagedResultError, match="no confidence was kept"):
        StoredMasks(str(tmp_path), make_recipe(confidence=True))(table.to_pylist()[0])
