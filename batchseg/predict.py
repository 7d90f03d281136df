"""Paddle Inference: the only module that imports paddle, and only inside functions.

Importing paddle costs 0.7 s and 300 MB; the driver never does. Settings follow measurements with
Paddle 3.2.2: `enable_memory_optim` with a PIR program works only together with the new executor, and
one configuration serves .json and .pdmodel, fp32 and bf16.
"""

import ctypes
import os
import time
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import ModelError
from batchseg.isolate import ProcessDiedError, call_in_fresh_process
from batchseg.package import ModelFacts, ModelPackage

ONEDNN_CACHE = 16
"""Shapes kept compiled: one tile size at up to 8 batch sizes; 0 would be unlimited (2.5 GB seen)."""

PROBE_TIMEOUT = 300.0
"""Seconds; the slowest network measured (DeepLabV3P, 1024 pixels, no oneDNN) takes 11 s a tile."""


class Predictor(Protocol):
    """A network ready to run."""

    def run(self, batch: NDArray[np.float32]) -> NDArray[Any]:
        """First output for a non-empty batch (N, C, H, W)."""
        ...


class PaddlePredictor:
    """One Paddle Inference predictor. Not for concurrent use."""

    def __init__(self, model: ModelPackage, *, precision: str, device: str, threads: int = 1) -> None:
        """Load the network.

        Raises:
            ModelError: Paddle cannot load it, or has no GPU support where one is asked for.
        """
        _keep_freed_memory()
        inference = _import_paddle()
        config = inference.Config(model.network, model.params)
        if device == "gpu":
            _configure_gpu(inference, config)
        else:
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
        try:
            self._predictor = inference.create_predictor(config)
            self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
            self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])
        except Exception as e:  # Paddle raises RuntimeError, ValueError, OSError and bare std::exception
            msg = f"model: Paddle cannot load {model.network}: {paddle_message(e)}"
            raise ModelError(msg) from e

    def run(self, batch: NDArray[np.float32]) -> NDArray[Any]:
        if len(batch) == 0:
            msg = "an empty batch ends Paddle's process (SIGSEGV)"
            raise ValueError(msg)
        self._input.reshape(batch.shape)
        self._input.copy_from_cpu(np.ascontiguousarray(batch))
        self._predictor.run()
        output: NDArray[Any] = self._output.copy_to_cpu()
        return output


def paddle_message(error: BaseException) -> str:
    """The sentence of a Paddle error that says what is wrong, without its C++ stack."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if "Error:" in line or line.startswith("(")]
    return (telling or [line for line in lines if line] or [type(error).__name__])[-1][:300]


def _import_paddle() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing ccache, which only compilers need
        try:
            import paddle.inference as inference
        except ImportError as e:
            msg = (
                f"Paddle cannot be imported ({e}); install the CPU build with `pip install batchseg[cpu]`, "
                f"or the GPU build as README says"
            )
            raise ModelError(msg) from e
    return inference


def _configure_gpu(inference: Any, config: Any) -> None:
    """Not run on a GPU so far: written after Paddle's documentation (DESIGN.md lists it)."""
    config.disable_mkldnn()
    # Ray sets CUDA_VISIBLE_DEVICES per actor, so the device is always number 0. 100 MB first pool.
    config.enable_use_gpu(100, 0, inference.PrecisionType.Float32)
    if not config.use_gpu():
        msg = "device: gpu, but this Paddle is the CPU build; install the GPU build as README says"
        raise ModelError(msg)


def _keep_freed_memory() -> None:
    """Let malloc keep what Paddle's executor frees after every run.

    Without it each run returns its buffers to the system and faults them in again: 1.3 times the time
    per tile. Values: MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD, ARENA_MAX of mallopt(3).
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in ((-3, 2**30), (-1, 2**31 - 1), (-2, 64 << 20), (-8, 1)):
            libc.mallopt(option, ctypes.c_int(value))


def cpu_class() -> str:
    """The instruction set that oneDNN will use here: it decides the last bits of a score."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").lower()
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as f:
            flags = next((line.split(":", 1)[1].split() for line in f if line.startswith("flags")), [])
    except OSError:
        flags = []
    found = next(
        (isa for isa in ("avx512_bf16", "avx512f", "avx2", "avx", "sse4_1") if isa in flags), "other"
    )
    return f"{found}:max={limit}" if limit and limit != "default" else found


def gpu_count() -> int:
    """GPUs that this Paddle can use; 0 for CPU builds. Does not touch a device."""
    _import_paddle()
    import paddle

    return int(paddle.device.cuda.device_count()) if paddle.is_compiled_with_cuda() else 0


