"""Configuration of Paddle Inference for a GPU: native, and TensorRT inside Paddle.

Not run on a GPU so far: written after Paddle 3.2's documentation and source. Tests record the calls and
hold them against the signatures of the real `paddle.inference.Config`.
"""

from typing import Any

from batchseg.errors import ModelError

FIRST_POOL_MB = 100
WORKSPACE_BYTES = 1 << 30
MIN_SUBGRAPH = 3
"""Operators; smaller groups stay with Paddle. TensorRT's gain would not pay for the change of library."""


def configure_native(inference: Any, config: Any, precision: str) -> None:
    """Paddle's own GPU kernels, fp32 or fp16; raises ModelError on a CPU build.

    As PaddleX 3.7 does it. A CPU build takes the call without a word and runs on the CPU, so the
    configuration is asked afterwards.
    """
    config.exp_disable_mixed_precision_ops({"feed", "fetch"})
    config.disable_mkldnn()
    _use_gpu(inference, config, precision)
    config.enable_new_ir(True)
    config.enable_new_executor()
    config.set_optimization_level(3)
    config.enable_memory_optim()
    config.disable_glog_info()


def configure_collection(inference: Any, config: Any, ranges: str) -> None:
    """A run that writes the shapes of all tensors of a .pdmodel to the file `ranges`."""
    config.disable_mkldnn()
    _use_gpu(inference, config, "fp32")
    config.collect_shape_range_info(ranges)
    config.disable_glog_info()


def configure_tensorrt(
    inference: Any, config: Any, precision: str, *, max_batch: int, ranges: str, engines: str
) -> None:
    """TensorRT for a .pdmodel, whose shapes were collected; it needs the old program representation.

    Args:
        inference: the module.
        config: to be filled.
        precision: fp32 or fp16.
        max_batch: largest batch that will come.
        ranges: file that `configure_collection` let Paddle write.
        engines: folder in which built engines are kept.
    """
    config.disable_mkldnn()
    _use_gpu(inference, config, "fp32")
    config.enable_tensorrt_engine(
        workspace_size=WORKSPACE_BYTES,
        max_batch_size=max_batch,
        min_subgraph_size=MIN_SUBGRAPH,
        precision_mode=_paddle_precision(inference, precision),
        use_static=True,
        use_calib_mode=False,
    )
    config.enable_tuned_tensorrt_dynamic_shape(ranges, True)
    config.set_optim_cache_dir(engines)
    config.enable_memory_optim()
    config.disable_glog_info()


def configure_converted(inference: Any, config: Any) -> None:
    """A program that `paddle.tensorrt` converted: its engines fix the precision."""
    config.disable_mkldnn()
    _use_gpu(inference, config, "fp32")
    config.enable_new_ir(True)
    config.enable_new_executor()
    config.enable_memory_optim()
    config.disable_glog_info()


def _use_gpu(inference: Any, config: Any, precision: str) -> None:
    # Ray sets CUDA_VISIBLE_DEVICES per actor, so the device is always number 0.
    config.enable_use_gpu(FIRST_POOL_MB, 0, _paddle_precision(inference, precision))
    if not config.use_gpu():
        msg = "device: gpu, but this Paddle is the CPU build; install the GPU build as docs/engines.md says"
        raise ModelError(msg)


def _paddle_precision(inference: Any, precision: str) -> Any:
    return inference.PrecisionType.Half if precision == "fp16" else inference.PrecisionType.Float32
