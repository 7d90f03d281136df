"""`batchseg model bench` and `batchseg model halo`: what trials show of a model, and change nothing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchseg.cli.terminal import Answer, Say, Streams, json_lines
from batchseg.errors import ConfigError
from batchseg.job.file import load_job, make_job
from batchseg.system.amounts import rate_in_words

if TYPE_CHECKING:
    from batchseg.driver.halo_table import HaloTable
    from batchseg.job.settings import JobConfig
    from batchseg.predict.trial import Bench, Trial


def add_trial_actions(actions: Any, job: argparse.ArgumentParser) -> None:
    """Add `bench` and `halo` to those of `model`; each sets `action`."""
    bench = actions.add_parser(
        "bench",
        parents=[job],
        help="try every engine and precision of this machine on a job's own tiles",
        allow_abbrev=False,
    )
    bench.add_argument("--json", action="store_true", help="print JSON")
    bench.add_argument(
        "--remember", action="store_true", help="let the next output of such a job take what is chosen"
    )
    bench.set_defaults(action=_bench, only_looks=True)

    halo = actions.add_parser(
        "halo", help="show how wide a halo a model needs, and what narrower ones change", allow_abbrev=False
    )
    halo.add_argument("model", metavar="MODEL", help="a model's folder, or an ONNX file")
    halo.add_argument("job", nargs="?", type=Path, metavar="JOB", help="a job whose images are taken")
    halo.add_argument(
        "--halos", metavar="N,N,...", type=_halos_of, help="pixels per side in place of the usual ones"
    )
    halo.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key of JOB, such as bands=[3,2,1]; may be repeated",
    )
    halo.add_argument("--json", action="store_true", help="print JSON")
    halo.set_defaults(action=_halo, only_looks=True)


def _bench(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    from batchseg.driver.dry_run import bench_job
    from batchseg.predict.choice import figures, halo_figures, side_figures

    streams.take()
    found = bench_job(load_job(arguments.job, arguments.overrides), say, remember=arguments.remember)
    if arguments.json:
        document = {
            "trials": [figures(trial) for trial in found.trials],
            "chosen": found.chosen.name,
            "tiles": found.tiles,
            "workers": found.workers,
            "tile_size": found.tile_size,
            "halo": found.halo,
            "halos": halo_figures(found.halos),
            "sides": side_figures(found.sides),
        }
        return Answer(json_lines(document))
    return Answer(bench_table(found))


def bench_table(found: Bench) -> list[str]:
    """A line per trial: speed, ratio to the reference engine, agreement, verdict."""
    out: dict[str, list[Trial]] = {}
    shown = []
    for trial in found.trials:
        if trial.offered:
            shown.append(trial)
        else:
            out.setdefault(trial.reason or "", []).append(trial)
    columns = [*BENCH_COLUMNS, *(["mIoU"] if any(trial.accuracy for trial in shown) else []), "MiB", ""]
    cells = [_bench_cells(trial, found) for trial in shown]
    lines = _aligned([tuple(columns), *(tuple(row[column] for column in columns) for row in cells)])
    lines += [f"not run: {_names(trials)}: {reason}" for reason, trials in out.items()]
    plural = "s" * (found.workers > 1)
    lines.append(
        f"{found.tiles} tiles of {found.tile_size} pixels with a halo of {found.halo}, {found.workers} "
        f"worker{plural} of one thread; compared with {found.trials[0].engine} fp32 of the bare network"
    )
    return [*lines, *_found_besides(found)]


def _found_besides(found: Bench) -> list[str]:
    """What is not of one trial, and the lines of a job file that take what was chosen."""
    from batchseg.predict.choice import describe_sides, describe_trial, refused, unproved
    from batchseg.predict.halo import describe

    chosen = found.chosen
    lines = describe_sides(found.sides)
    if found.halos:
        lines.append(describe(found.halos, found.halo))
    lines += [*refused(found), *unproved(found)]
    lines.append(f"chosen: {describe_trial(chosen)}")
    if chosen.megapixels_per_second and found.scene_megapixels:
        hours = found.scene_megapixels / chosen.megapixels_per_second / 3600
        lines.append(f"the job's {found.scene_megapixels:,.0f} Mpx would take {_time(hours)}")
    keys = f"engine: {chosen.engine}, precision: {chosen.precision}, tile_size: {found.tile_size}"
    bare = ", bake: false" if chosen.bare else ""
    return [*lines, f"in the job file, to have it without trials: {{{keys}, halo: {found.halo}{bare}}}"]


def _time(hours: float) -> str:
    """
    >>> _time(0.001), _time(0.1), _time(30.04)
    ('4 s', '6 min', '30 h')
    """
    if hours < 1 / 20:
        return f"{max(1, round(3600 * hours))} s"
    return f"{round(60 * hours)} min" if hours < 2 else f"{hours:.0f} h"


BENCH_COLUMNS = (
    "engine",
    "precision",
    "Mpx/s",
    "ratio",
    "equal",
    "sure but other",
    "worst IoU",
    "confidence",
)
"""Of `batchseg model bench`, less those at its end. Of sources: what tiles see twice counts once."""


def _bench_cells(trial: Trial, found: Bench) -> dict[str, str]:
    base = found.trials[0].tiles_per_second
    speed, near, memory = trial.tiles_per_second, trial.agreement, trial.memory
    scenes, right = trial.megapixels_per_second, trial.accuracy
    difference = near.confidence_difference if near else None
    verdict = "the bare network" if trial.bare else trial.reason or "passed"
    return {
        "engine": trial.engine,
        "precision": trial.precision,
        "Mpx/s": rate_in_words(scenes, 2) if scenes else "",
        "ratio": f"{speed / base:.2f}" if speed and base else "",
        "equal": f"{near.equal_share:.4%}" if near else "",
        "sure but other": f"{1 - near.sure_share:.4%}" if near and near.sure is not None else "",
        "worst IoU": f"{near.worst_iou[1]:.4f}" if near and near.worst_iou else "",
        "confidence": f"{difference:.3f}" if difference is not None else "",
        "mIoU": f"{right.mean_iou:.4f}" if right else "",
        "MiB": f"{memory / 2**20:.0f}" if memory else "",
        "": "chosen" if trial == found.chosen else verdict,
    }


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """All columns but the last are filled up."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def _names(trials: Sequence[Trial]) -> str:
    """By engine; one that is not run at all by its name alone."""
    from batchseg.predict.engine_choice import PRECISIONS

    by_engine: dict[str, list[str]] = {}
    for trial in trials:
        by_engine.setdefault(trial.engine, []).append(trial.precision)
    return ", ".join(
        name if len(precisions) == len(PRECISIONS) else f"{name} {' and '.join(precisions)}"
        for name, precisions in by_engine.items()
    )


