"""Packages of the test models, and what numpy says that a network's scores mean."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.models.package import Bake, Format, ModelPackage, Network

BANDS = {"conv": 3, "spectral": 4, "one": 1, "ids": 1, "glow": 3}


def paddle_package(folder: Path, bands: int | None = None, stem: str = "model") -> ModelPackage:
    program = next(path for path in (folder / f"{stem}.json", folder / f"{stem}.pdmodel") if path.exists())
    params = program.with_suffix(".pdiparams")
    return ModelPackage(
        path=str(folder),
        origin="bare",
        format="pir" if program.suffix == ".json" else "pdmodel",
        network=str(program),
        params=str(params),
        digest=hashlib.sha256(program.read_bytes() + params.read_bytes()).hexdigest(),
        bands=BANDS.get(folder.name) if bands is None else bands,
    )


def onnx_package(path: Path, **fields: Any) -> ModelPackage:
    return ModelPackage(
        path=str(path),
        origin="onnx",
        format="onnx",
        network=str(path),
        params=None,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        **fields,
    )


def plain(package: ModelPackage, format_: Format | None = None) -> Network:
    return Network(
        format=format_ or package.format,
        path=package.network,
        params=package.params,
        layout=package.layout,
        bands=package.bands,
        quantized=package.quantized,
    )


def bake_of(bands: int, **fields: Any) -> Bake:
    """Uneven means and deviations, so that a swapped band shows."""
    defaults: dict[str, Any] = {
        "pixels": "uint8",
        "mean": tuple(0.4 + 0.05 * band for band in range(bands)),
        "std": tuple(0.25 + 0.02 * band for band in range(bands)),
        "output": "logits",
        "output_layout": "NCHW",
        "threshold": 0.5,
        "confidence": False,
    }
    return Bake(**(defaults | fields))


def tiles(bands: int, count: int = 2, shape_hw: tuple[int, int] = (40, 56)) -> NDArray[np.uint8]:
    return np.random.default_rng(bands).integers(0, 256, (count, *shape_hw, bands), dtype=np.uint8)


def normalized(pixels: NDArray[np.uint8], bake: Bake) -> NDArray[np.float32]:
    """NHWC pixels as NCHW numbers, with numpy."""
    mean, std = (np.float32(255 * np.array(values)) for values in (bake.mean, bake.std))
    return np.ascontiguousarray(((pixels.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2))


def probabilities(scores: NDArray[np.float32], axis: int = 1) -> NDArray[np.float64]:
    """Softmax."""
    powers = np.exp(scores.astype(np.float64) - scores.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def near_ties(scores: NDArray[np.float32], axis: int = 1, margin: float = 1e-4) -> NDArray[np.bool_]:
    """Pixels whose two best scores differ by rounding only."""
    best = np.sort(scores, axis=axis)
    second, first = (best.take(index, axis=axis) for index in (-2, -1))
    return (first - second) <= margin * np.maximum(1, np.abs(first))
