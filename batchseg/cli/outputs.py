"""What is done to an output between runs: `status`, `verify`, `export`, `retry`, `prune`.

Each command's arguments, what it does, and its words.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import batchseg
from batchseg.cli.run import broken_lines, verdict_words
from batchseg.cli.terminal import Answer, Say, Streams, json_lines
from batchseg.errors import EXIT_OK, EXIT_QUARANTINED, ConfigError
from batchseg.system.amounts import are, counted, pixels_in_words

if TYPE_CHECKING:
    from batchseg.tools.status import Status

PROBLEMS_SHOWN = 100
"""One damaged table of regions is a problem of each of its sources."""


def add_output_commands(commands: Any, output: argparse.ArgumentParser) -> None:
    """Add the commands.

    Args:
        commands: of the whole program.
        output: the parser of the argument OUTPUT.
    """
    status = commands.add_parser(
        "status", parents=[output], help="show what an output holds", allow_abbrev=False
    )
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(action=_status, only_looks=True)

    verify = commands.add_parser(
        "verify",
        parents=[output],
        help="compare every file and table row of an output with its ledger",
        description="Exit code 0: all is as recorded. 3: something is missing or differs.",
        allow_abbrev=False,
    )
    verify.add_argument("--quick", action="store_true", help="compare sizes and rows, not checksums")
    verify.set_defaults(action=_verify, only_looks=True)

    _add_export(commands, output)

    retry = commands.add_parser(
        "retry", parents=[output], help="let the next run try quarantined sources again", allow_abbrev=False
    )
    retry.add_argument("sources", nargs="*", metavar="SOURCE", help="source ids; all if none is named")
    retry.set_defaults(action=_retry)

    prune = commands.add_parser(
        "prune",
        parents=[output],
        help="remove the results of sources that the last run did not find any more",
        allow_abbrev=False,
    )
    prune.add_argument("--dry-run", action="store_true", help="say what would be removed")
    prune.add_argument("--all", action="store_true", help="prune even if the last run found no source at all")
    prune.set_defaults(action=_prune)


def _add_export(commands: Any, output: argparse.ArgumentParser) -> None:
    export = commands.add_parser(
        "export",
        parents=[output],
        help="write the regions to one GeoPackage, FlatGeobuf, GeoJSON or COCO file",
        allow_abbrev=False,
    )
    export.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="ends in .gpkg, .fgb, .geojson or .geojsonl, or in .json: COCO, of photographs",
    )
    export.add_argument("--crs", metavar="CRS", help="bring all regions to this CRS, such as EPSG:4326")
    export.add_argument(
        "--class",
        dest="classes",
        action="append",
        default=[],
        metavar="CLASS",
        help="write only this class, by name or id; may be repeated",
    )
    export.set_defaults(action=_export)


def _status(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    status = batchseg.open(arguments.output).status()
    if arguments.json:
        return Answer(json_lines(dataclasses.asdict(status)))
    return Answer(status_lines(status))


def status_lines(status: "Status") -> list[str]:
    """What an output holds."""
    from batchseg.driver.bottleneck import bound_words, share_words

    done = counted(status.done, "scene" if status.verdicts is None else "photograph")
    lines = [f"{status.output}: {done} done, {pixels_in_words(status.pixels_done)}"]
    if status.verdicts:
        lines += [f"verdicts: {verdict_words(status.verdicts)}   batchseg summary {status.output}"]
    lines += [f"running now: {status.running or 'nothing'}"]
    for scene in status.unfinished:
        what = f"{counted(scene.shards_done, 'shard')}, {pixels_in_words(scene.pixels_done)} recorded"
        lines += [f"  begun: {scene.source_id}: {what}"]
    for damaged in status.damaged:
        lines += [f"  damaged: {damaged.source_id}: {damaged.bad_share:.2%} of it cannot be decoded"]
    if status.seams.places:
        lines += [f"places of tiles: {status.seams.in_words}"]
    if (last := status.last_run) is not None:
        bound = bound_words(last.bound_by)
        lines += [f"last run: {share_words(last.shares)}; {bound}{last.advice}"]
    if gone := len(status.gone):
        lines += [f"{counted(gone, 'source')} {are(gone)} gone from the inputs, until `batchseg prune`"]
    lines += [f"  {source.status}: {source.source_id}: {source.error}" for source in status.refused]
    return lines + broken_lines(status.broken_rows)


def _verify(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    from batchseg.api.plans import human

    streams.take()
    found = batchseg.open(arguments.output).verify(quick=arguments.quick, say=say)
    lines = list(found.problems[:PROBLEMS_SHOWN])
    if len(found.problems) > PROBLEMS_SHOWN:
        more = len(found.problems) - PROBLEMS_SHOWN
        lines += [f"and {more} more: batchseg.open({arguments.output!r}).verify().problems in Python has all"]
    verdict = counted(len(found.problems), "problem") if found.problems else "all as recorded"
    counts = [counted(found.sources, "source"), counted(found.files, "file"), human(found.nbytes)]
    lines += [f"{', '.join([*counts, counted(found.rows, 'region')])}: {verdict}"]
    if found.amended:
        what = f"class names are as recorded in {len(found.amended)} .aux.xml into which others wrote as well"
        lines += [f"{what}: {found.amended[0]}{' ...' * (len(found.amended) > 1)}"]
    lines += [f"not recorded, left alone: {path}" for path in found.unrecorded]
    return Answer(lines, EXIT_QUARANTINED if found.problems else EXIT_OK)


def _export(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    from batchseg.tools.export import export

    streams.take()
    output, target, classes = root_of(arguments.output), arguments.file, tuple(arguments.classes)
    if target.suffix.lower() == ".json":
        return Answer(_coco_lines(output, target, classes=classes, crs=arguments.crs))
    done = export(output, target, crs=arguments.crs, classes=classes)
    return Answer(
        [f"{done.path}: layer {layer!r}, {counted(count, 'region')}" for layer, count in done.layers]
    )


def _coco_lines(output: str, target: Path, *, classes: tuple[str, ...], crs: str | None) -> list[str]:
    """Export to COCO. Raises ConfigError or OutputError."""
    from batchseg.tools.export_coco import export_coco

    if crs is not None:
        msg = f"--crs {crs}: photographs have no place; COCO is in pixels"
        raise ConfigError(msg)
    done = export_coco(output, target, classes=classes)
    return [f"{done.path}: {counted(done.images, 'image')}, {counted(done.annotations, 'annotation')}"]


def _retry(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    chosen = batchseg.open(arguments.output).retry(arguments.sources)
    lines = [f"{counted(len(chosen), 'source')} will be tried by the next run"]
    return Answer(lines + [f"  {source_id}" for source_id in chosen])


def _prune(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    from batchseg.api.plans import human

    output = batchseg.open(arguments.output)
    pruned = output.prune(dry_run=arguments.dry_run, everything=arguments.all)
    done = "would remove" if arguments.dry_run else "removed"
    files = counted(len(pruned.files), "file")
    what = f"{counted(len(pruned.sources), 'source')} with {files}, {human(pruned.nbytes)}"
    lines = [f"{done} {what}", *(f"  {source_id}" for source_id in pruned.sources)]
    if arguments.dry_run and pruned.files:
        lines += [f"their files, below {output.uri}:", *(f"  {path}" for path in pruned.files)]
    return Answer(lines)


def root_of(given: str) -> str:
    """The root of an output, for what the face has no method for; the options of its storage are set."""
    from batchseg.system import storage

    output = batchseg.open(given)
    storage.configure(output.storage)
    return output.uri
