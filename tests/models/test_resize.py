import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.errors import ModelError
from batchseg.models.package import LimitLong, Padding, Resize, ResizeByLong, ResizeByShort
from batchseg.models.resize import apply, nearest, network_shape, undo

sides = st.integers(1, 40)
shapes = st.tuples(sides, sides)
interps = st.sampled_from(["nearest", "linear", "cubic", "area", "lanczos4"])
resizes = st.one_of(
    st.builds(
        Resize,
        target_hw=shapes,
        keep_ratio=st.booleans(),
        size_divisor=st.none() | st.integers(1, 16),
        interp=interps,
    ),
    st.builds(ResizeByShort, short_size=sides, max_size=st.none() | st.integers(20, 60)),
    st.builds(ResizeByLong, long_size=sides),
    st.builds(LimitLong, max_long=st.none() | st.integers(20, 40), min_long=st.none() | st.integers(1, 20)),
)


@st.composite
def chains(draw, shape_hw):
    """Up to two resizes, then perhaps a padding that has room."""
    steps = draw(st.lists(resizes, max_size=2))
    height, width = network_shape(steps, shape_hw)
    if draw(st.booleans()):
        target = height + draw(st.integers(0, 9)), width + draw(st.integers(0, 9))
        steps.append(Padding(target_hw=target, value=(draw(st.floats(0, 255)),)))
    return steps


@settings(deadline=None)
@given(shapes, st.data())
def test_the_way_there_and_back_keeps_the_shape_and_a_constant(shape_hw, data):
    steps = data.draw(chains(shape_hw))
    tile = np.full((6, *shape_hw), 0.25, np.float32)
    seen = apply(steps, tile)
    assert seen.dtype == np.float32
    assert seen.shape == (6, *network_shape(steps, shape_hw))
    scores = undo(steps, seen, shape_hw)
    assert scores.shape == tile.shape
    ids = undo(steps, np.full(seen.shape[1:], 7, np.int32), shape_hw)
    assert (ids.dtype, ids.shape, set(ids.ravel().tolist())) == (np.int32, shape_hw, {7})
    if not any(isinstance(step, Padding) for step in steps):
        np.testing.assert_allclose(seen, 0.25, rtol=1e-6)
        np.testing.assert_allclose(scores, 0.25, rtol=1e-6)


@pytest.mark.parametrize(
    "step",
    [
        Resize(target_hw=(13, 29)),
        Resize(target_hw=(29, 13), keep_ratio=True),
        Resize(target_hw=(13, 29), size_divisor=1),
        ResizeByShort(short_size=13),
        ResizeByShort(short_size=40, max_size=29),
        ResizeByLong(long_size=29),
        LimitLong(),
        LimitLong(max_long=29, min_long=29),
        Padding(target_hw=(13, 29), value=(0.0,)),
    ],
)
def test_a_step_to_the_same_size_changes_nothing(step):
    tile = np.random.default_rng(0).random((3, 13, 29), dtype=np.float32)
    np.testing.assert_array_equal(apply([step], tile), tile)
    np.testing.assert_array_equal(undo([step], tile, (13, 29)), tile)


# (height, width) as PaddleSeg 2.8's transforms give them.
@pytest.mark.parametrize(
    ("step", "shape_hw", "expected"),
    [
        (Resize(target_hw=(160, 256)), (131, 197), (160, 256)),
        (Resize(target_hw=(256, 256), keep_ratio=True), (131, 197), (170, 256)),
        (Resize(target_hw=(256, 512), keep_ratio=True), (100, 100), (256, 256)),
        (Resize(target_hw=(512, 256), keep_ratio=True), (100, 300), (171, 512)),
        (Resize(target_hw=(256, 256), keep_ratio=True, size_divisor=32), (131, 197), (192, 256)),
        (Resize(target_hw=(100, 60), size_divisor=32), (131, 197), (128, 64)),
        (ResizeByShort(short_size=192), (131, 197), (192, 289)),
        (ResizeByShort(short_size=192, max_size=256), (131, 197), (170, 256)),
        (ResizeByLong(long_size=50), (131, 197), (33, 50)),
        (ResizeByLong(long_size=1), (3, 9), (1, 1)),
        (LimitLong(max_long=100), (131, 197), (66, 100)),
        (LimitLong(min_long=394), (131, 197), (262, 394)),
        (LimitLong(max_long=400, min_long=100), (131, 197), (131, 197)),
        (ResizeByLong(long_size=5), (10, 4), (5, 2)),
        (ResizeByLong(long_size=5), (10, 5), (5, 2)),  # 2.5 rounds to the even number
    ],
)
def test_sizes_are_paddleseg_s(step, shape_hw, expected):
    assert network_shape([step], shape_hw) == expected


