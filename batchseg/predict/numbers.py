"""Numbers as they are stored: float32, or uint16 with a scale and an offset. Pure numpy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.job.settings import Values

HIGHEST = 65534
"""Of uint16; 65535 is no data."""

Stored = NDArray[np.float32] | NDArray[np.uint16]


def no_data(shape_hw: tuple[int, int], values: Values) -> Stored:
    """(H, W) of no data."""
    return np.full(shape_hw, values.nodata, dtype=values.dtype)


def stored(numbers: NDArray[np.float32], values: Values) -> Stored:
    """Numbers (H, W) as they are stored; what is not finite is no data.

    In uint16 what lies beyond 0..HIGHEST is clipped to these two.
    """
    finite = np.isfinite(numbers)
    if values.dtype == "float32":
        return np.where(finite, numbers, np.float32(np.nan))
    steps = (np.where(finite, numbers, 0).astype(np.float64) - values.offset) / values.scale
    clipped = np.clip(np.rint(steps), 0, HIGHEST).astype(np.uint16)
    return np.where(finite, clipped, np.uint16(HIGHEST + 1))


def has_data(pixels: Stored) -> NDArray[np.bool_]:
    """Which stored pixels (H, W) hold a number."""
    known: NDArray[np.bool_] = pixels <= HIGHEST if pixels.dtype == np.uint16 else np.isfinite(pixels)
    return known


def real(steps: float, values: Values) -> float:
    """The number that a stored one stands for."""
    return float(steps) * values.scale + values.offset if values.dtype == "uint16" else float(steps)


def divided(numbers: NDArray[Any], threshold: float | None) -> NDArray[np.uint8]:
    """1 above the threshold, else 0 (H, W); 0 throughout without one."""
    if threshold is None:
        return np.zeros(numbers.shape, np.uint8)
    above: NDArray[np.bool_] = numbers > threshold
    return above.view(np.uint8)
