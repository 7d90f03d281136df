"""`batchseg model calibrate`: how far confidences are from what they say, and a model that mends it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchseg.cli.terminal import Answer, Say, Streams, json_lines
from batchseg.job.file import load_job

if TYPE_CHECKING:
    from batchseg.driver.calibrate_model import Calibrated


def add_calibrate_action(actions: Any, job: argparse.ArgumentParser) -> None:
    """Add `calibrate` to those of `model`; it sets `action`."""
    calibrate = actions.add_parser(
        "calibrate",
        parents=[job],
        help="make a model's confidences mean what they say, by images with known classes",
        allow_abbrev=False,
    )
    calibrate.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="a new folder; none: show only"
    )
    calibrate.add_argument(
        "--truth",
        nargs=2,
        metavar=("IMAGES", "LABELS"),
        help="folders whose files are paired by name; the job's own `gate: truth` if not given",
    )
    calibrate.add_argument("--json", action="store_true", help="print JSON")
    calibrate.set_defaults(action=_calibrate, only_looks=True)


def _calibrate(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    from batchseg.driver.calibrate_model import calibrate_job
    from batchseg.job.settings import Truth

    streams.take()
    truth = None
    if arguments.truth is not None:
        images, labels = (str(Path(folder).absolute()) for folder in arguments.truth)
        truth = Truth(images=images, labels=labels)
    config = load_job(arguments.job, arguments.overrides)
    found = calibrate_job(config, truth, arguments.folder, say)
    if arguments.json:
        return Answer(json_lines(_document(found)))
    return Answer(calibration_lines(found))


def _document(calibrated: Calibrated) -> dict[str, Any]:
    found = calibrated.found
    return {
        "temperature": found.temperature,
        "threshold": calibrated.threshold,
        "images": [found.fitted, found.judged],
        "labels": {"classes": found.labels.classes, "no_class": dict(found.labels.others)},
        **{
            name: {"error": part.error, "counts": part.counts, "said": part.said, "right": part.right}
            for name, part in (("before", found.before), ("after", found.after))
        },
    }


def calibration_lines(calibrated: Calibrated) -> list[str]:
    """A line per bin of confidence that has pixels, and what was found."""
    found = calibrated.found
    rows: list[tuple[str, ...]] = [("confidence", "pixels", "right", "after it: pixels", "right")]
    bins = len(found.before.counts)
    for number in range(bins):
        cells = []
        for part in (found.before, found.after):
            count = part.counts[number]
            cells += [f"{count:,}", f"{part.right[number]:.1%}" if count else ""]
        if found.before.counts[number] or found.after.counts[number]:
            rows.append((f"{number / bins:.0%} to {(number + 1) / bins:.0%}", *cells))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.append(f"labels of {found.fitted + found.judged} images: {found.labels}")
    lines.append(
        f"temperature {found.temperature:.3f}, found on {found.fitted} images; on {found.judged} others the "
        f"expected calibration error was {found.before.error:.4f} and is {found.after.error:.4f} with it"
    )
    if found.after.error >= found.before.error:
        lines.append("it makes nothing better: the model may stay as it is")
    if calibrated.folder is not None:
        lines.append(f"{calibrated.folder} has it in its graph; no pixel gets another class")
    return [*lines, *_threshold(calibrated)]


def _threshold(calibrated: Calibrated) -> list[str]:
    """Of one band of scores: a threshold other than a half moves with the scores."""
    old = calibrated.recipe.model.threshold
    if calibrated.loses_threshold:
        return [f"no threshold in float32 keeps every class as {old:g} has it: no package can be written"]
    if calibrated.threshold is None:
        return []
    new = repr(calibrated.threshold)  # all digits: pixels lie between it and a rounded one
    return [f"its threshold moves with the scores: in the job file, model: {{threshold: {new}}}, was {old:g}"]
