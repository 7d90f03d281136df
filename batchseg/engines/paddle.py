"""Paddle Inference, the reference engine.

Importing paddle costs 0.7 s and 300 MB; the driver never does. Settings follow measurements with
Paddle 3.2.2: `enable_memory_optim` with a PIR program works only together with the new executor, and
one configuration serves .json and .pdmodel, fp32 and bf16.
"""

import contextlib
import importlib.metadata
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engines.base import Device, Offer, Session, check_batch, readable, telling_line
from batchseg.errors import ModelError
from batchseg.models.package import Format, ModelPackage, Network, Precision
from batchseg.system.machine import has_fast_bf16, keep_freed_memory

ONEDNN_CACHE = 16
"""Shapes kept compiled: one tile size at up to 8 batch sizes; 0 would be unlimited (2.5 GB seen)."""

NO_BF16 = "this CPU has no fast bf16 (avx512_bf16 or amx_bf16)"
NO_INT8 = "int8 of Paddle changes a third of the pixels on CPUs (measured)"
NO_FP16_CPU = "fp16 is for GPUs"
CPU_BUILD = "this Paddle is the CPU build; install the GPU build as docs/engines.md says"


class Paddle:
    """oneDNN on a CPU, Paddle's own kernels on a GPU."""

    name = "paddle"
    formats: tuple[Format, ...] = ("pir", "pdmodel")
    takes_uint8 = True

    def version(self) -> str | None:
        return paddle_version()

    def offers(self, package: ModelPackage, device: Device) -> Sequence[Offer]:
        general = None
        if self.version() is None:
            general = "Paddle is not installed"
        elif package.format == "onnx":
            general = "Paddle does not run ONNX files"
        elif device == "gpu":
            general = _no_gpu()
        reasons: dict[Precision, str | None] = {
            "fp32": None,
            "bf16": (None if has_fast_bf16() else NO_BF16) if device == "cpu" else "bf16 is offered on CPUs",
            "fp16": NO_FP16_CPU if device == "cpu" else None,
            "int8": NO_INT8 if device == "cpu" else "int8 on a GPU needs TensorRT and its calibration",
        }
        return [
            Offer(engine=self.name, precision=precision, device=device, reason=general or reason)
            for precision, reason in reasons.items()
        ]

    def load(self, network: Network, *, precision: Precision, device: Device, threads: int) -> Session:
        """A predictor.

        Raises:
            ModelError: Paddle cannot load the network, or not with this precision on this device.
        """
        keep_freed_memory()
        inference = import_paddle()
        if network.format not in self.formats:
            msg = f"model: Paddle does not run {network.path}"
            raise ModelError(msg)
        with readable(network) as (program, params):
            config = inference.Config(program, params or "")
            if device == "gpu":
                if precision not in ("fp32", "fp16"):
                    msg = f"precision: {precision} is not for Paddle on a GPU; use fp32 or fp16"
                    raise ModelError(msg)
                configure_native(inference, config, precision)
            else:
                configure_cpu(config, precision, threads)
            return PaddleSession(create_predictor(inference, config, network), network)


class PaddleSession:
    """One predictor. Not for concurrent use: two runs at once raise in Paddle."""

    def __init__(self, predictor: Any, network: Network) -> None:
        """Raises ModelError for a network of several inputs."""
        names = predictor.get_input_names()
        if len(names) != 1:
            msg = f"model: {network.path} has the inputs {', '.join(names)}; expected one image"
            raise ModelError(msg)
        self._network, self._predictor = network, predictor
        self._input = predictor.get_input_handle(names[0])
        self._outputs = [predictor.get_output_handle(name) for name in predictor.get_output_names()]

    def run(self, batch: NDArray[np.generic]) -> list[NDArray[Any]]:
        check_batch(batch, self._network)
        self._input.reshape(batch.shape)
        self._input.copy_from_cpu(np.ascontiguousarray(batch))
        self._predictor.run()
        return [output.copy_to_cpu() for output in self._outputs]


def configure_cpu(config: Any, precision: str, threads: int) -> None:
    """Raises ModelError for a precision that is no gain on a CPU."""
    if precision == "int8":
        msg = f"precision: int8: {NO_INT8}; use bf16 or fp32"
        raise ModelError(msg)
    if precision == "fp16":
        msg = f"precision: fp16: {NO_FP16_CPU}; use bf16 or fp32"
        raise ModelError(msg)
    if precision == "bf16" and not _has_bf16():
        msg = f"precision: bf16, but {NO_BF16}; use precision: fp32"
        raise ModelError(msg)
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(threads)
    config.enable_onednn()
    config.set_onednn_cache_capacity(ONEDNN_CACHE)
    if precision == "bf16":
        config.enable_onednn_bfloat16()
    config.enable_new_ir(True)
    config.enable_new_executor()
    config.enable_memory_optim()
    config.disable_glog_info()


def create_predictor(inference: Any, config: Any, network: Network) -> Any:
    """Raises ModelError, saying what Paddle said."""
    try:
        return inference.create_predictor(config)
    except Exception as e:  # Paddle raises RuntimeError, ValueError, OSError and bare std::exception
        msg = f"model: Paddle cannot load {network.path}: {telling_line(e)}"
        raise ModelError(msg) from e


def import_paddle() -> Any:
    """The module paddle.inference. Raises ModelError where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing ccache, which only compilers need
        try:
            import paddle.inference as inference
        except ImportError as e:
            msg = (
                f"Paddle cannot be imported ({e}); install the CPU build with `pip install '.[cpu]'` in "
                f"batchseg's clone, or the GPU build as docs/engines.md says"
            )
            raise ModelError(msg) from e
    return inference


def paddle_version() -> str | None:
    """Of the CPU or the GPU wheel, without importing it."""
    for name in ("paddlepaddle", "paddlepaddle-gpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def gpu_count() -> int:
    """GPUs that this Paddle can use; 0 for CPU builds. Does not touch a device."""
    import_paddle()
    import paddle

    return int(paddle.device.cuda.device_count()) if paddle.is_compiled_with_cuda() else 0


def gpu_name() -> str:
    """Of the first device that this process sees."""
    import paddle

    return str(paddle.device.cuda.get_device_name(0))


def _no_gpu() -> str | None:
    """Why Paddle cannot use a GPU here; None: it can be tried."""
    import_paddle()
    import paddle

    # The CPU build takes `enable_use_gpu` without a word, and computes on the CPU.
    if not paddle.is_compiled_with_cuda():
        return CPU_BUILD
    return None if gpu_count() else "Paddle sees no GPU on this machine"


def _has_bf16() -> bool:
    import paddle

    return has_fast_bf16() and bool(paddle.base.core.supports_bfloat16_fast_performance())


# What follows has not run on a GPU: it is written after Paddle 3.2's documentation and source. Tests record
# the calls and hold them against the signatures of the real `paddle.inference.Config`.

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