LARGEST_HALO = 511
"""Less than `predict.halo` compares others with, which is imported later. A network may take less."""


def _halos_of(text: str) -> tuple[int, ...]:
    try:
        halos = tuple(int(word) for word in text.split(","))
    except ValueError:
        halos = ()
    if not halos or not all(0 <= halo <= LARGEST_HALO for halo in halos):
        msg = f"expected halos of 0 to {LARGEST_HALO} pixels such as 64,96; found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return halos


def _halo(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    from batchseg.driver.halo_table import halo_table
    from batchseg.predict.choice import halo_figures

    streams.take()
    if arguments.job is not None:
        model = f"model={json.dumps(str(Path(arguments.model).resolve()))}"
        config = load_job(arguments.job, [model, *arguments.overrides])
    elif arguments.overrides:
        msg = f"--set {arguments.overrides[0]}: is a key of a job, and none is named: {HALO_USAGE}"
        raise ConfigError(msg)
    else:
        config = _job_of(arguments.model)
    found = halo_table(config, arguments.halos, say, of_noise=arguments.job is None)
    if arguments.json:
        return Answer(json_lines({"widest": found.widest, "halos": halo_figures(found.figures)}))
    return Answer(halo_lines(found))


HALO_USAGE = "batchseg model halo MODEL JOB --set KEY=VALUE"


def _job_of(model: str) -> JobConfig:
    """A job of nothing but a model; one that does not say how its input is normalised gets 0..1."""
    from batchseg.models.reading import read_model

    declared = read_model(model).declares_transforms
    keys = {"inputs": ".", "model": model, "output": ".", "normalize": "model" if declared else "none"}
    return make_job(keys, name=model, folder=Path.cwd())


def halo_lines(found: HaloTable) -> list[str]:
    """A line per halo: pixels that change, and by how much a probability does."""
    from batchseg.predict.halo import describe

    stride = found.recipe.facts.stride
    rows = [("halo", "pixels that change", "largest change of a probability", "")]
    for figure in found.figures:
        apart = "" if figure.probability is None else f"{figure.probability:.4f}"
        note = "" if figure.lines_up else f"no multiple of the stride, {stride}"
        rows.append((str(figure.halo), f"{figure.share:.4%}", apart, note))
    pixels = max((figure.pixels for figure in found.figures), default=0)
    data = "noise, as no job was given" if found.of_noise else "the job's own images"
    lines = [
        *_aligned(rows),
        f"of {pixels:,} pixels of {data}, beside a halo of {found.widest}",
    ]
    if not found.is_whole:
        return [*lines, "which halo is enough shows beside the usual ones: leave --halos out"]
    if found.known:
        lines.append(f"runs go on with what is known of {found.known:,} pixels, which are more")
    return [*lines, describe(found.figures, found.recipe.halo)] if found.figures else lines
