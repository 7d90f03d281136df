"""Small Paddle models with known answers; `python tests/models.py FOLDER` exports them all."""

import sys
from pathlib import Path

import paddle
import spectral

RADIUS = 3
"""Receptive field of the convolution, to each side."""

CONV_CLASSES = 3


def conv_weights() -> list[list[list[list[int]]]]:
    """Small integers, so that float32 sums are exact in any order: [class][band][row][column]."""
    size = 2 * RADIUS + 1
    return [
        [
            [[(7 * k + 5 * b + 3 * i + 2 * j * (k + 1)) % 9 - 4 for j in range(size)] for i in range(size)]
            for b in range(3)
        ]
        for k in range(CONV_CLASSES)
    ]


class Conv(paddle.nn.Layer):
    """One 7 x 7 convolution from 3 bands to 3 class scores."""

    def __init__(self, sign: int = 1) -> None:
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, CONV_CLASSES, 2 * RADIUS + 1, padding=RADIUS, bias_attr=False)
        self.conv.weight.set_value(sign * paddle.to_tensor(conv_weights(), dtype="float32"))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.conv(x)


class Ids(paddle.nn.Layer):
    """Argmax baked in, as PaddleSeg exports by default: the raw value of the first band as class id."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = self.create_parameter([1], default_initializer=paddle.nn.initializer.Constant(0.0))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return (x[:, 0] + self.zero).astype("int32")


class One(paddle.nn.Layer):
    """One band in, two classes out: dark and bright."""

    def __init__(self) -> None:
        super().__init__()
        threshold = paddle.nn.initializer.Constant(100.0)
        self.threshold = self.create_parameter([1], default_initializer=threshold)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return paddle.concat((self.threshold - x, x - self.threshold), axis=1)


class Spots(paddle.nn.Layer):
    """Three bands in, four classes out: none, red, green, blue. Raw values; a pixel sees itself alone."""

    def __init__(self) -> None:
        super().__init__()
        threshold = paddle.nn.initializer.Constant(150.0)
        self.threshold = self.create_parameter([1], default_initializer=threshold)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        bright = (x - self.threshold) / 16
        return paddle.concat((paddle.zeros_like(bright[:, :1]), bright), axis=1)


class Glow(paddle.nn.Layer):
    """One sigmoid band: how bright the mean of three bands is."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = self.create_parameter([1], default_initializer=paddle.nn.initializer.Constant(0.5))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return paddle.nn.functional.sigmoid(8 * (x.mean(axis=1, keepdim=True) - self.offset))


class Pooled(paddle.nn.Layer):
    """No segmentation network: one number per image."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = paddle.nn.Linear(3, 2)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.fc(x.mean(axis=[2, 3]))


class Adaptive(paddle.nn.Layer):
    """Pools the whole image to 2 x 4 cells, whatever its size, and adds their mean to each class."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = paddle.nn.AdaptiveAvgPool2D((2, 4))
        self.conv = paddle.nn.Conv2D(3, CONV_CLASSES, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        cells = self.conv(self.pool(x))
        return self.conv(x) + paddle.nn.functional.interpolate(cells, x.shape[2:], mode="bilinear")


class Coarse(paddle.nn.Layer):
    """Sees cells of 4 x 4 pixels: by their mean, three bands in and three classes out."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = self.create_parameter([1], default_initializer=paddle.nn.initializer.Constant(0.0))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        cells = paddle.nn.functional.avg_pool2d(x, 4) + self.zero
        return paddle.nn.functional.interpolate(cells, scale_factor=4, mode="nearest")


DEPLOY = """Deploy:
  input_shape: [-1, {bands}, -1, -1]
  model: model.pdmodel
  params: model.pdiparams
  transforms: []
"""


def export(layer: paddle.nn.Layer, bands: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    layer.eval()
    spec = [paddle.static.InputSpec([None, bands, None, None], "float32", name="x")]
    paddle.jit.save(paddle.jit.to_static(layer, input_spec=spec, full_graph=True), str(folder / "model"))
    (folder / "deploy.yaml").write_text(DEPLOY.format(bands=bands))


if __name__ == "__main__":
    root = Path(sys.argv[1])
    spectral.export(root / "spectral")
    export(Conv(), 3, root / "conv")
    export(Conv(-1), 3, root / "other")
    export(Ids(), 1, root / "ids")
    export(One(), 1, root / "one")
    export(Spots(), 3, root / "spots")
    export(Glow(), 3, root / "glow")
    export(Pooled(), 3, root / "pooled")
    export(Adaptive(), 3, root / "adaptive")
    export(Coarse(), 3, root / "coarse")
