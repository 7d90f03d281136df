import numpy as np
import pytest
from factories import make_config, make_facts, make_package, make_recipe, prepared
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.job.resolve import make_recipe as recipe_of
from batchseg.job.settings import Scale
from batchseg.models.package import Bake, Normalize
from batchseg.predict.predictor import Preparation

IMAGENET = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
STRETCH = Scale(kind="stretch", low=(100.0, 0.0, 50.0), high=(3000.0, 4000.0, 5000.0))


def per_band(values) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None, None]


@pytest.mark.parametrize("normalize", [IMAGENET, make_recipe().normalize], ids=["imagenet", "default"])
def test_preparation_is_paddlesegs_formula(normalize):
    tile = np.random.default_rng(1).permutation(256).astype(np.uint8).reshape(1, 8, 32).repeat(3, axis=0)
    answer = prepared(make_recipe(normalize=normalize), tile)
    assert answer.dtype == np.float32
    in_float32 = (tile.astype(np.float32) / np.float32(255) - per_band(normalize.mean)) / per_band(
        normalize.std
    )
    assert np.array_equal(answer, in_float32)
    # PaddleSeg's own lines keep mean and std in float64, which may move the last bit.
    own = tile.astype(np.float32, copy=False) / 255.0
    own -= np.array(normalize.mean)[:, None, None]
    own /= np.array(normalize.std)[:, None, None]
    np.testing.assert_allclose(answer, own, rtol=0, atol=5e-7)


numbers = st.floats(-1000, 1000, width=32)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    st.sampled_from(["divide", "stretch"]),
    st.tuples(numbers, st.floats(0.5, 20_000, width=32)),
    st.one_of(st.none(), st.tuples(st.floats(-2, 2), st.floats(0.01, 10))),
    st.integers(0, 2**32 - 1),
)
def test_preparation_scales_clips_and_normalises_in_float32(dtype, kind, reach, normal, seed):
    low, high = (0.0, reach[1]) if kind == "divide" else (reach[0], reach[0] + reach[1])
    normalize = None if normal is None else Normalize(mean=(normal[0],) * 3, std=(normal[1],) * 3)
    recipe = make_recipe(scale=Scale(kind=kind, low=(low,), high=(high,)), normalize=normalize)
    tile = (np.random.default_rng(seed).random((3, 5, 7)) * 200).astype(dtype)
    expected = (tile.astype(np.float32) - np.float32(low)) / np.float32(np.float64(high) - np.float64(low))
    if kind == "stretch":
        expected = np.clip(expected, 0, 1)
    if normal is not None:
        expected = (expected - np.float32(normal[0])) / np.float32(normal[1])
    assert expected.dtype == np.float32
    assert np.array_equal(prepared(recipe, tile), expected)


def test_bands_are_prepared_each_by_its_own_values():
    tile = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5) * 70
    whole = prepared(make_recipe(scale=STRETCH, normalize=IMAGENET), tile)
    for band in range(3):
        scale = Scale(kind="stretch", low=(STRETCH.low[band],), high=(STRETCH.high[band],))
        normalize = Normalize(mean=(IMAGENET.mean[band],), std=(IMAGENET.std[band],))
        alone = make_recipe(bands=(1,), scale=scale, normalize=normalize)
        assert np.array_equal(prepared(alone, tile[band : band + 1])[0], whole[band])


BAKE = Bake(
    pixels="uint8",
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    output="logits",
    output_layout="NCHW",
    threshold=0.5,
    confidence=False,
)


def test_a_graph_that_normalises_gets_raw_pixels_channels_last():
    preparation = Preparation(make_recipe(bake=BAKE))
    tile = np.random.default_rng(2).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    buffer = preparation.buffer(2)
    assert (buffer.shape, buffer.dtype) == ((2, 16, 16, 3), np.uint8)
    preparation(tile, buffer[1])
    assert np.array_equal(buffer[1], tile.transpose(1, 2, 0))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_network_with_channels_last_gets_the_same_values(dtype):
    tile = np.random.default_rng(3).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    expected = prepared(make_recipe(normalize=IMAGENET), tile)
    recipe = make_recipe(normalize=IMAGENET, model=make_package(layout="NHWC", dtype=dtype))
    preparation = Preparation(recipe)
    buffer = preparation.buffer(1)
    preparation(tile, buffer[0])
    assert np.array_equal(buffer[0], expected.transpose(1, 2, 0).astype(dtype))


def test_a_network_of_uint8_gets_raw_pixels():
    recipe = recipe_of(
        make_config(normalize="none"), make_package(dtype="uint8", layout="NHWC"), make_facts(), "cpu"
    )
    tile = np.random.default_rng(4).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    preparation = Preparation(recipe)
    buffer = preparation.buffer(1)
    preparation(tile, buffer[0])
    assert buffer.dtype == np.uint8
    assert np.array_equal(buffer[0], tile.transpose(1, 2, 0))
