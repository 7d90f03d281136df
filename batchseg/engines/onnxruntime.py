"""ONNX Runtime: its CPU, CUDA and TensorRT providers.

The GPU providers were not run on a GPU so far: their options follow ONNX Runtime's documentation.
"""

import contextlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from batchseg.engines.base import Device, Offer, Session, check_batch, readable, telling_line
from batchseg.engines.graphs.bake_onnx import to_float16
from batchseg.engines.graphs.cache import engine_folder
from batchseg.errors import ModelError
from batchseg.models.package import Format, ModelPackage, Network, Precision

Provider = Literal["CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"]

NOT_INSTALLED = "ONNX Runtime is not installed: `pip install '.[onnx]'` in batchseg's clone"
NOT_QUANTIZED = "the model is not quantised"
QUANTIZED = "the model arrived quantised: it runs as int8 here"
NO_PROVIDER = (
    "this ONNX Runtime has no {provider}; `pip uninstall onnxruntime`, then `pip install '.[onnx-gpu]'` in "
    "batchseg's clone"
)


class OnnxRuntime:
    """The CPU provider on a CPU, the CUDA provider on a GPU."""

    name = "onnxruntime"
    formats: tuple[Format, ...] = ("onnx",)
    takes_uint8 = True

    def version(self) -> str | None:
        return onnxruntime_version()

    def offers(self, package: ModelPackage, device: Device) -> Sequence[Offer]:
        provider: Provider = "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"
        reasons: dict[Precision, str | None] = {
            "fp32": QUANTIZED if package.quantized and device == "gpu" else None,
            "bf16": "ONNX Runtime has no bf16 convolutions",
            "fp16": "fp16 is for GPUs" if device == "cpu" else QUANTIZED if package.quantized else None,
            "int8": None if package.quantized else NOT_QUANTIZED,
        }
        return _offers(self.name, device, _missing(provider), reasons)

    def load(self, network: Network, *, precision: Precision, device: Device, threads: int) -> Session:
        """A session.

        Raises:
            ModelError: ONNX Runtime cannot load the network, or would run it elsewhere than on `device`.
        """
        _check_precision(network, precision, device)
        if device == "cpu":
            # The graph as it is written computes what was quantised in fp32: the reference of int8.
            simulated = network.quantized and precision == "fp32"
            return _session(network, "CPUExecutionProvider", {}, threads=threads, simulated=simulated)
        half = precision == "fp16"
        return _session(network, "CUDAExecutionProvider", cuda_options(), threads=threads, half=half)


class OnnxRuntimeTensorRT:
    """TensorRT inside ONNX Runtime; what TensorRT does not know stays with CUDA."""

    name = "onnxruntime-tensorrt"
    formats: tuple[Format, ...] = ("onnx",)
    takes_uint8 = True

    def version(self) -> str | None:
        return onnxruntime_version()

    def offers(self, package: ModelPackage, device: Device) -> Sequence[Offer]:
        missing = "TensorRT needs a GPU" if device == "cpu" else _missing("TensorrtExecutionProvider")
        reasons: dict[Precision, str | None] = {
            "fp32": QUANTIZED if package.quantized else None,
            "bf16": "bf16 is offered on CPUs",
            "fp16": QUANTIZED if package.quantized else None,
            "int8": None if package.quantized else NOT_QUANTIZED,
        }
        return _offers(self.name, device, missing, reasons)

    def load(self, network: Network, *, precision: Precision, device: Device, threads: int) -> Session:
        """A session; engines are built at the first batch of a shape, and kept on the disk.

        Raises:
            ModelError: as `OnnxRuntime.load`.
        """
        if device == "cpu":
            msg = "engine: onnxruntime-tensorrt needs device: gpu"
            raise ModelError(msg)
        _check_precision(network, precision, device)
        options = tensorrt_options(precision, engine_folder("tensorrt"))
        return _session(network, "TensorrtExecutionProvider", options, threads=threads)


