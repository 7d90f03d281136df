"""TensorRT for Paddle networks: inside Paddle Inference for a .pdmodel, by conversion for a .json.

Not run on a GPU so far; see `paddle`.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engines.base import Device, Offer, Session, check_batch, readable, telling_line
from batchseg.engines.graphs.cache import cache_key, cached_folder, engine_folder
from batchseg.engines.paddle import (
    CPU_BUILD,
    WORKSPACE_BYTES,
    PaddleSession,
    configure_collection,
    configure_converted,
    configure_tensorrt,
    create_predictor,
    gpu_count,
    import_paddle,
    paddle_version,
)
from batchseg.errors import ModelError
from batchseg.models.package import Format, ModelPackage, Network, Precision


class PaddleTensorRT:
    """Engines are built for the shapes that come, and kept per device and TensorRT version."""

    name = "paddle-tensorrt"
    formats: tuple[Format, ...] = ("pdmodel", "pir")
    takes_uint8 = False
    """The conversion of .json programs documents float inputs only."""

    def version(self) -> str | None:
        return paddle_version()

    def offers(self, package: ModelPackage, device: Device) -> Sequence[Offer]:
        general = None
        if device == "cpu":
            general = "TensorRT needs a GPU"
        elif package.format == "onnx":
            general = "Paddle does not run ONNX files"
        elif package.encrypted:
            general = "engines of an encrypted model would be kept on disk"
        else:
            general = why_not(package.format)
        reasons: dict[Precision, str | None] = {
            "fp32": None,
            "bf16": "bf16 is offered on CPUs",
            "fp16": None,
            "int8": "int8 needs TensorRT's calibration, which batchseg does not do",
        }
        return [
            Offer(engine=self.name, precision=precision, device=device, reason=general or reason)
            for precision, reason in reasons.items()
        ]

    def load(self, network: Network, *, precision: Precision, device: Device, threads: int) -> Session:
        """A session that builds its engine at the first batch.

        Raises:
            ModelError: there is no GPU or no TensorRT, or the network or precision is none for it.
        """
        if device == "cpu" or precision not in ("fp32", "fp16"):
            msg = f"engine: paddle-tensorrt runs fp32 and fp16 on a gpu, not {precision} on a {device}"
            raise ModelError(msg)
        reason = why_not(network.format)
        if reason is None and network.dtype != "float32":
            reason = f"it takes float32 pixels, {network.path} takes {network.dtype}"
        if reason is None and network.encrypted:
            reason = "engines of an encrypted model would be kept on disk"
        if reason is not None:
            msg = f"engine: paddle-tensorrt: {reason}"
            raise ModelError(msg)
        return TensorRTSession(network, precision)


class TensorRTSession:
    """A predictor whose engine serves batches from 1 up to the largest seen, of one tile size."""

    def __init__(self, network: Network, precision: Precision) -> None:
        self._network, self._precision = network, precision
        self._built: tuple[int, ...] | None = None
        self._session: PaddleSession | None = None

    def run(self, batch: NDArray[np.generic]) -> list[NDArray[Any]]:
        check_batch(batch, self._network)
        built = self._built
        if self._session is None or built is None or len(batch) > built[0] or batch.shape[1:] != built[1:]:
            self._session = build(import_paddle(), self._network, self._precision, batch.shape)
            self._built = batch.shape
        return self._session.run(batch)


def why_not(format_: Format) -> str | None:
    """Why TensorRT cannot be tried on this machine; None: it can."""
    if paddle_version() is None:
        return "Paddle is not installed"
    inference = import_paddle()
    import paddle

    if not paddle.is_compiled_with_cuda():
        return CPU_BUILD
    if not gpu_count():
        return "Paddle sees no GPU on this machine"
    if format_ == "pir" and importlib.util.find_spec("paddle.tensorrt") is None:
        return "this Paddle has no paddle.tensorrt, which .json programs need"
    if not any(inference.get_trt_compile_version()):
        return "this Paddle is built without TensorRT"
    return None


def build(inference: Any, network: Network, precision: Precision, shape: tuple[int, ...]) -> PaddleSession:
    """A predictor for batches of 1 to shape[0]; its engine comes from the cache where it is there.

    Raises:
        ModelError: Paddle or TensorRT refuses.
    """
    key = engine_key(network, precision, shape, device=_device_name(), tensorrt=_tensorrt_version(inference))
    if network.format == "pir":
        folder = cached_folder(key, lambda making: convert(network, precision, shape, making / "model"))
        config = inference.Config(str(folder / "model.json"), str(folder / "model.pdiparams"))
        configure_converted(inference, config)
    else:
        folder = cached_folder(
            key, lambda making: collect(inference, network, shape, making / "shapes.pbtxt")
        )
        engines = engine_folder(f"{key}-engines")  # Paddle writes here when it builds
        config = inference.Config(network.path, network.params or "")
        ranges = str(folder / "shapes.pbtxt")
        configure_tensorrt(
            inference, config, precision, max_batch=shape[0], ranges=ranges, engines=str(engines)
        )
    return PaddleSession(create_predictor(inference, config, network), network)


def engine_key(
    network: Network, precision: Precision, shape: tuple[int, ...], *, device: str, tensorrt: str
) -> str:
    """An engine belongs to its weights, precision, shapes, kind of GPU and TensorRT version."""
    content = []
    for path in (network.path, network.params or ""):
        with Path(path).open("rb") as f:
            content.append(hashlib.file_digest(f, "sha256").hexdigest())
    return cache_key(
        {
            "what": "tensorrt",
            "network": content,
            "precision": precision,
            "shape": shape,
            "device": device,
            "tensorrt": tensorrt,
            "paddle": paddle_version(),
        }
    )


def collect(inference: Any, network: Network, shape: tuple[int, ...], ranges: Path) -> None:
    """Run the smallest and the largest batch, so that Paddle notes the shapes of all tensors."""
    with readable(network) as (program, params):
        config = inference.Config(program, params or "")
        configure_collection(inference, config, str(ranges))
        session = PaddleSession(create_predictor(inference, config, network), network)
        for count in sorted({1, shape[0]}):
            session.run(np.zeros((count, *shape[1:]), dtype=network.dtype))
        del session  # the file is written when the predictor ends


def convert(network: Network, precision: Precision, shape: tuple[int, ...], target: Path) -> None:
    """A .json program with TensorRT engines in it, by `paddle.tensorrt`."""
    from paddle.tensorrt.export import Input, PrecisionMode, TensorRTConfig
    from paddle.tensorrt.export import convert as convert_program

    smallest = (1, *shape[1:])
    image = Input(
        min_input_shape=smallest, optim_input_shape=shape, max_input_shape=shape, input_data_type="float32"
    )
    config = TensorRTConfig(
        inputs=[image],
        precision_mode=PrecisionMode.FP16 if precision == "fp16" else PrecisionMode.FP32,
        workspace_size=WORKSPACE_BYTES,
        save_model_dir=str(target),
    )
    try:
        convert_program(str(Path(network.path).with_suffix("")), config)
    except Exception as e:
        msg = f"model: TensorRT cannot convert {network.path}: {telling_line(e)}"
        raise ModelError(msg) from e


def _device_name() -> str:
    import paddle

    return str(paddle.device.cuda.get_device_name(0))


def _tensorrt_version(inference: Any) -> str:
    return ".".join(str(number) for number in inference.get_trt_runtime_version())
