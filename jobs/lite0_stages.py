"""EfficientNet-Lite0 in numbers: what the networks in Paddle and in PyTorch have in common."""

from __future__ import annotations

STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""Kernel, stride of the first block, expansion, channels and blocks of each stage; the stem has 32 channels."""

BLOCKS = [(stage, number) for stage, (*_, count) in enumerate(STAGES) for number in range(count)]
"""Stage and place in it of each block, in order."""

EPSILON = 1e-3  # Of the batch norms, as in the published weights.
USED = 5  # Stages of the segmenting encoder; the last two see 425 pixels, more than tiles can overlap.


def padding(kernel: int, stride: int) -> tuple[int, int]:
    """Pixels of zeros before and after, as TensorFlow pads an image of an even size.

    At stride 2 that is one less before than after. It is fixed: with padding that follows the size, tiles of
    another parity than the image would shift its features.
    """
    whole = max(0, kernel - stride)
    return whole // 2, whole - whole // 2


LANDCOVER = (96, 64, 48)
MAGNETIC_TILE = (96, 64, 40, 16)
"""Channels of the decoders at 1/16, 1/8, 1/4 and 1/2 of the image."""
