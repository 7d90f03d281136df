"""What happens in a run, as values. The driver prints nothing; progress and log subscribe."""

from collections.abc import Callable
from dataclasses import dataclass, field

from batchseg.system.timing import Stint


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted:
    """Before the first tile: listing, starting predictors, reading headers."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What of a job decides what would make it faster."""

    engine_open: bool = False
    """Nobody asked which engine is the fastest."""
    gpu: bool = False
    inline: bool = False
    remote: bool = False
    """Most sources are in a bucket or on a server."""
    badly_tiled: float = 0.0
    """Share of the pixels that are in scenes of strips or huge blocks, 0..1."""
    kept: float = 1.0
    """Share of a tile that is no halo, 0..1."""
    larger_tile: int | None = None
    """Twice as large, and lined up; None: not known."""
    regions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReady:
    scenes: int
    """To do in this run."""
    tiles: int
    pixels: int
    """Of the source rasters, in the shards to be done; both a guess where headers are still to be read."""
    skipped: int
    """Done by earlier runs."""
    images: bool = False
    """Photographs, whose tiles and pixels nobody knows before they are read."""
    slots: int = 1
    """Predictors at work."""
    setting: Setting = field(default_factory=Setting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replanned:
    """More headers were read: so much more is to do than was thought; less where it is below 0."""

    tiles: int
    pixels: int


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
    lease: int = 0
    slot: int = 0
    """The predictor's."""
    submitted: float = 0.0
    """Of time.monotonic(), to the executor."""
    windows: tuple[tuple[int, int], ...] = ()
    """Row and column of each shard's first pixel; none but for a profile."""
    stints: tuple[Stint, ...] = ()


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
    slot: int = 0
    """The predictor's."""
    stints: tuple[Stint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneDone:
    source_id: str
    finish_seconds: float
    stints: tuple[Stint, ...] = ()


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
class Committed:
    """Records are in the ledger."""

    records: int
    stint: Stint


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkEnded:
    """The last mask and the table are in their places; what was started is not yet shut down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something worth a line in the log: an information, not a failure."""

    text: str


Event = (
    PhaseStarted
    | PlanReady
    | Replanned
    | ShardsDone
    | GroupDone
    | SceneDone
    | SceneRefused
    | Retried
    | Committed
    | WorkEnded
    | Note
)
Listener = Callable[[Event], None]
