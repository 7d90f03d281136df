"""Files of masks, read by Pillow and by rasterio."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import NAMES, product_of
from PIL import Image
from rasterio.io import MemoryFile
from strategies import sizes

from batchseg.errors import SourceError
from batchseg.output.photo_mask import encode_confidence, encode_mask, read_layer
from batchseg.pixels.gdal import gdal

COLORS = [(0xA0, 0x52, 0x2D), (0x1F, 0x77, 0xB4), (0x2C, 0xA0, 0x2C), (0xFF, 0xFF, 0xFF)]


def mask_of(shape, seed, nodata):
    values = [0, 0, 1, 2, 3, 200, nodata - 1, nodata]
    return np.random.default_rng(seed).choice(values, shape).astype(np.uint8 if nodata == 255 else np.uint16)


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


def test_large_masks_are_read_though_pillow_takes_their_like_for_bombs(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    mask = mask_of((23, 41), 0, 255)
    assert np.array_equal(read_layer(encode_mask(mask, product_of(), 255)), mask)
