"""A segmentation model made of spectral indices instead of trained weights.

The model labels four-band reflectance by NDWI, NDVI and brightness, so its masks can be judged
by physics and predicted exactly with NumPy. `export` writes it as a Paddle inference model;
`scores` is the same arithmetic, operation by operation, and equals the Paddle graph bit for bit
as long as reflectances are not negative and not subnormal.

Usage:
    python jobs/spectral.py DIRECTORY
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLASSES: tuple[tuple[str, str], ...] = (
    ("soil", "#b08d57"),
    ("water", "#2b6cb0"),
    ("vegetation", "#3a923a"),
    ("bright", "#d9d9d9"),
)
"""Name and display colour of each class; the position is the class id."""

THRESHOLDS: tuple[float, ...] = (0.0, 0.05, 0.3, 0.25)
"""Index value at which a class overtakes soil: none, NDWI, NDVI, mean visible reflectance."""

# Powers of two are exact factors: a compiler or fusion pass that turns (index - threshold) * gain
# into a fused multiply-add cannot change the result. Brightness spans about half the range of the
# normalised differences, hence twice their gain; it also lets cloud, whose NDWI is near zero, win.
GAINS: tuple[float, ...] = (1.0, 8.0, 8.0, 16.0)
"""Factor per class that makes a softmax over the scores a sensible confidence."""

EPSILON = 1e-6
"""Added to denominators, as reflectance; makes 0 / 0 (nodata fill) an index of 0."""

DEPLOY_YAML = """\
Deploy:
  input_shape: [-1, 4, -1, -1]
  model: model.pdmodel
  params: model.pdiparams
  output_op: none
  output_dtype: float32
  transforms: []
"""


def scores(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score pixels exactly as the exported model does.

    The class of a pixel is the argmax over axis 0; the first maximum wins.

    Args:
        pixels: float32 (4, H, W), reflectance 0..1; bands red, green, blue, near infrared.

    Returns:
        float32 (4, H, W); axis 0 is soil, water, vegetation, bright.
    """
    red, green, blue, nir = pixels
    epsilon = np.float32(EPSILON)
    indices = np.empty_like(pixels)
    indices[0] = red - red
    indices[1] = (green - nir) / (green + nir + epsilon)
    indices[2] = (nir - red) / (nir + red + epsilon)
    indices[3] = (red + green + blue) * np.float32(1.0 / 3.0)
    indices -= _per_class(THRESHOLDS)
    indices *= _per_class(GAINS)
    return indices


def _per_class(values: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32).reshape(-1, 1, 1)


def export(directory: Path) -> None:
    """Write the model as a PaddleSeg export: model.json, model.pdiparams and deploy.yaml.

    Args:
        directory: Where to write; created if missing.
    """
    import paddle
    from spectral_layer import SpectralIndices

    directory.mkdir(parents=True, exist_ok=True)
    layer = SpectralIndices(THRESHOLDS, GAINS, EPSILON)
    layer.eval()
    bands = paddle.static.InputSpec([None, 4, None, None], dtype="float32", name="x")
    paddle.jit.save(layer, str(directory / "model"), input_spec=[bands])
    (directory / "deploy.yaml").write_text(DEPLOY_YAML, encoding="utf-8")


def main() -> None:
    """Export the model into the directory named on the command line."""
    parser = argparse.ArgumentParser(description="Export the spectral index model.")
    parser.add_argument("directory", type=Path)
    export(parser.parse_args().directory)


if __name__ == "__main__":
    main()
