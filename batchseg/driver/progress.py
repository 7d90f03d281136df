"""A run's events summed up and put into words: the sums of summary and progress, and the lines of the log.

How progress looks on a terminal is the command line's.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from batchseg.driver.bottleneck import Busy, Usage
from batchseg.driver.events import (
    Committed,
    Event,
    GroupDone,
    Note,
    PhaseStarted,
    PlanReady,
    Replanned,
    Retried,
    SceneDone,
    SceneRefused,
    ShardsDone,
    WorkEnded,
)
from batchseg.output.record import SceneRecord
from batchseg.system.amounts import counted, pixels_in_words
from batchseg.system.machine import process_began
from batchseg.system.timing import Stint, host_clock


@dataclass(slots=True)
class Sums:
    """Seconds per step and counts, over all workers."""

    scenes: int = 0
    """Or photographs."""
    scenes_total: int = 0
    images: bool = False
    """Photographs: they are counted, and tiles are not known before."""
    failed: int = 0
    """Photographs whose verdict is not PASS."""
    tiles: int = 0
    tiles_total: int = 0
    pixels: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    first_lease: float | None = None
    """When the predictors were ready and work began."""
    seconds_to_first_tile: float | None = None
    """From the start of the process until a predictor began with a lease."""
    busy: Busy = field(default_factory=Busy)
    ended: float | None = None
    """When the last mask and the table were in their places; Ray is shut down after that."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, ShardsDone | GroupDone | SceneDone):
            self.busy(event)
            self._note_first_tile(event.stints)
        if isinstance(event, PlanReady):
            self.scenes_total, self.tiles_total, self.images = event.scenes, event.tiles, event.images
            self.first_lease = time.monotonic()
            self.busy.begin(event, self.first_lease)
        elif isinstance(event, Replanned):
            self.tiles_total += event.tiles
        elif isinstance(event, ShardsDone | GroupDone):
            self.tiles += event.tiles
            self.pixels += event.pixels
            if isinstance(event, GroupDone):
                self.scenes += event.images
                self.failed += event.failed
            else:
                self.tiles_total -= event.skipped
            for step in ("read", "predict", "stitch", "write"):
                self.seconds[step] = self.seconds.get(step, 0.0) + getattr(event, f"{step}_seconds")
        elif isinstance(event, SceneDone):
            self.scenes += 1
            self.seconds["finish"] = self.seconds.get("finish", 0.0) + event.finish_seconds
        elif isinstance(event, SceneRefused):
            self.scenes += 1
            self.tiles_total -= event.tiles
        elif isinstance(event, WorkEnded):
            self.ended = time.monotonic()

    def _note_first_tile(self, stints: Iterable[Stint]) -> None:
        if self.seconds_to_first_tile is not None:
            return
        host, clock = host_clock()
        begun = [s.started + s.shift(host, clock) for s in stints if s.role == "predictor"]
        if begun:
            self.seconds_to_first_tile = round(max(begun) - process_began(), 3)

    @property
    def elapsed(self) -> float:
        """Seconds since the work began."""
        return (self.ended or time.monotonic()) - (self.first_lease or self.started)

    @property
    def unit(self) -> str:
        """What progress counts."""
        return "images" if self.images else "tiles"

    @property
    def counted(self) -> tuple[int, int]:
        """Done and in all, of `unit`."""
        return (self.scenes, self.scenes_total) if self.images else (self.tiles, self.tiles_total)

    def rates(self) -> str:
        seconds = max(self.elapsed, 1e-3)
        return f"{self.counted[0] / seconds:.1f} {self.unit}/s, {pixels_in_words(self.pixels / seconds)}/s"

    def time_left(self) -> str:
        done, total = self.counted
        if not done:
            return "-"
        return duration(max(total - done, 0) / done * self.elapsed)

    def state(self) -> str:
        """How far it is beside what `counted` says."""
        if self.images:
            return f"{self.failed} not passed"
        return f"{self.scenes}/{self.scenes_total} scenes"

    def usage(self) -> Usage:
        """What the predictors did so far."""
        return self.busy.usage(self.ended or time.monotonic())


def duration(seconds: float) -> str:
    """
    >>> duration(42), duration(125), duration(7265)
    ('42 s', '2 min 05 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def describe(event: Event) -> str | None:
    """An event as a line for people; None for those that only count."""
    if isinstance(event, PhaseStarted | Note):
        return event.text
    if isinstance(event, PlanReady):
        skipped = f", {event.skipped} done before" if event.skipped else ""
        if event.images:
            return f"{counted(event.scenes, 'photograph')} to do{skipped}"
        scenes, tiles = counted(event.scenes, "scene"), counted(event.tiles, "tile")
        return f"{scenes}, {tiles}, {pixels_in_words(event.pixels)} to do{skipped}"
    if isinstance(event, SceneRefused):
        verdict = "failed, tried again by the next run" if event.transient else "quarantined"
        return f"{verdict}: {event.source_id}: {event.reason}"
    return None


class LogListener:
    """Every event in the run's log file."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def __call__(self, event: Event) -> None:
        if isinstance(event, ShardsDone):
            self._logger.info(
                "%s: %d shards, %d tiles; read %.2f s, predict %.2f s, stitch %.2f s, write %.2f s",
                event.source_id,
                event.shards,
                event.tiles,
                event.read_seconds,
                event.predict_seconds,
                event.stitch_seconds,
                event.write_seconds,
            )
        elif isinstance(event, GroupDone):
            self._logger.info(
                "%d photographs (%d not passed), %d tiles; waited for pixels %.2f s, predict %.2f s, "
                "stitch %.2f s, write %.2f s",
                event.images,
                event.failed,
                event.tiles,
                event.read_seconds,
                event.predict_seconds,
                event.stitch_seconds,
                event.write_seconds,
            )
        elif isinstance(event, SceneDone):
            self._logger.info("%s: done, finished in %.2f s", event.source_id, event.finish_seconds)
        elif isinstance(event, Retried):
            self._logger.warning("%s: sent again: %s", event.source_id, event.reason)
        elif isinstance(event, SceneRefused):
            self._logger.error("%s", describe(event))
        elif not isinstance(event, Committed | Replanned | WorkEnded):
            self._logger.info("%s", describe(event))


def describe_young(count: int, min_age: float) -> str:
    age = duration(min_age).removesuffix(" 00 s").removesuffix(" 00 min")
    return f"{counted(count, 'source')} changed less than {age} ago; a later run does them"


def describe_damage(record: SceneRecord) -> str:
    """What `on_bad_block: nodata` left out of a scene."""
    share = record.bad_pixels / (record.height * record.width)
    return f"{record.bad_pixels} pixels ({share:.2%}) lie in blocks that cannot be decoded; they are nodata"
