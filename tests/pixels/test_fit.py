import re

import numpy as np
import pyproj
import pytest
from factories import IMAGENET, METADATA, REFLECTANCE, STRETCH, make_recipe, make_scene, prepared
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.inputs.source import Georeference
from batchseg.job.settings import Scale
from batchseg.pixels.fit import fill_values, mismatch, of_scene


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("uint8", make_recipe().scale), ("uint16", REFLECTANCE), ("int16", STRETCH), ("float32", STRETCH)],
)
@pytest.mark.parametrize("normalize", [IMAGENET, None])
def test_the_fill_value_is_prepared_to_about_zero(dtype, scale, normalize):
    recipe = make_recipe(scale=scale, normalize=normalize)
    fill = fill_values(recipe, dtype)
    assert (fill.dtype, fill.shape) == (np.dtype(dtype), (3,))
    answer = prepared(recipe, np.broadcast_to(fill[:, None, None], (3, 2, 4)).copy())
    span = np.array(scale.high) - np.array(scale.low)
    step = 1e-5 if dtype == "float32" else 0.5 / span.min() / min(normalize.std if normalize else (1,))
    assert np.abs(answer).max() <= step * 1.001


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(1e-6, 10), st.floats(-5, 5)), min_size=4, max_size=4),
    st.permutations([1, 2, 3, 4]),
)
def test_metadata_bring_each_band_to_reflectance(pairs, bands):
    scene = make_scene(bands=4, dtypes=("uint16",) * 4, rescale=tuple(pairs))
    recipe = of_scene(make_recipe(scale=METADATA, normalize=None, bands=tuple(bands)), scene)
    tile = np.random.default_rng(0).integers(0, 10_000, (4, 5, 7), dtype=np.uint16)
    scale, offset = (np.array([pairs[band - 1][part] for band in bands])[:, None, None] for part in (0, 1))
    exact = tile * scale + offset
    largest = np.maximum(np.abs(exact), np.abs(offset) + 10_000 * scale)
    assert np.all(np.abs(prepared(recipe, tile) - exact) <= 3e-7 * largest)


def test_both_baselines_of_sentinel_2_are_a_division_by_10000_to_the_last_bit():
    tile = np.arange(1, 10_001, dtype=np.uint16).reshape(1, 100, 100)
    divided = prepared(make_recipe(scale=REFLECTANCE, normalize=None, bands=(1,)), tile)
    for raw, offset in ((tile, 0.0), (tile + 1000, -1000 / 10_000), (tile + 1000, -1000 * (1 / 10_000))):
        scene = make_scene(bands=1, dtypes=("uint16",), rescale=((1 / 10_000, offset),))
        recipe = of_scene(make_recipe(scale=METADATA, normalize=None, bands=(1,)), scene)
        assert np.array_equal(prepared(recipe, raw), divided)
    below = prepared(recipe, np.full((1, 2, 3), 400, np.uint16))
    np.testing.assert_allclose(below, -0.06, rtol=1e-6)  # negative reflectance is kept
    assert fill_values(recipe, "uint16").tolist() == [1000]


def test_other_scales_are_the_jobs_whatever_a_scene_says():
    recipe = make_recipe(scale=REFLECTANCE)
    assert of_scene(recipe, make_scene(rescale=((2.0, 3.0),) * 3)) is recipe