@given(shapes, shapes)
def test_ids_come_back_by_the_nearest_row_and_column(before, after):
    ids = np.arange(math.prod(before), dtype=np.int64).reshape(before)
    rows = [int(np.float32(r) * (np.float32(before[0]) / np.float32(after[0]))) for r in range(after[0])]
    cols = [int(np.float32(c) * (np.float32(before[1]) / np.float32(after[1]))) for c in range(after[1])]
    expected = [[ids[min(r, before[0] - 1), min(c, before[1] - 1)] for c in cols] for r in rows]
    np.testing.assert_array_equal(nearest(ids, after), expected)


@settings(deadline=None)
@given(shapes, shapes, interps)
def test_bands_are_resized_as_paddleseg_resizes_pictures(before, after, interp):
    tile = np.random.default_rng(1).random((3, *before), dtype=np.float32)
    flag = getattr(cv2, f"INTER_{interp.upper()}")
    picture = np.ascontiguousarray(tile.transpose(1, 2, 0))
    expected = cv2.resize(picture, (after[1], after[0]), interpolation=flag).transpose(2, 0, 1)
    seen = apply([Resize(target_hw=after, interp=interp)], tile)
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    if interp == "nearest":
        np.testing.assert_array_equal(seen, expected)


def test_scores_come_back_bilinearly_between_pixel_centres():
    scores = np.array([[[0.0, 4.0]]], np.float32)
    back = undo([Resize(target_hw=(1, 2))], scores, (1, 4))
    np.testing.assert_allclose(back, [[[0.0, 1.0, 3.0, 4.0]]])
    half = undo([Resize(target_hw=(1, 2))], scores.astype(np.float16), (1, 4))
    assert half.dtype == np.float16


@given(shapes, st.integers(0, 5), st.integers(0, 5), st.sampled_from([1.0, 255.0]))
def test_padding_lies_below_and_to_the_right_and_is_cut_off_again(shape_hw, below, right, white):
    tile = np.random.default_rng(2).random((2, *shape_hw), dtype=np.float32)
    step = Padding(target_hw=(shape_hw[0] + below, shape_hw[1] + right), value=(51.0, 127.5))
    seen = apply([step], tile, white=white)
    np.testing.assert_array_equal(seen[:, : shape_hw[0], : shape_hw[1]], tile)
    for band, value in enumerate((0.2 * white, 0.5 * white)):
        np.testing.assert_allclose(seen[band, shape_hw[0] :], value)
        np.testing.assert_allclose(seen[band, :, shape_hw[1] :], value)
    back = undo([step], seen, shape_hw)
    np.testing.assert_array_equal(back, tile)
    assert back.flags.c_contiguous


def test_a_padding_that_is_too_small_is_refused():
    with pytest.raises(ModelError, match=r"makes 20 x 30 .* is given 21 x 30; make tile_size smaller"):
        network_shape([Padding(target_hw=(20, 30), value=(0.0,))], (21, 30))


def test_a_padding_for_other_bands_is_refused():
    step = Padding(target_hw=(20, 30), value=(0.0, 1.0, 2.0))
    with pytest.raises(ModelError, match="3 values, its input 4 bands"):
        apply([step], np.zeros((4, 5, 5), np.float32))


def test_an_answer_of_another_size_is_no_answer():
    with pytest.raises(ValueError, match="expected"):
        undo([Resize(target_hw=(20, 30))], np.zeros((2, 30, 20), np.float32), (10, 15))
