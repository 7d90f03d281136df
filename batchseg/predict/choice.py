"""What an output remembers of how its network is run, and the trials behind it in words."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from batchseg.job.recipe import engine_words
from batchseg.models.package import EngineName, Precision
from batchseg.predict.halo import HaloFigure
from batchseg.predict.tile_size import TileFigure
from batchseg.predict.trial import Bench, Trial
from batchseg.system.amounts import rate_in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What an output remembers of it."""

    engine: EngineName
    precision: Precision
    device: Literal["cpu", "gpu"]
    baked: bool
    asked: Mapping[str, Any]
    """By the job: engine, precision, bake, tile_size, halo; the last two are None where they are open."""
    conversion: str | None = None
    """sha256 of the ONNX file beside a Paddle network, where it is what runs."""
    trials: tuple[Mapping[str, Any], ...] = ()
    """Engine, precision, tiles per second (where several were tried), agreement, reason."""
    compared: bool | None = None
    """Whether the engine is the model's own, or passed the gate. False: there was no source to try it with,
    and the next run decides anew. None: made by an earlier version, which trusted an engine that was named.
    """
    notes: tuple[str, ...] = field(default=())
    tile_size: int | None = None
    """Pixels per side; None: made by an earlier version, and recorded as a pixel setting alone."""
    halo: int | None = None
    halos: tuple[Mapping[str, Any], ...] = ()
    """Halo, share of pixels that change, largest change of a probability."""
    sides: tuple[Mapping[str, Any], ...] = ()
    """Tiles' sides, with what they cost and change; the usual one first."""
    remembered: bool = False
    """Whether trials of another output decided."""
    untried: tuple[str, ...] = ()
    quantized: Mapping[str, Any] | None = None
    """root, path and digest of a network that was quantised for this; root is empty where it lies in the
    output itself."""
    seams: str = ""
    """What the halo leaves, in words; empty: nothing is known of it, or it is wide enough."""
    narrow: bool = False
    """Whether another halo or a larger tile would leave less."""
    seconds_per_tile: float | None = None
    """Of one predictor beside the others, as it was tried."""

    @property
    def summary(self) -> str:
        words = engine_words(self.engine, self.precision, self.device, baked=self.baked)
        if self.tile_size is None or self.halo is None:
            return words
        return f"{words}, tiles of {self.tile_size} with a halo of {self.halo}"

    @property
    def proof(self) -> str:
        """How much faster than the first trial, and how near to the reference; empty if none was made."""
        mine = next(
            (
                t
                for t in self.trials
                if (t["engine"], t["precision"]) == (self.engine, self.precision) and t["equal"] is not None
            ),
            None,
        )
        if mine is None:
            return ""
        near = f"{mine['equal']:.3%} of pixels equal"
        if mine.get("sure_differ") is not None:
            near += f", {mine['sure_differ']:.4%} other where the reference is sure"
        if not mine["tiles_per_second"]:
            return f"{near} when tried"
        first = self.trials[0]
        ratio = ""
        if mine is not first and first["tiles_per_second"]:
            times = mine["tiles_per_second"] / first["tiles_per_second"]
            ratio = f", {times:.1f} x {first['engine']} {first['precision']}"
        rate = f"{rate_in_words(mine['tiles_per_second'])} tiles/s"
        if mine.get("megapixels_per_second"):
            rate = f"{rate_in_words(mine['megapixels_per_second'])} Mpx/s"
        return f"{rate} when tried{ratio}, {near}"


def as_document(choice: Choice | None) -> dict[str, Any] | None:
    return None if choice is None else dataclasses.asdict(choice)


LISTED = ("trials", "notes", "halos", "sides", "untried")
"""Fields that JSON holds as lists."""


def from_document(document: Mapping[str, Any] | None) -> Choice | None:
    if document is None:
        return None
    return Choice(**{**document, **{key: tuple(document[key]) for key in LISTED if key in document}})


def figures(trial: Trial) -> dict[str, Any]:
    """As JSON holds it."""
    found = trial.agreement
    return {
        "engine": trial.engine,
        "precision": trial.precision,
        "device": trial.device,
        "tile_size": trial.tile_size,
        "tiles_per_second": _rounded(trial.tiles_per_second),
        "megapixels_per_second": _rounded(trial.megapixels_per_second),
        "memory_bytes": trial.memory,
        "equal": found and round(found.equal_share, 6),
        "sure_differ": None if found is None or found.sure is None else round(1 - found.sure_share, 7),
        "iou": found and {str(class_id): round(value, 5) for class_id, value in found.iou},
        "confidence_difference": found and found.confidence_difference,
        "miou": trial.accuracy and round(trial.accuracy.mean_iou, 5),
        "truth_iou": trial.accuracy and {str(k): round(value, 5) for k, value in trial.accuracy.iou},
        "reason": trial.reason,
    }


