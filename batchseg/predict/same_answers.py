"""Whether a network that was imported answers as it did where it came from."""

from pathlib import Path

import numpy as np

from batchseg.engines.base import engine, telling_line
from batchseg.engines.graphs.derive import own_network
from batchseg.errors import ModelError
from batchseg.models.package import ModelPackage

NEAR = 1e-3
"""Of the largest answer may another runtime's differ; 1e-6 to 1e-5 are usual."""


def compared(package: ModelPackage, tile: Path, origin: Path) -> float | None:
    """How far ONNX Runtime's answer lies from the one that is known, by the largest value of that.

    Args:
        package: of an ONNX file.
        tile: an .npz with the pixels `tile` as the network takes them, and its `answer`.
        origin: the network that it was made of, for messages.

    Returns:
        None where ONNX Runtime is not installed.

    Raises:
        ModelError: farther than rounding explains, or it cannot be run.
    """
    runtime = engine("onnxruntime")
    if runtime.version() is None:
        return None
    with np.load(tile) as kept:
        pixels, expected = kept["tile"], kept["answer"]
    session = runtime.load(own_network(package), precision="fp32", device="cpu", threads=1)
    try:
        found = session.run(pixels)[0]
    except Exception as e:  # engines raise RuntimeError, ValueError, MemoryError and their own
        msg = f"{origin}: as ONNX it fails on a tile: {telling_line(e)}"
        raise ModelError(msg) from e
    if found.shape != expected.shape:
        msg = f"{origin}: as ONNX it gives {list(found.shape)} for a tile, before {list(expected.shape)}"
        raise ModelError(msg)
    apart = float(np.abs(found.astype(np.float64) - expected).max() / max(1e-12, np.abs(expected).max()))
    if not apart <= NEAR:
        msg = (
            f"{origin}: as ONNX it answers otherwise: values differ by up to {apart:.2%} of the largest; of "
            f"one network they differ by less than {NEAR:.1%}"
        )
        raise ModelError(msg)
    return apart
