"""The network of jobs/lite0.py in PyTorch, for training: the same layers by the same names.

Trained here and exported by Paddle, because Paddle's CPU kernels for depthwise convolutions are slow
backwards: a step takes about three times as long.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import torch
from lite0_stages import BLOCKS, EPSILON, STAGES, USED, padding
from torch import nn
from torch.nn import functional as F  # noqa: N812

LAYERS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
OUTSIDE = {
    "_conv_stem": "encoder.stem.conv",
    "_bn0": "encoder.stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_fc": "classify",
}


class Conv(nn.Module):  # type: ignore[misc]
    """Convolution, batch norm and, if wished, an activation."""

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Any = F.relu6,
        epsilon: float = EPSILON,
    ) -> None:
        super().__init__()
        self.before, self.after = padding(kernel, stride)
        even = self.before if self.before == self.after else 0
        self.conv = nn.Conv2d(inside, outside, kernel, stride, even, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outside, eps=epsilon)
        self.activation = activation

    def forward(self, x: Any) -> Any:
        """Features (N, outside, H / stride, W / stride) of features (N, inside, H, W)."""
        if self.before != self.after:
            x = F.pad(x, (self.before, self.after) * 2)
        x = self.norm(self.conv(x))
        return self.activation(x) if self.activation else x


class Block(nn.Module):  # type: ignore[misc]
    """An inverted bottleneck: expansion, depthwise convolution, projection; added to its input if it fits."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.expand = Conv(inside, wide, 1) if expansion > 1 else None
        self.depthwise = Conv(wide, wide, kernel, stride=stride, groups=wide)
        self.project = Conv(wide, outside, 1, activation=None)
        self.adds = stride == 1 and inside == outside

    def forward(self, x: Any) -> Any:
        """Features (N, outside, H / stride, W / stride) of features (N, inside, H, W)."""
        narrow = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        return narrow + x if self.adds else narrow


class Encoder(nn.Module):  # type: ignore[misc]
    """The first stages of EfficientNet-Lite0."""

    def __init__(self, stages: int = USED) -> None:
        super().__init__()
        self.stem = Conv(3, 32, 3, stride=2)
        inside, made = 32, []
        for kernel, stride, expansion, outside, count in STAGES[:stages]:
            blocks = []
            for number in range(count):
                blocks.append(Block(inside, outside, kernel, 1 if number else stride, expansion))
                inside = outside
            made.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(made)
        self.frozen = 0

    def forward(self, x: Any) -> list[Any]:
        """Features of each stage, finest first, of images (N, 3, H, W) in -1..1; H and W multiples of 16."""
        found = []
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            x = self.stem(x)
        for number, stage in enumerate(self.stages, 1):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number > self.frozen):
                x = stage(x)
            found.append(x)
        return found


class Classifier(nn.Module):  # type: ignore[misc]
    """The whole of EfficientNet-Lite0 with its 1000 classes: to compare carried-over weights with."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(len(STAGES))
        self.head = Conv(320, 1280, 1)
        self.classify = nn.Linear(1280, 1000)

    def forward(self, x: Any) -> Any:
        """Logits (N, 1000) of images (N, 3, H, W)."""
        return self.classify(self.head(self.encoder(x)[-1]).mean([2, 3]))


class Segmenter(nn.Module):  # type: ignore[misc]
    """Encoder and decoder, as `lite0.Segmenter`; in training with coarse logits beside the fine ones."""

    def __init__(self, classes: int, widths: tuple[int, ...]) -> None:
        """`widths`: channels of the decoder at 1/16, 1/8, 1/4 and, if there is a fourth, 1/2 of the image."""
        super().__init__()
        self.encoder = Encoder()
        channels = [112, 40, 24, 16][: len(widths)]
        pairs = list(pairwise(widths))
        like_paddle = 1e-5  # Epsilon of the norms of PaddleSeg's layers.

        def conv(inside: int, outside: int, kernel: int, groups: int, activation: Any) -> Conv:
            return Conv(inside, outside, kernel, groups=groups, activation=activation, epsilon=like_paddle)

        self.enter = conv(channels[0], widths[0], 1, 1, F.relu)
        self.skips = nn.ModuleList(
            [conv(skip, width, 1, 1, None) for skip, width in zip(channels[1:], widths[1:], strict=True)]
        )
        self.narrow = nn.ModuleList([conv(above, width, 1, 1, None) for above, width in pairs])
        self.join = nn.ModuleList(
            [
                nn.ModuleDict({"depthwise": conv(w, w, 3, w, None), "pointwise": conv(w, w, 1, 1, F.relu)})
                for w in widths[1:]
            ]
        )
        self.classify = nn.Conv2d(widths[-1], classes, 1)
        self.coarse = nn.Conv2d(widths[0], classes, 1)

    def train(self, mode: bool = True) -> Segmenter:
        """Train, but keep the statistics of the encoder's norms: batches are small."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, x: Any) -> list[Any]:
        """Logits (N, K, H, W) of images (N, 3, H, W); in training also coarse ones, at 1/16 of the image."""
        stages = self.encoder(x)
        top = y = self.enter(stages[4])
        finer = [stages[2], stages[1], stages[0]]
        for narrow, skip, join, features in zip(self.narrow, self.skips, self.join, finer, strict=False):
            y = F.interpolate(narrow(y), scale_factor=2, mode="bilinear")
            y = join["pointwise"](join["depthwise"](F.relu(y + skip(features))))
        scale = 16 // 2 ** len(self.join)
        logits = F.interpolate(self.classify(y), scale_factor=scale, mode="bilinear")
        return [logits, self.coarse(top)] if self.training else [logits]


def our_name(name: str) -> str:
    """A tensor's name in `Classifier`, given that in the published weights.

    Raises:
        ValueError: If the network has no such layer.
    """
    *layers, value = name.split(".")
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", ".".join(layers))
    if block and int(block[1]) < len(BLOCKS) and block[2] in LAYERS:
        stage, number = BLOCKS[int(block[1])]
        return f"encoder.stages.{stage}.{number}.{LAYERS[block[2]]}.{value}"
    if len(layers) == 1 and layers[0] in OUTSIDE:
        return f"{OUTSIDE[layers[0]]}.{value}"
    msg = f"tensor {name} is of no layer of EfficientNet-Lite0"
    raise ValueError(msg)
