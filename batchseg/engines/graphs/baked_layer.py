"""The network between raw pixels and class ids, as a Paddle layer.

A module of its own because Paddle reads a layer's source from its file when it traces it. Importing it
imports paddle: only `bake_paddle` does, in a process of its own.
"""

from typing import Any

import numpy as np
import paddle

from batchseg.models.package import Bake


class Baked(paddle.nn.Layer):  # type: ignore[misc]  # paddle has no types
    """Pixels to ids (N, H, W), and the confidence and all probabilities where asked for."""

    def __init__(self, net: Any, bake: Bake, *, nhwc: bool) -> None:
        super().__init__()
        self.net = net
        self.steps = Steps(bake, nhwc=nhwc)

    def forward(self, x: Any) -> Any:
        return self.steps.after(self.net(self.steps.before(x)))


class Steps(paddle.nn.Layer):  # type: ignore[misc]
    """What comes before and after the bare network."""

    def __init__(self, bake: Bake, *, nhwc: bool) -> None:
        super().__init__()
        self.bake, self.nhwc = bake, nhwc
        self.score_axis = 1 if bake.output_layout == "NCHW" else -1
        if bake.pixels == "uint8":
            self.register_buffer("mean", self._per_band(bake.mean))
            self.register_buffer("std", self._per_band(bake.std))

    def _per_band(self, values: tuple[float, ...]) -> Any:
        scaled = (255 * np.array(values, dtype=np.float64)).astype(np.float32)
        return paddle.to_tensor(scaled.reshape((1, 1, 1, -1) if self.nhwc else (1, -1, 1, 1)))

    @paddle.jit.not_to_static  # type: ignore[untyped-decorator]
    def before(self, x: Any) -> Any:
        if self.bake.pixels != "uint8":
            return x
        if not self.nhwc and self.bake.layout == "NHWC":
            x = paddle.transpose(x, [0, 3, 1, 2])
        # In bf16 `x * k + b` loses precision that a difference of numbers up to 255 keeps.
        return (x.astype("float32") - self.mean) / self.std

    def _kept(self, y: Any) -> Any:
        """Without the margin: of 512 pixels and a halo of 64 that leaves 56 % to classify and to copy."""
        cut = self.bake.margin
        if not cut:
            return y
        rows = y.ndim - 2 if self.score_axis == 1 or y.ndim == 3 else 1
        return paddle.slice(y, axes=[rows, rows + 1], starts=[cut, cut], ends=[-cut, -cut])

    @paddle.jit.not_to_static  # type: ignore[untyped-decorator]
    def after(self, y: Any) -> Any:
        if isinstance(y, list | tuple):
            y = y[0]
        y = self._kept(y)
        if self.bake.output == "classes":
            return (y.squeeze(1) if y.ndim == 4 else y).astype("int32")
        shares = y
        if self.bake.output == "sigmoid":
            scores = y.squeeze(self.score_axis)
            won = scores > self.bake.threshold
            ids, share = won.astype("uint8"), won.astype("float32")
            # The winner's probability, in operators that Paddle 3 can still put into a .pdmodel program.
            best = share * scores + (1 - share) * (1 - scores)
        else:
            # uint16 is no dtype of Paddle; a count that the program leaves open may be above 255.
            small = 0 < y.shape[self.score_axis] <= 255
            ids = paddle.argmax(y, axis=self.score_axis, dtype="int32")
            ids = ids.astype("uint8") if small else ids
            if not self.bake.confidence and not self.bake.probabilities:
                return ids
            if self.bake.output == "logits":
                shares = paddle.nn.functional.softmax(y, axis=self.score_axis)
            best = paddle.max(shares, axis=self.score_axis) if self.bake.confidence else None
        outputs = [ids]
        if self.bake.confidence:
            outputs.append(_as_bytes(best))
        if self.bake.probabilities:
            planes = _as_bytes(shares)
            outputs.append(planes if self.score_axis == 1 else paddle.transpose(planes, [0, 3, 1, 2]))
        return tuple(outputs) if len(outputs) > 1 else ids


def _as_bytes(shares: Any) -> Any:
    return (shares * 255.0 + 0.5).astype("uint8")
