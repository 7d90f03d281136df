"""What runs over scenes and runs over photographs share: their surroundings, and the report."""

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from batchseg.driver.bottleneck import diagnose
from batchseg.driver.events import Listener, Note, Setting
from batchseg.driver.prepare import describe_young
from batchseg.driver.progress import Sums
from batchseg.driver.scene_loop import Tally
from batchseg.driver.tasks import Stop
from batchseg.inputs.ids import InputRoot
from batchseg.job.recipe import Product, Recipe
from batchseg.job.settings import JobConfig
from batchseg.output import layout, publish
from batchseg.output.lock import Lock
from batchseg.output.record import SceneRecord, SourceRecord
from batchseg.output.state import OutputState, save_state
from batchseg.predict.engine_choice import Choice, as_document
from batchseg.system.location import join


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What a run finds when it begins."""

    config: JobConfig
    run_id: str
    lock: Lock
    sums: Sums
    emit: Listener
    stop: Stop
    """A reason in words ends the run; the lock's loss is one."""
    log: str
    """URI of the run's log."""
    profile: bool = False
    """Whether the times of all steps are wanted."""

    def tell_apart(self, *, gone: int, young: int) -> None:
        """Say how many sources the inputs no longer hold, and how many are left to a later run."""
        if gone:
            text = (
                f"{gone} sources are gone from the inputs; their results are kept until "
                f"`batchseg prune {self.config.output}`"
            )
            self.emit(Note(text=text))
        if young:
            self.emit(Note(text=describe_young(young, self.config.min_age)))

    def remember(
        self,
        recipe: Recipe,
        product: Product,
        *,
        roots: Mapping[str, InputRoot],
        choice: Choice,
        vanished: tuple[str, ...],
        before: OutputState | None,
    ) -> None:
        """Record how the output is made, if that is not what `before` says. Raises OutputError."""
        new = OutputState(
            pixel=recipe.settings(),
            device=recipe.device,
            facts=recipe.facts,
            roots=roots,
            choice=choice,
            classes=product_names(product),
            colors=tuple(info.color for info in product.classes),
            vanished=vanished,
        )
        if new != before:
            self.lock.guard()
            save_state(self.config.output, new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run did."""

    output: str
    log: str
    choice: Choice
    """How the network was run."""
    tally: Tally
    skipped: int
    """Done, or quarantined, by earlier runs."""
    still_quarantined: int
    vanished: tuple[str, ...]
    young: int
    """Changed less than `min_age` ago: left to a later run."""
    sums: Sums
    refused: tuple[SourceRecord, ...]
    damaged: tuple[SceneRecord, ...] = ()
    """Done in this run, with blocks that cannot be decoded."""
    verdicts: Mapping[str, int] | None = None
    """Of photographs: how many of all that are done have which verdict; None: scenes."""
    copied: int = 0
    """Photographs whose content was known under another name."""
    rejudged: int = 0
    """Photographs whose verdict was derived again, by other rules."""

    @property
    def masks(self) -> str:
        """URI of the folder of masks."""
        return join(self.output, layout.MASKS)

    @property
    def items(self) -> str:
        """URI of the table of items."""
        return join(self.output, layout.ITEMS_TABLE)


def product_names(product: Product) -> tuple[str, ...]:
    return tuple(info.name for info in product.classes)


def setting_of(config: JobConfig, recipe: Recipe, product: Product) -> Setting:
    """What of a job decides what would make it faster."""
    side = recipe.tile_size
    return Setting(
        engine_open=config.engine is None and config.precision is None,
        gpu=recipe.device == "gpu",
        inline=config.executor == "inline",
        kept=1.0 if recipe.fit == "resize" else (1 - 2 * recipe.halo / side) ** 2,
        regions=product.regions is not None,
    )


def save_summary(
    output: str, run_id: str, report: Report, cpu_seconds: Mapping[str, float] | None = None
) -> None:
    """Write a run's figures.

    Args:
        output: root of the results.
        run_id: of the run.
        report: what it did.
        cpu_seconds: per step, where they were asked for.

    Raises:
        OutputError: it cannot be written.
    """
    sums, usage = report.sums, report.sums.usage()
    found = diagnose(usage)
    document = {
        **dataclasses.asdict(report.tally),
        "engine": as_document(report.choice),
        "skipped": report.skipped,
        **({} if report.verdicts is None else {"verdicts": dict(report.verdicts)}),
        "young": report.young,
        "bad_pixels": {record.source_id: record.bad_pixels for record in report.damaged},
        "tiles": sums.tiles,
        "pixels": sums.pixels,
        "seconds": round(time.monotonic() - sums.started, 3),
        "seconds_after_start": round(sums.elapsed, 3),
        "seconds_to_first_tile": sums.seconds_to_first_tile,
        "step_seconds": {step: round(seconds, 3) for step, seconds in sums.seconds.items()},
        "predictors": usage.slots,
        "predictor_shares": {step: round(share, 4) for step, share in usage.shares.items()},
        "bound_by": found.bound,
        "advice": found.advice,
        **({} if cpu_seconds is None else {"cpu_seconds": _rounded(cpu_seconds)}),
    }
    publish.publish(layout.run_uri(output, run_id, layout.SUMMARY), json.dumps(document, indent=1).encode())


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {step: round(value, 3) for step, value in seconds.items()}