class OnnxSession:
    """One session. Its input and outputs are numpy arrays on the host."""

    def __init__(self, session: Any, network: Network) -> None:
        """Raises ModelError for a network of several inputs."""
        inputs = session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(given.name for given in inputs)
            msg = f"model: {network.path} has the inputs {names}; expected one image"
            raise ModelError(msg)
        self._session, self._network, self._input = session, network, inputs[0].name

    def run(self, batch: NDArray[np.generic]) -> list[NDArray[Any]]:
        check_batch(batch, self._network)
        asked = None if self._network.output_name is None else [self._network.output_name]
        answers: list[NDArray[Any]] = self._session.run(asked, {self._input: np.ascontiguousarray(batch)})
        return answers


def plain_session(model: bytes) -> Any:
    """An onnxruntime.InferenceSession on the CPU that computes the graph as it is written, nothing fused."""
    import onnxruntime

    return onnxruntime.InferenceSession(
        model, session_options(1, simulated=True), providers=["CPUExecutionProvider"]
    )


def onnxruntime_version() -> str | None:
    """Of the CPU or the GPU wheel, without importing it."""
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def cuda_options() -> dict[str, str]:
    """Of the CUDA provider: exact fp32, and the same kernels in every process.

    TF32 rounds fp32 factors to 10 bits; the exhaustive search of convolution kernels picks by time and so
    changes the last bits from one process to the next.
    """
    return {
        "device_id": "0",  # Ray sets CUDA_VISIBLE_DEVICES per actor
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        "arena_extend_strategy": "kSameAsRequested",
    }


def tensorrt_options(precision: Precision, engines: Path) -> dict[str, str]:
    """Of the TensorRT provider; engines and timings are kept in a folder.

    ONNX Runtime names an engine's file by graph, device and TensorRT version.
    """
    return {
        "device_id": "0",
        "trt_fp16_enable": str(int(precision == "fp16")),
        "trt_int8_enable": str(int(precision == "int8")),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(engines),
    }


def session_options(threads: int, *, simulated: bool = False) -> Any:
    """One thread pool that sleeps when idle: spinning takes the cores of a machine's other predictors.

    Args:
        threads: of the pool.
        simulated: nothing is fused, so that what was quantised is rounded and then computed in fp32.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if simulated else levels.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    return options


def _session(
    network: Network,
    provider: Provider,
    options: Mapping[str, str],
    *,
    threads: int,
    half: bool = False,
    simulated: bool = False,
) -> OnnxSession:
    if (missing := _missing(provider)) is not None:
        msg = f"engine: {missing}"
        raise ModelError(msg)
    import onnxruntime

    # TensorRT leaves operators that it does not know to CUDA; none goes to the CPU unseen but shapes.
    chosen: list[Any] = [(provider, dict(options))]
    if provider == "TensorrtExecutionProvider":
        chosen.append(("CUDAExecutionProvider", cuda_options()))
    try:
        with readable(network) as (path, _):
            session = onnxruntime.InferenceSession(
                to_float16(path) if half else path,
                session_options(threads, simulated=simulated),
                providers=chosen,
            )
    except ModelError:
        raise
    except Exception as e:  # ONNX Runtime's classes derive from Exception only
        msg = f"model: ONNX Runtime cannot load {network.path}: {telling_line(e)}"
        raise ModelError(msg) from e
    # Left alone it falls back to the CPU, with no more than a warning.
    session.disable_fallback()
    used = session.get_providers()[0]
    if used != provider:
        msg = (
            f"engine: ONNX Runtime would run on {used}: {provider} did not start; look at its CUDA libraries"
        )
        raise ModelError(msg)
    return OnnxSession(session, network)


def _missing(provider: Provider) -> str | None:
    """Why the provider cannot be tried here."""
    if onnxruntime_version() is None:
        return NOT_INSTALLED
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        return NO_PROVIDER.format(provider=provider)
    return None


def _check_precision(network: Network, precision: Precision, device: Device) -> None:
    if precision == "bf16" or (precision == "fp16" and device == "cpu"):
        msg = f"precision: {precision} is not offered by ONNX Runtime on a {device}; use fp32"
    elif precision == "int8" and not network.quantized:
        msg = f"precision: int8, but {network.path} is not quantised; use fp32"
    else:
        return
    raise ModelError(msg)


def _offers(
    engine: str, device: Device, general: str | None, reasons: Mapping[Precision, str | None]
) -> list[Offer]:
    return [
        Offer(engine=engine, precision=precision, device=device, reason=general or reason)
        for precision, reason in reasons.items()
    ]
