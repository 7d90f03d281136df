"""The threshold of one band of scores, once a temperature is in the network."""

import math

import numpy as np

NEAR = 1e-5
"""Scores farther than this from the old threshold keep their class."""

ROUNDING = 2.0**-22
"""Of an engine's sigmoid in float32, either way: ONNX Runtime adds a half to what it approximates."""


def moved_threshold(threshold: float, temperature: float) -> float | None:
    """Where a threshold lies after scores were divided.

    Args:
        threshold: of probabilities, above 0 and below 1.
        temperature: by which their logits are divided.

    Returns:
        What float32 holds exactly, so that its decimals in a job file are it again. None: pixels would get
        another class, as float32 does not tell the scores around it apart.
    """
    old = float(np.float32(threshold))  # as networks' answers are compared with it
    new = float(np.float32(_divided(old, temperature)))
    sides = (max(old - NEAR, old / 2), min(old + NEAR, (1 + old) / 2))
    if not 0 < new < 1 or any(abs(_divided(side, temperature) - new) < ROUNDING for side in sides):
        return None
    return new


def _divided(probability: float, temperature: float) -> float:
    logit = math.log(probability) - math.log1p(-probability)
    return float(1 / (1 + np.exp(-logit / temperature)))
