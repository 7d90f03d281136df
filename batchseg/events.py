"""What happens in a run, as values. The engine prints nothing; progress and log subscribe."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted:
    """Before the first tile: listing, starting predictors, reading headers."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReady:
    scenes: int
    """To do in this run."""
    tiles: int
    pixels: int
    """Of the source rasters, in the shards to be done."""
    skipped: int
    """Done by earlier runs."""
    images: bool = False
    """Photographs, whose tiles and pixels nobody knows before they are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardsDone:
    source_id: str
    shards: int
    tiles: int
    """That went through the model."""
    skipped: int
    """Tiles without a valid pixel."""
    pixels: int
    read_seconds: float
    predict_seconds: float
    stitch_seconds: float
    write_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDone:
    """Photographs that were done together."""

    images: int
    failed: int
    """Of them, whose verdict is not PASS."""
    tiles: int
    pixels: int
    read_seconds: float
    """That the predictor waited for pixels."""
    predict_seconds: float
    stitch_seconds: float
    write_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneDone:
    source_id: str
    finish_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRefused:
    source_id: str
    reason: str
    transient: bool
    tiles: int
    """Of it that will not be predicted any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    source_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something worth a line in the log: an information, not a failure."""

    text: str


Event = PhaseStarted | PlanReady | ShardsDone | GroupDone | SceneDone | SceneRefused | Retried | Note
Listener = Callable[[Event], None]