def test_a_fill_value_beyond_the_dtype_is_its_nearest_value():
    scale = Scale(kind="stretch", low=(-500.0,), high=(-100.0,))
    assert fill_values(make_recipe(scale=scale, normalize=None), "uint8").tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("scene", "recipe", "word"),
    [
        ({"bands": 4}, {}, "4 bands"),
        ({"bands": 4, "alpha_bands": (4,)}, {}, None),
        ({"bands": 3, "alpha_bands": (3,)}, {}, "2 bands .*alpha: band 3"),
        ({"bands": 4}, {"all_bands": False, "bands": (4, 2, 1)}, None),
        ({"bands": 4}, {"all_bands": False, "bands": (5, 2, 1)}, "band 5"),
        ({"dtypes": ("uint16",) * 3}, {}, "expect uint8"),
        ({"dtypes": ("uint16",) * 3}, {"scale": REFLECTANCE}, None),
        ({"dtypes": ("uint8",) * 3}, {"scale": REFLECTANCE}, "scale reaches 0..10000"),
        (
            {"dtypes": ("uint16",) * 3},
            {"scale": Scale(kind="divide", low=(0.0,), high=(255.0,))},
            "divides by 255",
        ),
        ({"dtypes": ("float32",) * 3}, {"scale": Scale(kind="divide", low=(0.0,), high=(1.0,))}, None),
        ({"dtypes": ("complex64",) * 3}, {"scale": REFLECTANCE}, r"complex pixels \(complex64\)"),
        ({"dtypes": ("complex_int16",) * 3}, {"scale": REFLECTANCE}, r"complex pixels \(complex_int16\)"),
        (
            {"dtypes": ("uint8", "uint8", "uint8", "complex_int16"), "bands": 4},
            {"bands": (1, 2, 3), "all_bands": False},
            None,
        ),
        ({"dtypes": ("float99",) * 3}, {"scale": REFLECTANCE}, "float99"),
        ({"dtypes": ("uint16",) * 3}, {"scale": METADATA}, "no scale and offset for band 1"),
        ({"rescale": ((0.1, 0.0), None, (0.1, 0.0))}, {"scale": METADATA}, "for band 2.*divide: 255"),
        (
            {"rescale": ((0.1, 0.0), None, (0.1, 0.0))},
            {"scale": METADATA, "bands": (3, 1, 1), "all_bands": False},
            None,
        ),
        ({"dtypes": ("complex64",) * 3, "rescale": ((1.0, 0.0),) * 3}, {"scale": METADATA}, "complex64"),
        ({"dtypes": ("uint8", "uint8", "uint16")}, {}, "uint16"),
        ({}, {"nodata": 300.0}, r"uint8 pixels \(0..255\), of which none can be the job's nodata: 300;"),
        ({}, {"nodata": -1.0}, "nodata: -1;"),
        ({}, {"nodata": 0.5}, "nodata: 0.5;"),
        ({}, {"nodata": float("nan")}, "nodata: nan;"),
        ({}, {"nodata": 255.0}, None),
        ({"dtypes": ("int16",) * 3}, {"nodata": -9999.0, "scale": REFLECTANCE}, None),
        ({"dtypes": ("float32",) * 3}, {"nodata": 1e300, "scale": REFLECTANCE}, "float32 pixels"),
        ({"dtypes": ("float32",) * 3}, {"nodata": -9999.1, "scale": REFLECTANCE}, None),
        ({"dtypes": ("float32",) * 3}, {"nodata": float("nan"), "scale": REFLECTANCE}, None),
        ({"dtypes": ("float32",) * 3}, {"nodata": float("inf"), "scale": REFLECTANCE}, None),
        ({"band_names": ("blue", "red", "nir")}, {"scale": METADATA}, r"for band 1 \(blue\): neither"),
        ({"height": 2**31 - 1, "width": 2**31 - 1}, {}, "claims 2,147,483,647 x .* at most 2,000,000"),
        ({"height": 500_000, "width": 400_000}, {"tile_size": 512, "halo": 64}, None),
    ],
)
def test_scenes_that_do_not_fit_are_told_why(scene, recipe, word):
    reason = mismatch(make_scene(**scene), make_recipe(**recipe))
    assert reason is None if word is None else re.search(word, reason)


@pytest.mark.parametrize(
    ("metres", "recipe", "word"),
    [
        (0.5, {"resolution": 0.5}, None),
        (1.9, {"resolution": 0.5}, None),
        (2.1, {"resolution": 0.5}, "has pixels of 2.1 m on the ground, the model was made for 0.5 m"),
        (
            0.5,
            {"resolution": 2.1},
            "resolution: model to have it read at that, or resolution: any",
        ),
        (0.5, {"resolution": 5.0}, "set resolution: model and max_ratio: 10 to have it read at that"),
        (30, {"resolution": 0.5, "any_resolution": True}, None),
        (30, {}, None),
    ],
)
def test_scenes_of_quite_another_resolution_are_refused_unless_the_job_says_any(metres, recipe, word):
    place = Georeference(
        crs_wkt=pyproj.CRS("EPSG:32633").to_wkt(),
        transform=(metres, 0.0, 500_000.0, 0.0, -metres, 4_600_000.0),
        gcps=(),
        gcps_crs_wkt=None,
        rpcs=(),
    )
    reason = mismatch(make_scene(georeference=place), make_recipe(**recipe))
    assert reason is None if word is None else word in reason
    assert mismatch(make_scene(), make_recipe(**recipe)) is None  # its resolution is unknown
