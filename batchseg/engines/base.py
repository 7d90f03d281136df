"""What runs a network. One module per engine; each imports its library inside functions only."""

import contextlib
import importlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import ModelError
from batchseg.models.encryption import decrypted_files
from batchseg.models.keys import load_key
from batchseg.models.package import Format, ModelPackage, Network, Precision

Device = Literal["cpu", "gpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One way of an engine to run a model on this machine, or why it cannot."""

    engine: str
    precision: Precision
    device: Device
    reason: str | None = None
    """Why not, in words; None: it can be tried."""


class Session(Protocol):
    """A loaded network. Not for concurrent use."""

    def run(self, batch: NDArray[np.generic]) -> list[NDArray[Any]]:
        """All outputs for a non-empty batch in the network's layout and dtype, C-contiguous.

        Raises:
            ValueError: the batch is empty, or has not the network's rank, dtype or bands.
            Exception: whatever the library raises; `is_out_of_memory` knows one kind.
        """
        ...


class Engine(Protocol):
    """A library that runs networks."""

    name: str
    formats: tuple[Format, ...]
    """That it loads, preferred first; a network of another format is converted to the first before."""
    takes_uint8: bool
    """Whether cast and normalisation may be in its graph."""

    def version(self) -> str | None:
        """None: the library is not installed."""
        ...

    def offers(self, package: ModelPackage, device: Device) -> Sequence[Offer]:
        """Every precision it knows for this model, with the reason where it cannot."""
        ...

    def load(self, network: Network, *, precision: Precision, device: Device, threads: int) -> Session:
        """Raises ModelError, saying what the library said."""
        ...


ENGINES = {
    "paddle": "batchseg.engines.paddle:Paddle",
    "paddle-tensorrt": "batchseg.engines.paddle_tensorrt:PaddleTensorRT",
    "onnxruntime": "batchseg.engines.onnxruntime:OnnxRuntime",
    "onnxruntime-tensorrt": "batchseg.engines.onnxruntime:OnnxRuntimeTensorRT",
    "openvino": "batchseg.engines.openvino:OpenVINO",
}
"""Module and class by name, the reference first; a module is imported when its engine is asked for."""


def engine(name: str) -> Engine:
    """The engine of that name. Raises ModelError where there is none."""
    if name not in ENGINES:
        msg = f"engine: {name!r} is not known; there are {', '.join(ENGINES)}"
        raise ModelError(msg)
    # ONNX Runtime's wheel for Linux writes a device id to the home folder and sends events unless told not
    # to. Here, not where this module is loaded: who only reads an output keeps his environment.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    module, _, kind = ENGINES[name].partition(":")
    found: Engine = getattr(importlib.import_module(module), kind)()
    return found


def check_batch(batch: NDArray[np.generic], network: Network) -> None:
    """Raise ValueError for a batch that a library would crash on, or misread.

    An empty one ends Paddle's process with SIGSEGV.
    """
    axis = 1 if network.layout == "NCHW" else 3
    if batch.ndim != 4:
        msg = f"a batch of shape {list(batch.shape)}; expected four axes, {network.layout}"
    elif batch.size == 0:
        msg = f"an empty batch of shape {list(batch.shape)}: engines crash on it"
    elif batch.dtype != network.dtype:
        msg = f"a batch of {batch.dtype}; {network.path} takes {network.dtype}"
    elif network.bands and batch.shape[axis] != network.bands:
        msg = (
            f"a batch of shape {list(batch.shape)}; {network.path} takes {network.layout} "
            f"with {network.bands} bands"
        )
    elif any(
        wanted not in (None, size)
        for wanted, size in zip(network.size_hw, batch.shape[axis % 3 + 1 :], strict=False)
    ):
        msg = f"a batch of shape {list(batch.shape)}; {network.path} takes {network.size_hw} pixels"
    else:
        return
    raise ValueError(msg)


@contextlib.contextmanager
def readable(network: Network) -> Iterator[tuple[str, str | None]]:
    """Paths of program and weights that a library can open; they may be gone once it has read them.

    Raises:
        ModelError: the network is encrypted, and there is no key or another one.
    """
    if not network.encrypted:
        yield network.path, network.params
        return
    params = Path(network.params) if network.params else None
    key = load_key(Path(network.key_file) if network.key_file else None)
    with decrypted_files(Path(network.path), params, key) as (program, weights):
        yield str(program), str(weights) if weights else None


def telling_line(error: BaseException) -> str:
    """The line of a library's error that says what is wrong, at most 300 characters.

    Of Paddle's, below its C++ stack, the last that names an error; of others the first.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [number for number, line in enumerate(lines) if "Error:" in line or line.startswith("(")]
    at = telling[-1] if telling else 0
    # Paddle's words for a GPU without memory begin two lines below the error's name.
    said = lines[at : at + 2] if lines[at:] and lines[at].endswith("Error:") else lines[at : at + 1]
    return (" ".join(said) or type(error).__name__)[:300]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may fit.

    Paddle raises MemoryError or RuntimeError with ResourceExhausted; cuDNN and cuBLAS say ALLOC_FAILED or
    (cuDNN 9) ALLOCATION_FAILED; CUDA "out of memory"; ONNX Runtime "Failed to allocate memory for requested
    buffer", or of an arena with a limit "Available memory of ... is smaller than requested bytes".
    """
    telling = (
        r"ResourceExhausted|out of memory|ALLOC_FAILED|ALLOCATION_FAILED|failed to allocate memory"
        r"|is smaller than requested bytes|bad_alloc"
    )
    return isinstance(error, MemoryError) or bool(re.search(telling, str(error), re.IGNORECASE))
