"""What runs a network. One module per engine; each imports its library inside functions only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from batchseg.package import Format, ModelPackage, Network

Precision = Literal["fp32", "bf16", "fp16", "int8"]
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
        """All outputs for a non-empty batch in the network's layout and dtype, C-contiguous."""
        ...


class Engine(Protocol):
    """A library that runs networks."""

    name: str
    formats: tuple[Format, ...]
    """That it loads, preferred first; a network of another format is converted to the first before."""

    def version(self) -> str | None:
        """None: the library is not installed."""
        ...

    def offers(self, package: ModelPackage, device: Device) -> Sequence[Offer]:
        """Every precision it knows for this model, with the reason where it cannot."""
        ...

    def load(self, network: Network, *, precision: Precision, device: Device, threads: int) -> Session:
        """Raises ModelError, saying what the library said."""
        ...
