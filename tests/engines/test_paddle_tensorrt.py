from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packages import paddle_package, plain
from paddle_fakes import Recorder, inference

from batchseg.engines import paddle_tensorrt


class Inference:
    """The module's surface that building uses, with a predictor that counts."""

    PrecisionType = inference.PrecisionType
    Config = Recorder

    def __init__(self) -> None:
        self.created: list[Recorder] = []

    def get_trt_runtime_version(self) -> tuple[int, int, int]:
        return (10, 3, 0)

    def create_predictor(self, config: Recorder) -> Any:
        self.created.append(config)
        return Predictor(config)


class Predictor:
    """Writes the file of shapes, as Paddle does when shapes are collected; answers with its input."""

    def __init__(self, config: Recorder) -> None:
        if "collect_shape_range_info" in config.names:
            Path(config.arguments("collect_shape_range_info")[0][0]).write_text("shapes")

    def get_input_names(self) -> list[str]:
        return ["x"]

    get_output_names = get_input_names

    def get_input_handle(self, name: str) -> Any:
        return self

    get_output_handle = get_input_handle

    def reshape(self, shape: tuple[int, ...]) -> None: ...

    def run(self) -> None: ...

    def copy_from_cpu(self, batch: Any) -> None:
        self._batch = batch

    def copy_to_cpu(self) -> Any:
        return self._batch


def test_an_engine_serves_all_batches_up_to_the_largest(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(tmp_path))
    fake = Inference()
    monkeypatch.setattr(paddle_tensorrt, "import_paddle", lambda: fake)
    monkeypatch.setattr(paddle_tensorrt, "_device_name", lambda: "NVIDIA X")
    network = plain(paddle_package(models / "conv"), "pdmodel")
    session = paddle_tensorrt.TensorRTSession(network, "fp16")
    for count, built in ((4, 1), (1, 1), (4, 1), (8, 2), (3, 2)):
        session.run(np.zeros((count, 3, 8, 8), dtype=np.float32))
        engines = [config for config in fake.created if "enable_tensorrt_engine" in config.names]
        assert len(engines) == built
    again = paddle_tensorrt.TensorRTSession(network, "fp16")
    again.run(np.zeros((8, 3, 8, 8), dtype=np.float32))
    collections = [config for config in fake.created if "collect_shape_range_info" in config.names]
    assert len(collections) == 2, "shapes of 8 were known from the disk"


def test_an_engine_belongs_to_device_and_version(models: Path) -> None:
    network = plain(paddle_package(models / "conv"))
    known = {"device": "NVIDIA X", "tensorrt": "10.3.0"}
    key = paddle_tensorrt.engine_key(network, "fp16", (8, 3, 8, 8), **known)
    assert key == paddle_tensorrt.engine_key(network, "fp16", (8, 3, 8, 8), **known)
    others = [
        paddle_tensorrt.engine_key(network, "fp32", (8, 3, 8, 8), **known),
        paddle_tensorrt.engine_key(network, "fp16", (4, 3, 8, 8), **known),
        paddle_tensorrt.engine_key(network, "fp16", (8, 3, 8, 8), **known | {"device": "NVIDIA Y"}),
        paddle_tensorrt.engine_key(network, "fp16", (8, 3, 8, 8), **known | {"tensorrt": "10.4.0"}),
    ]
    assert len({key, *others}) == 5
