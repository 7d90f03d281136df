"""EfficientNet-Lite0 up to its fifth stage, and a decoder without pooling: the network of both models.

The encoder has neither squeeze-excitation nor pooling, and the decoder of PaddleSeg's layers adds none, so a
logit depends on the pixels within `reach` of it alone. Tiles with that halo give the whole image's masks.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import paddle
from lite0_stages import EPSILON, STAGES, USED, padding
from paddle.nn import functional as F  # noqa: N812
from paddleseg.models.layers import ConvBN, ConvBNReLU, SeparableConvBNReLU


class Conv(paddle.nn.Layer):  # type: ignore[misc]
    """Convolution, batch norm and, if wished, ReLU6."""

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bounded: bool = True,
    ) -> None:
        super().__init__()
        pad = [*padding(kernel, stride)] * 2
        self.conv = paddle.nn.Conv2D(
            inside, outside, kernel, stride=stride, padding=pad, groups=groups, bias_attr=False
        )
        self.norm = paddle.nn.BatchNorm2D(outside, epsilon=EPSILON)
        self.bounded = bounded

    def forward(self, x: Any) -> Any:
        """Features (N, outside, H / stride, W / stride) of features (N, inside, H, W)."""
        x = self.norm(self.conv(x))
        return F.relu6(x) if self.bounded else x


class Block(paddle.nn.Layer):  # type: ignore[misc]
    """An inverted bottleneck: expansion, depthwise convolution, projection; added to its input if it fits."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.expand = Conv(inside, wide, 1) if expansion > 1 else None
        self.depthwise = Conv(wide, wide, kernel, stride=stride, groups=wide)
        self.project = Conv(wide, outside, 1, bounded=False)
        self.adds = stride == 1 and inside == outside

    def forward(self, x: Any) -> Any:
        """Features (N, outside, H / stride, W / stride) of features (N, inside, H, W)."""
        wide = self.expand(x) if self.expand is not None else x
        narrow = self.project(self.depthwise(wide))
        return narrow + x if self.adds else narrow


class Encoder(paddle.nn.Layer):  # type: ignore[misc]
    """The first stages of EfficientNet-Lite0."""

    def __init__(self, stages: int = USED) -> None:
        super().__init__()
        self.stem = Conv(3, 32, 3, stride=2)
        inside = 32
        self.stages = paddle.nn.LayerList()
        for kernel, stride, expansion, outside, count in STAGES[:stages]:
            blocks = []
            for number in range(count):
                blocks.append(Block(inside, outside, kernel, stride if not number else 1, expansion))
                inside = outside
            self.stages.append(paddle.nn.Sequential(*blocks))

    def forward(self, x: Any) -> list[Any]:
        """Features of each stage, finest first, of images (N, 3, H, W) in -1..1; H and W multiples of 16."""
        x = self.stem(x)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class Classifier(paddle.nn.Layer):  # type: ignore[misc]
    """The whole of EfficientNet-Lite0 with its 1000 classes: to compare carried-over weights with others."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(len(STAGES))
        self.head = Conv(320, 1280, 1)
        self.classify = paddle.nn.Linear(1280, 1000)

    def forward(self, x: Any) -> Any:
        """Logits (N, 1000) of images (N, 3, H, W)."""
        return self.classify(self.head(self.encoder(x)[-1]).mean([2, 3]))


class Segmenter(paddle.nn.Layer):  # type: ignore[misc]
    """Encoder and decoder: bilinear steps up, at each of which the encoder's features join."""

    def __init__(self, classes: int, widths: tuple[int, ...]) -> None:
        """`widths`: channels of the decoder at 1/16, 1/8, 1/4 and, if there is a fourth, 1/2 of the image."""
        super().__init__()
        self.encoder = Encoder()
        channels = [112, 40, 24, 16][: len(widths)]
        pairs = list(pairwise(widths))
        self.enter = ConvBNReLU(channels[0], widths[0], 1, bias_attr=False)
        self.skips = paddle.nn.LayerList(
            [ConvBN(skip, w, 1, bias_attr=False) for skip, w in zip(channels[1:], widths[1:], strict=True)]
        )
        self.narrow = paddle.nn.LayerList([ConvBN(above, w, 1, bias_attr=False) for above, w in pairs])
        self.join = paddle.nn.LayerList(
            [SeparableConvBNReLU(w, w, 3, pointwise_bias=False, bias_attr=False) for w in widths[1:]]
        )
        self.classify = paddle.nn.Conv2D(widths[-1], classes, 1)
        self.register_buffer("temperature", paddle.ones([1]))

    def forward(self, x: Any) -> list[Any]:
        """Logits (N, K, H, W) over the temperature, of images (N, 3, H, W)."""
        stages = self.encoder(x)
        y = self.enter(stages[4])
        for number, join in enumerate(self.join):
            y = F.interpolate(self.narrow[number](y), scale_factor=2, mode="bilinear", align_corners=False)
            y = join(F.relu(y + self.skips[number](stages[2 - number])))
        logits = self.classify(y) / self.temperature
        scale = 16 // 2 ** len(self.join)
        return [F.interpolate(logits, scale_factor=scale, mode="bilinear", align_corners=False)]


def paddle_name(name: str) -> str | None:
    """A tensor's name here, given that in jobs/lite0_torch.py; None for what only training needs."""
    if name.endswith("num_batches_tracked") or name.startswith("coarse."):
        return None
    changes = [("running_mean", "_mean"), ("running_var", "_variance")]
    if name.startswith(("enter.", "skips.", "narrow.", "join.")):
        changes += [("conv.", "_conv."), ("norm.", "_batch_norm.")]
        changes += [("depthwise.", "depthwise_conv."), ("pointwise.", "piontwise_conv.")]  # Spelt so.
    for ours, theirs in changes:
        name = name.replace(ours, theirs)
    return name


def load(net: Any, weights: dict[str, Any]) -> None:
    """Fill the network with arrays of `lite0_torch`'s names.

    Raises:
        ValueError: If names or shapes are not the network's.
    """
    found = {}
    for name, value in weights.items():
        to = paddle_name(name)
        if to:
            found[to] = value.T if to == "classify.weight" and value.ndim == 2 else value
    wanted = {name: list(value.shape) for name, value in net.state_dict().items()}
    given = {name: list(value.shape) for name, value in found.items()}
    if wanted != given:
        differing = sorted(name for name in {*wanted, *given} if wanted.get(name) != given.get(name))
        msg = f"weights are of another network: {', '.join(differing)}"
        raise ValueError(msg)
    net.set_state_dict({name: paddle.to_tensor(value) for name, value in found.items()})
