"""Defects as they are drawn."""

import numpy as np
from numpy.typing import NDArray

RED, GREEN = "#ff0000", "#00ff00"


GREY = 128


def picture(height: int, width: int, value: int = GREY) -> NDArray[np.uint8]:
    return np.full((height, width, 1), value, np.uint8)
