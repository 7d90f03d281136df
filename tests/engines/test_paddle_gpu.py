"""GPU configuration that no machine here can run: each call is held against the real Config's signature."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packages import paddle_package, plain

from batchseg.engines import paddle_tensorrt
from batchseg.engines.paddle import (
    configure_collection,
    configure_converted,
    configure_native,
    configure_tensorrt,
    import_paddle,
)
from batchseg.errors import ModelError

inference = import_paddle()


class Recorder:
    """Takes the calls of a Config, and fails for one that the real Config does not have so."""

    def __init__(self, *files: str) -> None:
        self.files = files
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        signature = str(getattr(inference.Config, name).__doc__).splitlines()[0]

        def call(*arguments: Any, **keywords: Any) -> bool:
            names, required = parameters(signature)
            assert len(arguments) + len(keywords) <= len(names), signature
            assert set(keywords) <= set(names[len(arguments) :]), signature
            assert set(required) <= {*names[: len(arguments)], *keywords}, signature
            self.calls.append((name, arguments, keywords))
            return True

        return call

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.calls]

    def arguments(self, name: str) -> Any:
        (found,) = [(given, keywords) for called, given, keywords in self.calls if called == name]
        return found


def parameters(signature: str) -> tuple[list[str], list[str]]:
    """All and the required ones of a pybind docstring, without self.

    >>> parameters("f(self: a.Config, arg0: str, x: dict[str, int] = {}) -> None")
    (['arg0', 'x'], ['arg0'])
    """
    inside = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    found = re.findall(r"(?:^|, )(\w+): ((?:[^,\[]|\[[^\]]*\])+)", inside)[1:]
    return [name for name, _ in found], [name for name, rest in found if " = " not in rest]


def test_the_recorder_tells_wrong_calls() -> None:
    recorder = Recorder()
    with pytest.raises(AttributeError):
        recorder.enable_warp_drive()
    for arguments in ((), (100, 0, 1, 2)):
        with pytest.raises(AssertionError):
            recorder.enable_use_gpu(*arguments)
    with pytest.raises(AssertionError):
        recorder.enable_tensorrt_engine(workspace=1)


@pytest.mark.parametrize(("precision", "kind"), [("fp32", "Float32"), ("fp16", "Half")])
def test_native_kernels(precision: str, kind: str) -> None:
    config = Recorder()
    configure_native(inference, config, precision)
    assert config.arguments("enable_use_gpu")[0] == (100, 0, getattr(inference.PrecisionType, kind))
    assert config.names.index("enable_use_gpu") < config.names.index("use_gpu")
    assert {"enable_new_ir", "enable_new_executor", "enable_memory_optim"} <= set(config.names)
    assert config.arguments("exp_disable_mixed_precision_ops")[0] == ({"feed", "fetch"},)
    assert "enable_onednn" not in config.names


def test_tensorrt_for_a_pdmodel_keeps_to_the_old_representation() -> None:
    collection, config = Recorder(), Recorder()
    configure_collection(inference, collection, "shapes.pbtxt")
    assert collection.arguments("collect_shape_range_info")[0] == ("shapes.pbtxt",)
    configure_tensorrt(inference, config, "fp16", max_batch=8, ranges="shapes.pbtxt", engines="cache")
    _, keywords = config.arguments("enable_tensorrt_engine")
    assert (keywords["precision_mode"], keywords["max_batch_size"]) == (inference.PrecisionType.Half, 8)
    assert (keywords["use_static"], keywords["use_calib_mode"]) == (True, False)
    assert config.arguments("enable_tuned_tensorrt_dynamic_shape")[0] == ("shapes.pbtxt", True)
    assert config.arguments("set_optim_cache_dir")[0] == ("cache",)
    assert not {"enable_new_ir", "enable_new_executor"} & {*config.names, *collection.names}
    converted = Recorder()
    configure_converted(inference, converted)
    assert {"enable_new_ir", "enable_new_executor"} <= set(converted.names)


def test_a_cpu_build_is_refused_by_the_real_config(models: Path) -> None:
    package = paddle_package(models / "conv")
    config = inference.Config(package.network, package.params)
    with pytest.raises(ModelError, match="CPU build"):
        configure_native(inference, config, "fp32")
    assert not config.use_gpu()


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
