"""What trials of engines are asked, and what they show."""

from collections.abc import Sequence
from dataclasses import dataclass

from batchseg.engines.base import Device
from batchseg.inputs.source import Source
from batchseg.job.recipe import Quantized
from batchseg.job.settings import Gate
from batchseg.models.package import EngineName, Precision
from batchseg.predict.gate import Agreement
from batchseg.predict.halo import HaloFigure
from batchseg.predict.tile_size import TileFigure
from batchseg.predict.truth import Accuracy, Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one engine in one precision showed."""

    engine: EngineName
    precision: Precision
    device: Device = "cpu"
    tile_size: int | None = None
    """That it was tried with."""
    tiles_per_second: float | None = None
    """Of all workers together, from raw pixels to class ids."""
    megapixels_per_second: float | None = None
    """Of the sources: what is seen twice counts once."""
    agreement: Agreement | None = None
    """With the reference: the bare network on its reference engine in fp32."""
    accuracy: Accuracy | None = None
    """Against the truth, where the job gives one."""
    memory: int | None = None
    """Bytes that a process of it took at most."""
    reason: str | None = None
    """Why it is not used; None: it passed the gate."""
    offered: bool = True
    """Whether this machine and this model have it; else nothing was tried, and `reason` says why."""
    bare: bool = False
    """Nothing is baked: the reference itself, where nothing else agrees with it."""

    @property
    def name(self) -> str:
        return f"{self.engine} {self.precision}{' on gpu' if self.device == 'gpu' else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    trials: tuple[Trial, ...]
    """In the order tried; the first one is the bare network on the reference engine in fp32."""
    chosen: Trial
    tiles: int
    workers: int
    """Processes that were measured together."""
    class_count: int | None
    """Of the model; None: not known."""
    classes_seen: int
    """By the reference, in these tiles."""
    tile_size: int
    halo: int
    halos: tuple[HaloFigure, ...] = ()
    """What is known of halos; empty: none could be tried, or there was no time to."""
    sides: tuple[TileFigure, ...] = ()
    """What was found of tiles' sides, the usual one first."""
    seconds_per_tile: float | None = None
    """Of one predictor beside the others, in what was chosen."""
    scene_megapixels: float = 0.0
    """Of all the job's sources, by those that were looked at."""
    quantized: Quantized | None = None
    """The network that was chosen, where it was quantised for this."""
    untried: tuple[str, ...] = ()
    """Engines for which no time was left, or which are slower than one that passed."""
    untried_why: str = ""
    """Which of both it is, as `the time is up`; empty: nobody says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a bench is to find."""

    engines: Sequence[EngineName]
    precisions: Sequence[Precision]
    workers: int
    """Predictors at work at the same time."""
    gate: Gate
    halos: tuple[HaloFigure, ...] = ()
    """What is known of halos."""
    open_tile: bool = False
    compares: bool = True
    """Whether there is time to compare tiles of other sides, where the halo is not wide enough."""
    sources: int = 1
    """Of the job."""
    seconds: float = float("inf")
    """That all of it may take; what was begun is finished."""
    known: tuple[Known, ...] = ()
    """Crops of which the classes are known: with them accuracy decides."""
    int8: bool = False
    """Whether a float network is quantised and tried."""
    int8_asked: bool = False
    """Whether the job asks for that: then it need not come as near as the gate asks, without a truth."""
    everything: bool = False
    """Engines are tried also where a faster one has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """Where and for whom a choice is made."""

    sources: Sequence[Source]
    """Some of the job's; none: nothing can be tried."""
    count: int
    """Sources of the job."""
    workers: int
    """Predictors at work at the same time."""
    tries: bool = True
    """False: a plan, which tries nothing."""