def _rounded(rate: float | None) -> float | None:
    """To four digits that count."""
    return rate and float(f"{rate:.4g}")


def halo_figures(table: Sequence[HaloFigure]) -> tuple[dict[str, Any], ...]:
    """As JSON holds them."""
    return tuple(dataclasses.asdict(figure) | {"share": figure.share} for figure in table)


def side_figures(sides: Sequence[TileFigure]) -> tuple[dict[str, Any], ...]:
    """As JSON holds them."""
    return tuple(dataclasses.asdict(figure) for figure in sides)


def describe_trial(trial: Trial) -> str:
    """One line of figures."""
    parts = []
    if trial.megapixels_per_second is not None:
        parts.append(f"{rate_in_words(trial.megapixels_per_second)} Mpx/s")
    elif trial.tiles_per_second is not None:
        parts.append(f"{rate_in_words(trial.tiles_per_second)} tiles/s")
    if (near := trial.agreement) is not None:
        parts.append(f"{near.equal_share:.4%} equal")
        if near.sure is not None:
            parts.append(f"{1 - near.sure_share:.5%} other of {near.sure / near.pixels:.1%} sure pixels")
        if near.worst_iou is not None:
            parts.append(f"worst IoU {near.worst_iou[1]:.4f} (class {near.worst_iou[0]})")
        if near.confidence_difference is not None:
            parts.append(f"confidence off by {near.confidence_difference:.3f} at most")
    if trial.accuracy is not None:
        parts.append(f"mean IoU {trial.accuracy.mean_iou:.4f} against the truth")
    if trial.bare:
        return f"{trial.name}, the bare network: {', '.join(parts)}"
    parts.append(f"out: {trial.reason}" if trial.reason else "passed")
    return f"{trial.name}: {', '.join(parts)}"


def describe_bench(found: Bench) -> list[str]:
    """A line per trial, what was not taken though it is faster, and what the tiles leave unproved. Nothing of
    the many that this machine lacks."""
    lines = [describe_trial(trial) for trial in found.trials if trial.offered]
    lines += describe_sides(found.sides)
    if found.untried:
        lines.append(f"not tried, as {found.untried_why}: {', '.join(found.untried)}")
    return [*lines, *refused(found), *unproved(found)]


def describe_sides(sides: Sequence[TileFigure]) -> list[str]:
    """What tiles of each side cost and change."""
    lines = []
    for side in sides[1:]:
        saved = 1 - side.work / sides[0].work
        words = f"tiles of {side.tile_size}: {saved:.0%} less work than of {sides[0].tile_size}"
        if side.changed is not None and side.moved is not None:
            words += f", change {side.changed:.2%} of the pixels (moving the usual ones {side.moved:.2%})"
        lines.append(f"{words}, {f'out: {side.reason}' if side.reason else 'passed'}")
    return lines


def refused(found: Bench) -> list[str]:
    """What was refused by the gate and is faster than what was chosen, and what takes it."""
    lines = []
    best = found.chosen.tiles_per_second or found.trials[0].tiles_per_second or 0.0
    for trial in found.trials:
        near = trial.agreement
        is_left = trial.reason is not None or trial.precision == "int8"
        if not is_left or near is None or not best or (trial.tiles_per_second or 0.0) <= best:
            continue
        times = (trial.tiles_per_second or 0.0) / best
        words = f"{trial.name} would be {times:.1f} x as fast"
        share = near.sure_share if near.is_sure else near.equal_share
        if trial.precision != "int8" and share < LIKE:
            lines.append(f"{words}, and calls {1 - share:.1%} of the pixels otherwise")
        else:
            lines.append(f"{words}; {looser(trial)} takes it")
    return lines


LIKE = 0.99
"""Of the pixels: a gate that takes less is no advice."""


def looser(trial: Trial) -> str:
    """The gate that a trial would pass, as a job file has it."""
    near = trial.agreement
    assert near is not None  # noqa: S101  asked of trials that were compared
    if trial.precision == "int8":
        return "precision: int8, or a `gate: truth` by which it is as right,"
    share = near.sure_share if near.is_sure else near.equal_share
    # Below what is asked for by default, where confidences of another network would not pass.
    equal = min(_down(share, 4), 0.9998)
    iou = min(_down(near.worst_iou[1], 3), 0.998) if near.worst_iou is not None else 0.998
    return f"gate: {{equal_pixels: {equal:g}, iou: {iou:g}}}"


def _down(value: float, digits: int) -> float:
    return float(max(0, math.floor(value * 10**digits)) / 10**digits)


def unproved(found: Bench) -> list[str]:
    """A line where the tiles do not show every class."""
    if found.class_count is None or found.classes_seen >= found.class_count:
        return []
    seen = f"{found.classes_seen} of {found.class_count}"
    return [f"these tiles show {seen} classes; nothing is proved of the others"]
