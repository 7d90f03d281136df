import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from batchseg.errors import SourceError
from batchseg.pixels.photo.picture import Picture, bands_of, make_picture, turning_bytes


def picture(channels, kind="RGB"):
    pixels = np.arange(5 * 7 * channels, dtype=np.uint16).reshape(5, 7, channels)
    return Picture(pixels=pixels, valid=None, kind=kind)


@given(orientation=st.integers(1, 8), channels=st.sampled_from([1, 2, 3, 4, 7]), dtype=st.sampled_from("BHf"))
@settings(deadline=None, max_examples=80)
def test_orientations_are_pillows(orientation, channels, dtype):
    pixels = np.arange(5 * 7 * channels).reshape(5, 7, channels).astype(dtype)
    valid = np.arange(35).reshape(5, 7) % 4 > 0
    made = make_picture(pixels, valid, "x", orientation=orientation)

    index = Image.fromarray(np.arange(35, dtype=np.uint8).reshape(5, 7))
    index.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(index))
    assert np.array_equal(made.pixels, pixels.reshape(35, channels)[upright])
    assert np.array_equal(made.valid, valid.reshape(35)[upright])
    assert made.pixels.flags.c_contiguous and made.size_hw == upright.shape
    assert (made.pixels.dtype, made.valid.dtype) == (pixels.dtype, bool)


@given(orientation=st.integers(0, 9), channels=st.sampled_from([1, 2, 3, 4, 7]))
@settings(deadline=None, max_examples=40)
def test_turning_takes_what_is_said(orientation, channels):
    tracemalloc.start()
    try:
        pixels = np.zeros((300, 400, channels), np.uint8)
        made = make_picture(pixels, None, "x", orientation=orientation)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.pixels.nbytes <= peak <= 300 * 400 * turning_bytes(orientation, channels) + 50_000


@pytest.mark.parametrize("orientation", [0, 9, None, "6", (6,), b""])
def test_an_orientation_that_is_none_is_left_alone(orientation):
    pixels = np.arange(35, dtype=np.uint8).reshape(5, 7)
    assert np.array_equal(make_picture(pixels, None, "grey", orientation=orientation).pixels[:, :, 0], pixels)


@given(bands=st.lists(st.integers(1, 5), min_size=1, max_size=6).map(tuple))
@settings(deadline=None, max_examples=80)
def test_the_job_picks_bands(bands):
    source = picture(5)
    expected = np.stack([source.pixels[:, :, band - 1] for band in bands])
    assert np.array_equal(bands_of(source, len(bands), bands), expected)


@pytest.mark.parametrize("bands", [(1,), (3,), (1, 2, 3), (3, 2, 1), (2, 4), (5, 3, 1)])
def test_evenly_spaced_bands_are_views(bands):
    source = picture(5)
    assert np.shares_memory(bands_of(source, len(bands), bands), source.pixels)


def test_bands_that_fit_are_views():
    source = picture(3)
    assert np.array_equal(bands_of(source, 3, None), source.pixels.transpose(2, 0, 1))
    assert np.shares_memory(bands_of(source, 3, None), source.pixels)


def test_grey_is_repeated_for_three_bands_without_a_copy():
    source = picture(1, "grey")
    bands = bands_of(source, 3, None)
    assert np.array_equal(bands, np.repeat(source.pixels.transpose(2, 0, 1), 3, axis=0))
    assert np.shares_memory(bands, source.pixels)


@pytest.mark.parametrize(
    ("channels", "kind", "count", "bands", "words"),
    [
        (
            3,
            "RGB",
            1,
            None,
            r"is RGB \(3 bands\), the model takes 1 band; name the job's `bands`, such as \[1\]",
        ),
        (1, "grey", 4, None, r"is grey \(1 band\), the model takes 4 bands$"),
        (
            5,
            "16-bit 5 bands",
            3,
            None,
            r"is 16-bit 5 bands \(5 bands\), the model takes 3 bands; .* \[1, 2, 3\]",
        ),
        (1, "grey", 3, (1, 2, 3), "has 1 band, the job asks for band 3"),
        (3, "RGB", 1, (4,), "has 3 bands, the job asks for band 4"),
    ],
)
def test_other_pictures_are_refused_by_name(channels, kind, count, bands, words):
    with pytest.raises(SourceError, match=words):
        bands_of(picture(channels, kind), count, bands)
