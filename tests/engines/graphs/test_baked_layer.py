"""What comes before and after a network, layer by layer against numpy; test_bake_paddle.py has it whole."""

from typing import Any

import numpy as np
import pytest
from packages import bake_of, near_ties, normalized, probabilities, tiles

from batchseg.engines.paddle import import_paddle
from batchseg.models.package import Bake

pytestmark = pytest.mark.filterwarnings(r"ignore:\s*Non compatible API:Warning")
"""Of paddle.max; where networks are baked, Paddle's warnings are not listened to."""


def steps_of(bake: Bake, *, nhwc: bool = False) -> Any:
    import_paddle()
    from batchseg.engines.graphs.baked_layer import Steps

    return Steps(bake, nhwc=nhwc)


def tensor(values: np.ndarray) -> Any:
    import paddle

    return paddle.to_tensor(values)


def after(bake: Bake, answer: np.ndarray) -> list[np.ndarray]:
    given = steps_of(bake).after(tensor(answer))
    return [part.numpy() for part in (given if isinstance(given, tuple) else (given,))]


def scores_of(classes: int = 5) -> np.ndarray:
    return np.random.default_rng(classes).normal(0, 2, (2, classes, 9, 13)).astype(np.float32)


@pytest.mark.parametrize(("layout", "nhwc"), [("NHWC", False), ("NCHW", False), ("NHWC", True)])
def test_raw_pixels_are_normalised_in_the_networks_layout(layout: str, nhwc: bool) -> None:
    bake = bake_of(4, layout=layout)
    pixels = tiles(4, shape_hw=(9, 13))
    expected = normalized(pixels, bake)
    raw = pixels if layout == "NHWC" else pixels.transpose(0, 3, 1, 2)
    prepared = steps_of(bake, nhwc=nhwc).before(tensor(np.ascontiguousarray(raw))).numpy()
    np.testing.assert_allclose(
        prepared, expected.transpose(0, 2, 3, 1) if nhwc else expected, rtol=1e-6, atol=1e-6
    )


def test_prepared_pixels_pass() -> None:
    pixels = normalized(tiles(3), bake_of(3))
    np.testing.assert_array_equal(
        steps_of(bake_of(3, pixels="float32")).before(tensor(pixels)).numpy(), pixels
    )


@pytest.mark.parametrize("margin", [0, 2])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_the_highest_score_wins_and_its_probability_is_the_confidence(
    output: str, layout: str, margin: int
) -> None:
    scores = scores_of() if output == "logits" else probabilities(scores_of()).astype(np.float32)
    bake = bake_of(3, output=output, output_layout=layout, margin=margin, confidence=True)
    ids, sure = after(
        bake, scores if layout == "NCHW" else np.ascontiguousarray(scores.transpose(0, 2, 3, 1))
    )
    kept = scores[..., margin : 9 - margin, margin : 13 - margin]
    best = (probabilities(kept) if output == "logits" else kept).max(axis=1)
    assert ids.dtype == sure.dtype == np.uint8
    assert not np.any((ids != kept.argmax(axis=1)) & ~near_ties(kept))
    assert np.abs(sure - best * 255).max() <= 0.501


def test_without_confidence_there_is_one_answer_and_of_several_heads_the_first_counts() -> None:
    scores = scores_of()
    (ids,) = after(bake_of(3), scores)
    np.testing.assert_array_equal(ids, scores.argmax(axis=1))
    heads = steps_of(bake_of(3)).after([tensor(scores), tensor(-scores)])
    np.testing.assert_array_equal(heads.numpy(), ids)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_band_of_scores_is_compared_with_the_threshold(layout: str) -> None:
    scores = np.random.default_rng(0).random((2, 1, 9, 13), dtype=np.float32)
    bake = bake_of(3, output="sigmoid", output_layout=layout, threshold=0.3, confidence=True, margin=1)
    ids, sure = after(bake, scores if layout == "NCHW" else scores.transpose(0, 2, 3, 1).copy())
    kept = scores[:, 0, 1:-1, 1:-1]
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, kept > np.float32(0.3))
    assert np.abs(sure - np.where(kept > 0.3, kept, 1 - kept) * 255).max() <= 0.501


@pytest.mark.parametrize("shape", [(2, 9, 13), (2, 1, 9, 13)])
def test_ids_pass_as_int32_with_or_without_an_axis_of_one(shape: tuple[int, ...]) -> None:
    answer = np.random.default_rng(0).integers(0, 900, shape)
    (ids,) = after(bake_of(3, output="classes", margin=3), answer)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, answer.reshape(2, 9, 13)[:, 3:-3, 3:-3])


@pytest.mark.parametrize(("classes", "dtype"), [(255, np.uint8), (256, np.int32)])
def test_ids_are_bytes_as_long_as_nodata_has_a_value_of_its_own(classes: int, dtype: type) -> None:
    scores = scores_of(classes)
    (ids,) = after(bake_of(3), scores)
    assert ids.dtype == dtype
    np.testing.assert_array_equal(ids, scores.argmax(axis=1))


def test_the_layer_is_the_network_between_both() -> None:
    import_paddle()
    import paddle

    from batchseg.engines.graphs.baked_layer import Baked

    class Bands(paddle.nn.Layer):
        """Its input as scores."""

        def forward(self, x: Any) -> Any:
            return x

    bake, pixels = bake_of(4), tiles(4)
    ids = Baked(Bands(), bake, nhwc=False).forward(tensor(pixels)).numpy()
    scores = normalized(pixels, bake)
    assert not np.any((ids != scores.argmax(axis=1)) & ~near_ties(scores))