def probe(
    model: ModelPackage, *, channels: int | None, tile_size: int, precision: str, device: str
) -> tuple[ModelFacts, str]:
    """Run one tile of noise in a process of its own, so that a network that crashes ends only that.

    Args:
        model: the files.
        channels: number of bands that the job feeds; None: what the model says.
        tile_size: pixels per side.
        precision: fp32 or bf16.
        device: auto, cpu or gpu.

    Returns:
        What the tile showed, and the device: cpu or gpu.

    Raises:
        ModelError: the model cannot be loaded, crashes, or is no segmentation network.
    """
    try:
        return call_in_fresh_process(
            _probe, model, channels, tile_size, precision, device, timeout=PROBE_TIMEOUT
        )
    except ProcessDiedError as e:
        msg = (
            f"model: the process that tried one tile of {model.network} {e}; its weights "
            f"({model.params}) may be those of another network"
        )
        raise ModelError(msg) from e


def _probe(
    model: ModelPackage, channels: int | None, tile_size: int, precision: str, device: str
) -> tuple[ModelFacts, str]:
    _silence_stdout()
    if device == "auto":
        device = "gpu" if gpu_count() else "cpu"
    if precision == "bf16" and device == "cpu":
        _check_bf16()
    wanted = _declared_channels(model) or model.bands
    channels = channels or wanted or 3
    if wanted and wanted != channels:
        msg = f"model: {model.network} takes {wanted} channels, the job's `bands` names {channels}"
        raise ModelError(msg)
    predictor = PaddlePredictor(model, precision=precision, device=device)
    noise = np.random.default_rng(0).random((1, channels, tile_size, tile_size), dtype=np.float32)
    try:
        output = predictor.run(noise)
        started = time.perf_counter()
        predictor.run(noise)
        seconds = time.perf_counter() - started
    except Exception as e:  # Paddle's own classes, see PaddlePredictor
        msg = (
            f"model: {model.network} fails on one tile of {channels} bands and {tile_size} pixels: "
            f"{paddle_message(e)}; check `bands`, `tile_size` and `precision`"
        )
        raise ModelError(msg) from e
    kind, count = _output_kind(output, tile_size, model)
    import paddle

    facts = ModelFacts(
        output=kind,
        class_count=count,
        channels=channels,
        cpu_class=cpu_class() if device == "cpu" else str(paddle.device.cuda.get_device_name(0)),
        engine=f"paddle {paddle.__version__}",
        seconds_per_tile=seconds,
    )
    return facts, device


def _silence_stdout() -> None:
    """Paddle prints pass names to file descriptor 1."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _check_bf16() -> None:
    import paddle

    if not paddle.base.core.supports_bfloat16_fast_performance():
        msg = "precision: bf16, but this CPU has no fast bf16 (avx512_bf16 or amx); use precision: fp32"
        raise ModelError(msg)


def _declared_channels(model: ModelPackage) -> int | None:
    """Channels in the network's own input; handles of Paddle Inference do not know them before a run."""
    if not model.network.endswith(".json"):
        return None
    import paddle

    try:
        program = paddle.jit.load(model.network.removesuffix(".json")).program()
        shapes = [op.result(0).shape for op in program.global_block().ops if op.name() == "pd_op.data"]
    except Exception:  # noqa: BLE001  converted programs fail here and still run; the tile decides
        return None
    return int(shapes[0][1]) if len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] > 0 else None


def _output_kind(output: NDArray[Any], tile_size: int, model: ModelPackage) -> tuple[Any, int | None]:
    shape, size = output.shape, (tile_size, tile_size)
    if output.dtype.kind in "iu" and shape in ((1, *size), (1, 1, *size)):
        return "classes", None
    if output.dtype.kind == "f" and len(shape) == 4 and shape[2:] == size:
        within = bool(np.all((output >= 0) & (output <= 1)))
        if shape[1] == 1:
            if within:
                return "sigmoid", 2
            msg = f"model: {model.network} gives one band of scores outside 0..1; export it with its sigmoid"
            raise ModelError(msg)
        sums_to_one = bool(np.allclose(output.sum(axis=1), 1, atol=1e-2))
        return ("probabilities" if within and sums_to_one else "logits"), int(shape[1])
    msg = (
        f"model: {model.network} answers a tile of {tile_size} x {tile_size} with {output.dtype} of shape "
        f"{list(shape)}; expected class ids [1, H, W] or scores [1, K, H, W] of the tile's own size"
    )
    raise ModelError(msg)
