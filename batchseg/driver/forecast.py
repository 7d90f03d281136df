"""How long a run over scenes will take, from its start to its last table."""

from dataclasses import dataclass

from batchseg.driver.plan import Estimate, Plan

START_SECONDS = {"inline": 2.5, "processes": 4.0, "ray": 6.6}
"""Command to first tile, by executor (docs/speed.md)."""

IDLE_SECONDS = 0.7
"""Of a run with nothing to do (docs/speed.md)."""

SCENE_SECONDS = 0.03
"""Of each scene beside its tiles: 10,000 small ones took 302 s (docs/speed.md)."""

MASK_SECONDS = 1.5 / 43
"""A megapixel of a mask: fragments to a COG with overviews (decision 40)."""

REGION_SECONDS = 3.0 / 16.8
"""A megapixel of regions, few or many: 4096 x 4096 (docs/speed.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Seconds of a run's parts, one after the other; reading is thought to keep up."""

    start: float
    """Loading the network, starting Ray."""
    predict: float
    """At the probe tile's speed."""
    finish: float
    """Of masks and regions, as far as nothing else goes on beside it or the cores are shared."""

    @property
    def total(self) -> float:
        return self.start + self.predict + self.finish


def forecast(plan: Plan, numbers: Estimate, *, executor: str, regions: bool, workers: int) -> Forecast:
    """Add up what a plan will take.

    Args:
        plan: what is to be done.
        numbers: of it.
        executor: `inline`, `processes` or `ray`.
        regions: whether regions are traced.
        workers: predictors. Their cores finish masks too; the last scene's is finished by one.
    """
    if not plan.jobs:
        return Forecast(start=IDLE_SECONDS, predict=0.0, finish=0.0)
    each = MASK_SECONDS + REGION_SECONDS * regions
    finishes = [
        SCENE_SECONDS + max(job.scene.size, job.scene.on_own_grid.size) / 1e6 * each for job in plan.jobs
    ]
    at_once = 1 if executor == "inline" else workers
    tail = max(finishes) * (1 - 1 / at_once)
    return Forecast(
        start=START_SECONDS[executor], predict=numbers.seconds, finish=sum(finishes) / at_once + tail
    )
