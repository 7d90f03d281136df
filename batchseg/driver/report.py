"""What a run did, as a value for who called it and as `summary.json` beside its log."""

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from batchseg.driver.bottleneck import diagnose
from batchseg.driver.class_shares import ClassShares
from batchseg.driver.loop import Tally
from batchseg.driver.progress import Sums
from batchseg.output import layout, publish
from batchseg.output.record import SceneRecord, SourceRecord
from batchseg.output.seam_shares import SeamShares
from batchseg.predict.choice import Choice, as_document
from batchseg.system.location import join

SCENES_LISTED = 100
"""Of which `summary.json` says how many of their pixels depend on where tiles lie, the worst first."""


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
    classes: ClassShares = field(default_factory=ClassShares)
    """Of the pixels that this run did."""
    rasters: str = layout.MASKS
    """The folder of its results: of masks, or of numbers where there are no masks."""
    clipped: str = ""
    """Numbers that uint16 could not hold, in words; empty: none."""
    seams: SeamShares = field(default_factory=SeamShares)
    """Of the scenes that this run did: pixels that depend on where tiles lie."""
    seams_warning: str = ""
    """That they are many, and what leaves fewer; empty: they are few, or nobody looked."""
    verdicts: Mapping[str, int] | None = None
    """Of photographs: how many of all that are done have which verdict; None: scenes."""
    uninspected: int = 0
    """Of these, those that are REVIEW only because too little of them has data."""
    unlike: int = 0
    """Of these, those that are REVIEW only because they may be of another unit than the first ones."""
    copied: int = 0
    """Photographs whose content was known under another name."""
    rejudged: int = 0
    """Photographs whose verdict was derived again: by other rules, or because they passed unseen."""
    odd_sources: tuple[str, ...] = ()
    """What was odd about the sources, in words."""
    left_out: tuple[str, ...] = ()
    """What of the inputs' folders and lists is no input, in lines."""

    broken_rows: tuple[str, ...] = ()
    """Of these lines those of rows that are broken, and of scenes that a closed folder may hide: work that is
    not done."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd about the sources, and about what the run made of them, in words."""
        made = (self.classes.warning,) if self.classes.warning else ()
        narrow = (self.choice.seams,) if self.choice.narrow else ()
        clipped = (self.clipped,) if self.clipped else ()
        seams = (self.seams_warning,) if self.seams_warning else ()
        return (*self.odd_sources, *narrow, *seams, *clipped, *made)

    @property
    def run_id(self) -> str:
        """The name of the run's folder, in which its log lies."""
        return self.log.rsplit("/", 2)[1]

    @property
    def masks(self) -> str:
        """URI of the folder of masks, or of numbers where there are no masks."""
        return join(self.output, self.rasters)

    @property
    def items(self) -> str:
        """URI of the table of items."""
        return join(self.output, layout.ITEMS_TABLE)


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
        **({} if report.verdicts is None else {"uninspected": report.uninspected, "unlike": report.unlike}),
        "classes": {name: round(share, 6) for name, share in report.classes.shares.items()},
        **({"seams": report.seams.document(SCENES_LISTED)} if report.seams.places else {}),
        "young": report.young,
        "warnings": list(report.warnings),
        "left_out": list(report.left_out),
        "broken_rows": list(report.broken_rows),
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
    publish.publish(layout.run_file(output, run_id, layout.SUMMARY), json.dumps(document, indent=1).encode())


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {step: round(value, 3) for step, value in seconds.items()}
