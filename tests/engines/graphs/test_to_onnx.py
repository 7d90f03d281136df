"""Paddle networks as ONNX files: open sizes where they can be, fixed ones where they must."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packages import paddle_package, plain

from batchseg.engines.base import engine
from batchseg.engines.graphs import to_onnx as module
from batchseg.engines.graphs.bake_paddle import side_by_side
from batchseg.engines.graphs.derive import prepare_network
from batchseg.engines.graphs.to_onnx import SMALL_SIDES, _runs, _what_it_said, fix_size, to_onnx
from batchseg.errors import ModelError
from batchseg.models.package import Network


def test_batch_height_and_width_stay_open(models: Path) -> None:
    network = prepare_network(
        paddle_package(models / "conv"),
        engine=engine("onnxruntime"),
        bake=None,
        precision="fp32",
        device="cpu",
    )
    dims = onnx.load(network.path).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [0, 3, 0, 0]


def test_a_network_that_pools_adaptively_is_converted_for_one_size(models: Path, tmp_path: Path) -> None:
    package = paddle_package(models / "adaptive", 3)
    with pytest.raises(ModelError, match="Adaptive only support static input shape"):
        to_onnx(package, tmp_path / "free.onnx")
    to_onnx(package, tmp_path / "fixed.onnx", size_hw=(32, 64))
    network = Network(format="onnx", path=str(tmp_path / "fixed.onnx"), bands=3)
    batch = np.random.default_rng(0).random((3, 3, 32, 64), dtype=np.float32)
    answers = [
        engine(name).load(which, precision="fp32", device="cpu", threads=1).run(batch)[0]
        for name, which in (("paddle", plain(package)), ("onnxruntime", network))
    ]
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_what_is_no_paddle_network_is_refused(models: Path, tmp_path: Path) -> None:
    package = dataclasses.replace(paddle_package(models / "conv"), encrypted=True)
    with pytest.raises(ModelError, match="cannot be converted"):
        to_onnx(package, tmp_path / "x.onnx")


def test_the_telling_lines_are_quoted() -> None:
    text = "Start\n\x1b[31m[ERROR][Paddle2ONNX] [OP: pd_op.pool2d] Adaptive only support x.\x1b[0m\nmore\n"
    assert _what_it_said(text) == "[ERROR][Paddle2ONNX] [OP: pd_op.pool2d] Adaptive only support x."
    assert _what_it_said("") == "paddle2onnx gave no reason"


@pytest.mark.parametrize(("side", "conversion_is_right"), [(64, True), (50, False)])
def test_paddle_pools_to_cells_at_any_size_and_a_conversion_only_where_they_divide_it(
    models: Path, tmp_path: Path, side: int, conversion_is_right: bool
) -> None:
    """Which side is wrong where engines differ: paddle2onnx writes one kernel for cells of several sizes."""
    package = paddle_package(models / "adaptive", 3)
    to_onnx(package, tmp_path / "fixed.onnx", size_hw=(side, side))
    network = Network(format="onnx", path=str(tmp_path / "fixed.onnx"), bands=3)
    own = engine("paddle").load(plain(package), precision="fp32", device="cpu", threads=1)
    converted = engine("onnxruntime").load(network, precision="fp32", device="cpu", threads=1)
    image = np.random.default_rng(0).random((1, 3, side, side), dtype=np.float32)
    # The first of 2 x 4 cells is the mean of rows 0..ceil(side / 2) and columns 0..ceil(side / 4).
    cell = image[:, :, : -(-side // 2), : -(-side // 4)].mean(axis=(2, 3), keepdims=True)
    # At the first pixel the answer is conv(pixel) + conv(cell); an image of one colour has both alike.
    flat = [np.broadcast_to(colour, image.shape) for colour in (image[:, :, :1, :1], cell)]
    expected = sum(own.run(np.ascontiguousarray(colours))[0][0, :, 0, 0] for colours in flat) / 2
    first = [session.run(image)[0][0, :, 0, 0] for session in (own, converted)]
    np.testing.assert_allclose(first[0], expected, atol=1e-5)
    assert np.allclose(first[1], expected, atol=1e-5) is conversion_is_right


STEPS = st.sampled_from([1, 2, 4, 7, 12, 16, 24, 32, 48, 128])
AXES = st.one_of(
    st.just(("batch", 0)),
    st.tuples(st.sampled_from(["down", "up", "times"]), STEPS),
    st.tuples(st.sampled_from(["tokens", "cells"]), st.sampled_from([4, 16, 32])),
    st.tuples(st.just("odd"), st.integers(1, 3)),
)


def axis(rule: tuple[str, int], count: int, side: int) -> int:
    """An axis of a tensor, as layers make them of a batch of squares."""
    kind, step = rule
    return {
        "batch": count,
        "down": side // max(step, 1),
        "up": -(-side // max(step, 1)),
        "times": side * step,
        "tokens": (side // max(step, 1)) ** 2,
        "cells": step,
        "odd": (side // 64) ** 3 + step,
    }[kind]


SIDES = st.one_of(st.sampled_from(range(640, 1601, 128)), st.integers(1, 1600))


@given(st.lists(st.lists(AXES, min_size=1, max_size=4), max_size=5), SIDES)
def test_shapes_of_large_squares_are_those_that_a_run_would_show(rules, side):
    asked = []

    def shapes(count, size_hw):
        asked.append(size_hw[0])
        return [[axis(rule, count, size_hw[0]) for rule in tensor] for tensor in rules]

    found = _runs(shapes, [side, side])
    plain_rules = all(kind in ("batch", "cells", "times", "tokens") for tensor in rules for kind, _ in tensor)
    if plain_rules and side > SMALL_SIDES[-1] and side % 128 == 0:
        assert max(asked) == SMALL_SIDES[-1]
    assert found == (shapes(2, (side, side)), shapes(3, (side, side)))


def test_what_does_not_follow_from_small_squares_is_run_at_its_own_size() -> None:
    asked = []

    def shapes(count, size_hw):
        asked.append((count, *size_hw))
        return [[count, size_hw[0] ** 3]]

    assert _runs(shapes, [640, 640]) == ([[2, 640**3]], [[3, 640**3]])
    assert asked[-2:] == [(2, 640, 640), (3, 640, 640)]
    for size in ((640, 768), (512, 512), (600, 600)):
        asked.clear()
        _runs(shapes, size)
        assert asked == [(2, *size), (3, *size)]


@pytest.mark.parametrize("model", ["adaptive", "coarse"])
def test_a_program_for_a_large_square_is_the_same_without_a_run_of_it(model, models, tmp_path, monkeypatch):
    package = paddle_package(models / model, 3)
    source = side_by_side(package.network, package.params, tmp_path).with_suffix("")
    asked = []

    def watched(shapes, size_hw):
        def each(count, at):
            asked.append(at[0])
            return shapes(count, at)

        return _runs(each, size_hw)

    monkeypatch.setattr(module, "_runs", watched)
    fix_size(source, tmp_path / "followed", (640, 640))
    assert max(asked) == SMALL_SIDES[-1]
    monkeypatch.setattr(module, "SMALL_SIDES", (256, 384, 10_000))
    fix_size(source, tmp_path / "run", (640, 640))
    assert max(asked) == 640
    written = [(tmp_path / name).with_suffix(".json").read_bytes() for name in ("followed", "run")]
    assert written[0] == written[1]
    assert b"640" in written[0]
