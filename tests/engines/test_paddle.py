"""GPU configuration that no machine here can run: each call is held against the real Config's signature."""

from pathlib import Path

import pytest
from packages import paddle_package
from paddle_fakes import Recorder, inference

from batchseg.engines.paddle import (
    configure_collection,
    configure_converted,
    configure_native,
    configure_tensorrt,
)
from batchseg.errors import ModelError


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
