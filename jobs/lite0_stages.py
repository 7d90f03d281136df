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
"""Kernel, first block's stride, expansion, channels and blocks of each stage. The stem has 32 channels."""

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


def reach(widths: tuple[int, ...]) -> int:
    """The largest distance, in pixels, at which an image's pixel changes a logit: tiles need a halo as wide.

    Args:
        widths: Channels of the decoder's levels; their values do not matter, their number does.
    """
    levels = len(widths)
    return max(_reach_at(place, levels) for place in range(1600, 1616))


def _reach_at(place: int, levels: int) -> int:
    """Distance of the furthest pixel that the logit at a row or column depends on."""
    wanted = {stage: [place, place] for stage in range(USED)}
    span = _below((place, place), 16 // 2 ** (levels - 1))
    stages = [4, 2, 1, 0][:levels]
    for stage in reversed(stages[1:]):
        span = _before(span, 3, 1)
        wanted[stage] = list(span)
        span = _below(span, 2)
    wanted[4] = list(span)
    needed: tuple[int, int] | None = None
    for stage in range(USED - 1, -1, -1):
        if stage in stages:
            low, high = wanted[stage]
            needed = (low, high) if needed is None else (min(low, needed[0]), max(high, needed[1]))
        kernel, stride, _, _, count = STAGES[stage]
        for number in range(count - 1, -1, -1):
            needed = _before(needed or (0, 0), kernel, 1 if number else stride)
    low, high = _before(needed or (0, 0), 3, 2)
    return max(place - low, high - place)


def _below(span: tuple[int, int], scale: int) -> tuple[int, int]:
    """What a span of a bilinear enlargement is made of, first and last."""
    low, high = ((2 * place + 1 - scale) // (2 * scale) for place in span)
    return low, high + 1 if scale > 1 else high


def _before(span: tuple[int, int], kernel: int, stride: int) -> tuple[int, int]:
    """What a span of a convolution's output is made of, first and last."""
    before, _ = padding(kernel, stride)
    return span[0] * stride - before, span[1] * stride - before + kernel - 1
