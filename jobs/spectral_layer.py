"""The Paddle graph behind `spectral.py`, apart so that importing that module needs no Paddle."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import nn


class SpectralIndices(nn.Layer):  # type: ignore[misc]
    """Class scores from NDWI, NDVI and visible brightness.

    Thresholds and gains are stored as parameters, so a saved model has a weights file.
    """

    def __init__(self, thresholds: Sequence[float], gains: Sequence[float], epsilon: float) -> None:
        """Create the layer.

        Args:
            thresholds: One index value per class, subtracted before the gain.
            gains: One factor per class.
            epsilon: Added to each denominator, as reflectance.
        """
        super().__init__()
        self.epsilon = epsilon
        # Paddle turns a division by a constant into a product, so the product is written out.
        self.third = 1.0 / 3.0
        self.thresholds = self._per_class(thresholds)
        self.gains = self._per_class(gains)

    def _per_class(self, values: Sequence[float]) -> paddle.Tensor:
        parameter = self.create_parameter(
            shape=[1, len(values), 1, 1],
            dtype="float32",
            default_initializer=nn.initializer.Assign(
                paddle.to_tensor(values, dtype="float32").reshape([1, -1, 1, 1])
            ),
        )
        parameter.stop_gradient = True
        return parameter

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Score pixels.

        Args:
            x: float32 [N, 4, H, W], reflectance 0..1; bands red, green, blue, near infrared.

        Returns:
            float32 [N, 4, H, W]; axis 1 is soil, water, vegetation, bright.
        """
        red, green, blue, nir = x[:, 0:1], x[:, 1:2], x[:, 2:3], x[:, 3:4]
        ndwi = (green - nir) / (green + nir + self.epsilon)
        ndvi = (nir - red) / (nir + red + self.epsilon)
        brightness = (red + green + blue) * self.third
        # Not zeros_like, which warns about devices while a graph is traced.
        soil = red - red
        indices = paddle.concat([soil, ndwi, ndvi, brightness], axis=1)
        return (indices - self.thresholds) * self.gains
