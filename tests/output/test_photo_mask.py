"""Files of masks, read by Pillow and by rasterio."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_tables import masks_of, written
from photographs import NAMES, product_of
from PIL import Image
from polygons import rings, spiral
from rasterio.io import MemoryFile
from strategies import sizes

from batchseg.errors import DamagedResultError, SourceError
from batchseg.job.recipe import RegionSettings
from batchseg.output import photo_mask
from batchseg.output.photo_mask import StoredMasks, encode_confidence, read_layer
from batchseg.pixels.gdal import gdal

COLORS = [(0xA0, 0x52, 0x2D), (0x1F, 0x77, 0xB4), (0x2C, 0xA0, 0x2C), (0xFF, 0xFF, 0xFF)]


def mask_of(shape, seed, nodata):
    values = [0, 0, 1, 2, 3, 200, nodata - 1, nodata]
    return np.random.default_rng(seed).choice(values, shape).astype(np.uint8 if nodata == 255 else np.uint16)


def encode_mask(mask, product, nodata):
    return photo_mask.encode_mask(mask, product, nodata, product.classes)


def by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image), image.convert("RGBA")


def by_rasterio(data):
    with gdal(), MemoryFile(data) as memory, memory.open() as dataset:
        colors = dataset.colormap(1) if dataset.colorinterp[0].name == "palette" else None
        return dataset.read(1), dataset.nodata, colors, dataset.tags()


@settings(deadline=None, max_examples=25)
@given(sizes(), st.integers(0, 99), st.sampled_from([255, 65535]), st.sampled_from(["png", "tif"]))
def test_everybody_reads_the_ids(shape, seed, nodata, form):
    mask = mask_of(shape, seed, nodata)
    for names in (NAMES, ()):
        data = encode_mask(mask, product_of(mask_format=form, names=names), nodata)
        for read in (by_pillow(data)[0], by_rasterio(data)[0], read_layer(data)):
            assert np.array_equal(read, mask)
        assert read_layer(data).dtype == mask.dtype
        assert data == encode_mask(mask, product_of(mask_format=form, names=names), nodata)


def test_a_png_shows_the_classes_colours_and_nodata_is_transparent():
    mask = mask_of((23, 41), 0, 255)
    data = encode_mask(mask, product_of(), 255)
    rgba = np.array(by_pillow(data)[1])
    assert np.array_equal(rgba[..., 3] == 0, mask == 255)
    for number, color in enumerate(COLORS):
        assert (rgba[mask == number] == (*color, 255)).all()
        assert by_rasterio(data)[2][number] == (*color, 255)
    assert by_rasterio(data)[2][255][3] == 0


def test_a_geotiff_has_colours_names_and_nodata():
    data = encode_mask(mask_of((23, 41), 0, 255), product_of(mask_format="tif"), 255)
    _, nodata, colors, tags = by_rasterio(data)
    assert (nodata, [colors[number][:3] for number in range(4)]) == (255, COLORS)
    assert [tags[f"CLASS_{number}"] for number in range(4)] == list(NAMES)
    _, nodata, colors, tags = by_rasterio(
        encode_mask(mask_of((23, 41), 0, 65535), product_of(mask_format="tif"), 65535)
    )
    assert (nodata, colors, tags["CLASS_3"]) == (65535, None, "blue")


def test_a_class_that_was_merged_into_another_is_not_named():
    product = product_of(mask_format="tif", names=("none", "", "green"))
    tags = by_rasterio(encode_mask(mask_of((23, 41), 0, 255), product, 255))[3]
    named = {key: name for key, name in tags.items() if key.startswith("CLASS_")}
    assert named == {"CLASS_0": "none", "CLASS_2": "green"}


def test_classes_without_names_are_grey_not_black():
    mask = mask_of((23, 41), 0, 255)
    for form in ("png", "tif"):
        assert by_rasterio(encode_mask(mask, product_of(mask_format=form, names=()), 255))[2] is None


@pytest.mark.parametrize("form", ["png", "tif"])
def test_confidence_is_grey(form):
    confidence = np.random.default_rng(0).integers(0, 256, (23, 41), dtype=np.uint8)
    data = encode_confidence(confidence, product_of(mask_format=form))
    assert np.array_equal(by_pillow(data)[0], confidence)
    assert np.array_equal(by_rasterio(data)[0], confidence) and by_rasterio(data)[2] is None
    assert np.array_equal(read_layer(data), confidence)
    assert by_rasterio(data)[1] == (0 if form == "tif" else None)


@pytest.mark.parametrize("form", ["png", "tif"])
def test_a_damaged_file_is_not_taken(form):
    data = encode_mask(mask_of((230, 410), 0, 255), product_of(mask_format=form), 255)
    for damaged in (data[: len(data) // 2], data[:20], b"", b"no mask"):
        with pytest.raises(SourceError):
            read_layer(damaged)


@pytest.mark.parametrize("form", ["png", "tif"])
def test_another_size_than_the_recorded_is_known_before_pixels_are_decoded(form):
    data = encode_mask(mask_of((230, 410), 0, 255), product_of(mask_format=form), 255)
    assert read_layer(data, (230, 410)).shape == (230, 410)
    with pytest.raises(SourceError, match="410 x 230 pixels, recorded are 230 x 410"):
        read_layer(data, (410, 230))


@pytest.mark.parametrize("size_hw", [(-5, 10), (0, 10), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_record_of_no_photographs_size_is_refused(size_hw):
    row = {"outputs": [], "source_id": "a", "height": size_hw[0], "width": size_hw[1]}
    with pytest.raises(DamagedResultError, match="its record says"):
        StoredMasks("/nowhere", None)(row)


def test_large_masks_are_read_though_pillow_takes_their_like_for_bombs(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    mask = mask_of((23, 41), 0, 255)
    assert np.array_equal(read_layer(encode_mask(mask, product_of(), 255)), mask)


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
