"""OpenVINO on CPUs."""

import contextlib
import importlib.metadata
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engines.base import Device, Offer, Session, check_batch, readable, telling_line
from batchseg.errors import ModelError
from batchseg.models.package import Format, ModelPackage, Network, Precision
from batchseg.system.machine import has_fast_bf16, has_fast_int8

COMPILED_SHAPES = 8
"""Kept per session: one tile size at a few batch sizes. Each costs the network's weights once more."""

NOT_INSTALLED = "OpenVINO is not installed: `pip install '.[openvino]'` in batchseg's clone"
NO_FAST_INT8 = "this CPU has no fast int8 (VNNI)"
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""INFERENCE_PRECISION_HINT; int8 operators come from a quantised graph, and the rest of it runs in this. What
`engines.graphs.quantize` made runs in bf16 besides, where that is fast: ukis-csmask 2.65 times as fast as in
fp32, and not 2.37; land cover 2.05 and 2.04."""


class OpenVINO:
    """The CPU plugin.

    It could read a .pdmodel by itself, with the same answers; ONNX serves both of Paddle's formats.
    """

    name = "openvino"
    formats: tuple[Format, ...] = ("onnx", "openvino")
    takes_uint8 = True

    def version(self) -> str | None:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version("openvino")
        return None

    def offers(self, package: ModelPackage, device: Device) -> Sequence[Offer]:
        general = None
        if self.version() is None:
            general = NOT_INSTALLED
        elif device == "gpu":
            general = "OpenVINO is used on CPUs: it knows no NVIDIA GPU"
        quantized = "the model arrived quantised: int8 is its only precision" if package.quantized else None
        reasons: dict[Precision, str | None] = {
            "fp32": quantized,
            "bf16": quantized or (None if has_fast_bf16() else "this CPU has no fast bf16"),
            "fp16": "fp16 is for GPUs",
            "int8": None if package.quantized else "the model is not quantised",
        }
        return [
            Offer(engine=self.name, precision=precision, device=device, reason=general or reason)
            for precision, reason in reasons.items()
        ]

    def load(self, network: Network, *, precision: Precision, device: Device, threads: int) -> Session:
        """A session that compiles the network for each shape that comes.

        Raises:
            ModelError: OpenVINO cannot read the network, or not run it with this precision.
        """
        if self.version() is None:
            msg = f"engine: {NOT_INSTALLED}"
            raise ModelError(msg)
        if device == "gpu" or precision not in HINTS or (precision == "bf16" and not has_fast_bf16()):
            msg = f"precision: {precision} on a {device} is not offered by OpenVINO here; use fp32 on a cpu"
            raise ModelError(msg)
        if precision == "int8" and not network.quantized:
            msg = f"precision: int8, but {network.path} is not quantised; use fp32"
            raise ModelError(msg)
        if network.format == "openvino" and network.quantized and not has_fast_int8():
            msg = f"precision: int8: {NO_FAST_INT8}, and rounds otherwise; use machines that have it, or fp32"
            raise ModelError(msg)
        core = import_openvino().Core()
        try:
            with readable(network) as (path, _):
                model = core.read_model(path)
        except ModelError:
            raise
        except Exception as e:  # RuntimeError mostly; its text says what
            msg = f"model: OpenVINO cannot load {network.path}: {telling_line(e)}"
            raise ModelError(msg) from e
        if network.format == "openvino" and network.baked:
            _drop_outputs(model, confidence=network.confidence, probabilities=network.probabilities)
        if network.output_name is not None:
            _keep_output(model, network.output_name)
        return OpenVINOSession(core, model, _options(network, precision, threads), network)


class OpenVINOSession:
    """One network, compiled for the last shapes."""

    def __init__(self, core: Any, model: Any, options: dict[str, Any], network: Network) -> None:
        """Raises ModelError for a network of several inputs."""
        if len(model.inputs) != 1:
            msg = f"model: {network.path} has {len(model.inputs)} inputs; expected one image"
            raise ModelError(msg)
        self._core, self._model, self._options, self._network = core, model, options, network
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def run(self, batch: NDArray[np.generic]) -> list[NDArray[Any]]:
        check_batch(batch, self._network)
        request = self._request(batch.shape)
        request.infer([np.ascontiguousarray(batch)], share_inputs=True)
        # The request's own memory: the next run writes over it.
        return [np.array(tensor.data) for tensor in request.output_tensors]

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape in self._requests:
            self._requests.move_to_end(shape)
            return self._requests[shape]
        self._model.reshape(list(shape))
        compiled = self._core.compile_model(self._model, "CPU", self._options)
        self._requests[shape] = compiled.create_infer_request()
        if len(self._requests) > COMPILED_SHAPES:
            self._requests.popitem(last=False)
        return self._requests[shape]


def _drop_outputs(model: Any, *, confidence: bool, probabilities: bool) -> None:
    """One quantised network serves jobs with confidences and without, blended or not: those pay for what they
    ask for.

    Raises:
        ModelError: it was quantised by an earlier version, which knew no probabilities.
    """
    wanted = (confidence, probabilities)
    others = model.get_results()[1:]
    if probabilities and len(others) < len(wanted):
        msg = "model: this network in int8 gives no probabilities; remove it, and the next run makes another"
        raise ModelError(msg)
    for result, is_wanted in zip(others, wanted, strict=False):
        if not is_wanted:
            model.remove_result(result)


def _keep_output(model: Any, name: str) -> None:
    """Nothing else is computed then."""
    for output, result in zip(model.outputs, model.get_results(), strict=True):
        if name not in output.get_names():
            model.remove_result(result)


def import_openvino() -> Any:
    """The module, without its telemetry: importing it sends an event and writes to the home folder."""
    with without_telemetry():
        import openvino
    return openvino


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """For imports: OpenVINO and NNCF use stubs of their own where the package for it cannot be imported."""
    hidden = "openvino_telemetry"
    absent = hidden not in sys.modules
    if absent:
        sys.modules[hidden] = None  # type: ignore[assignment]  # documented: import raises
    try:
        yield
    finally:
        if absent:
            del sys.modules[hidden]


def _options(network: Network, precision: Precision, threads: int) -> dict[str, Any]:
    options = cpu_options(precision, threads)
    if network.format == "openvino" and network.quantized and has_fast_bf16():
        options["INFERENCE_PRECISION_HINT"] = HINTS["bf16"]
    return options


def cpu_options(precision: Precision, threads: int) -> dict[str, Any]:
    """Of the CPU plugin. Pinned threads of several predictors would share one core."""
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "PERFORMANCE_HINT": "LATENCY",
    }
