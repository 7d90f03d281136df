"""A network whose scores are divided by a temperature, as a Paddle layer.

A module of its own because Paddle reads a layer's source from its file when it traces it. Importing it
imports paddle: only `temperature` does, in a process of its own.
"""

from typing import Any

import paddle

from batchseg.models.package import OutputKind


class Tempered(paddle.nn.Layer):  # type: ignore[misc]  # paddle has no types
    """Scores of the same kind and shape as the network's own."""

    def __init__(self, net: Any, temperature: float, kind: OutputKind, axis: int, tiny: float) -> None:
        super().__init__()
        self.net, self.temperature, self.kind, self.axis, self.tiny = net, temperature, kind, axis, tiny

    def forward(self, x: Any) -> Any:
        return self.tempered(self.net(x))

    @paddle.jit.not_to_static  # type: ignore[untyped-decorator]
    def tempered(self, y: Any) -> Any:
        if isinstance(y, list | tuple):
            y = y[0]
        if self.kind == "logits":
            return y / self.temperature
        y = paddle.clip(y, self.tiny, 1 - self.tiny)
        if self.kind == "sigmoid":
            return paddle.nn.functional.sigmoid((paddle.log(y) - paddle.log(1 - y)) / self.temperature)
        return paddle.nn.functional.softmax(paddle.log(y) / self.temperature, axis=self.axis)
