"""Small networks of known reach and geometry, and recipes that run them bare on ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from factories import make_facts, make_recipe
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from packages import onnx_package

from batchseg.job.recipe import Recipe
from batchseg.job.settings import Scale
from batchseg.predict.samples import Sample

RAW = Scale(kind="transforms", low=(0.0,), high=(1.0,))
"""Pixels go in as they are."""


def write_conv(path: Path, radius: int, *, gain: float = 0.0, lead: float | None = None) -> Path:
    """A convolution of three bands to three classes that sees `radius` pixels far.

    Args:
        path: of the file.
        radius: pixels to each side.
        gain: of the scores; 0: weights are small integers, and scores of integers exact.
        lead: by as much class 0 is ahead of others, which reach it by less: it always wins; None: nobody is.
    """
    rng = np.random.default_rng(radius)
    shape = (3, 3, 2 * radius + 1, 2 * radius + 1)
    weights = rng.integers(-4, 5, shape).astype(np.float32)
    weights[:, :, [0, -1]] = 3 * rng.choice([-1, 1], weights[:, :, [0, -1]].shape)  # its farthest pixels tell
    if gain:
        weights *= gain / np.sqrt((weights**2).sum(axis=(1, 2, 3), keepdims=True))
    nodes = [helper.make_node("Conv", ["x", "w"], ["y" if lead else "p"], pads=[radius] * 4)]
    constants = {"w": weights.astype(np.float32)}
    if lead:
        nodes += [helper.make_node("Tanh", ["y"], ["t"]), helper.make_node("Add", ["t", "b"], ["p"])]
        constants["b"] = np.array([lead, 0, 0], np.float32).reshape(1, 3, 1, 1)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in ("x", "p")
    ]
    initial = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def bare(path: Path, *, stride: int = 1, model: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """A recipe of an ONNX file's network, nothing baked, nothing normalised."""
    usual = {"tile_size": 64, "halo": 8, "normalize": None, "engine": "onnxruntime"}
    return make_recipe(
        model=onnx_package(path, bands=3, **(model or {})),
        facts=make_facts(stride=stride, class_count=None),
        **(usual | changes),
    )


def noise(recipe: Recipe, side: int = 300, seed: int = 0) -> Sample:
    random = np.random.default_rng(seed)
    return Sample(pixels=random.integers(0, 256, (3, side, side), dtype=np.uint8), scale=recipe.scale)


def island(recipe: Recipe, side: int = 300) -> Sample:
    """Dark in its middle, and bright around: the more of it is seen, the brighter is its mean."""
    far = np.hypot(*(np.mgrid[0:side, 0:side] - side / 2)) / side
    random = np.random.default_rng(1)
    pixels: NDArray[Any] = 400 * far.clip(0, 0.5) + random.integers(0, 56, (3, side, side))
    return Sample(pixels=pixels.astype(np.uint8), scale=recipe.scale)
