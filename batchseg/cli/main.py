"""The command line: the only module that prints and exits.

Commands import what they need when they are called: a second run on an output is refused before the
second that the libraries take.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from batchseg import __version__
from batchseg.cli.model import add_model_commands
from batchseg.cli.photo import add_photo_commands
from batchseg.cli.terminal import Streams, keep_exit_code, stop_reasons
from batchseg.driver.begin import Begun, begin, new_run_id
from batchseg.errors import EXIT_DEFECT, EXIT_OK, EXIT_QUARANTINED, BatchsegError, ConfigError
from batchseg.job.file import load_job
from batchseg.job.settings import JobConfig
from batchseg.system import storage
from batchseg.system.disks import disk_failures
from batchseg.system.redact import hidden

if TYPE_CHECKING:
    from batchseg.driver.report import Report
    from batchseg.driver.tasks import Stop
    from batchseg.tools.status import Status

EXIT_CODES = """\
exit codes:
  0  all done, or nothing to do
  1  a defect of batchseg
  2  wrong configuration or inputs; nothing was started
  3  finished; some sources newly quarantined or failed
  4  the model cannot be used
  5  stopped in time or by the environment (signal, deadline, output failing); the same command resumes
  6  another run holds this output
"""


REFUSALS_SHOWN = 100
PROBLEMS_SHOWN = 100
"""One damaged table of regions is a problem of each of its sources."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script: parse, run, print, exit."""
    streams = Streams()
    arguments = _parser().parse_args(argv)
    try:
        _check_current_folder()
        with disk_failures("stopped"):
            code = getattr(arguments, "function", _model)(arguments, streams)
    except BatchsegError as e:
        # Under --quiet too: cron sends on what is printed, and looks at no exit code.
        streams.give_back()
        _say(f"batchseg: {e}", sys.stderr)
        code = e.exit_code
    except Exception:  # noqa: BLE001  shown without credentials, which Python would not leave out
        streams.give_back()  # a traceback must reach the user, not the chatter's file
        _say(traceback.format_exc(), sys.stderr)
        code = EXIT_DEFECT
    except BaseException:
        streams.give_back()
        raise
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    from batchseg.system.threads import Helper  # here: it imports more than a refused run needs

    if Helper.given_up:  # Python would wait for the threads of pools that hang
        os._exit(code)
    keep_exit_code()
    sys.exit(code)


def _check_current_folder() -> None:
    """Processes that are started need one."""
    try:
        Path.cwd()
    except FileNotFoundError as e:
        msg = "the current folder was deleted; change to one that exists"
        raise ConfigError(msg) from e


def _say(text: str, stream: TextIO) -> None:
    """Print; a full disk or a reader that left (`| head`) does not change how a run ended."""
    with contextlib.suppress(OSError):
        print(hidden(text), file=stream, flush=True)
    if stream is sys.stdout:
        with contextlib.suppress(OSError):
            stream.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="batchseg",
        description="Segment archives of rasters with a PaddleSeg model: tiled, distributed, resumable.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"batchseg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    job = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    job.add_argument("job", type=Path, metavar="JOB.yaml", help="the job file")
    job.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key of the job file, such as halo=32 or scale.divide=10000; may be repeated",
    )

    run = commands.add_parser(
        "run",
        parents=[job],
        help="do what is left of a job",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    run.add_argument("--quiet", action="store_true", help="print nothing at all when all is well")
    run.add_argument("--executor", choices=("ray", "inline"), help="override the job's `executor`")
    run.add_argument("--ray-address", metavar="ADDRESS", help="use this Ray cluster instead of a local one")
    run.add_argument(
        "--deadline", metavar="TIME", help="stop at a time or after a while: 06:00, 7.5h or 90m; exit code 5"
    )
    run.add_argument(
        "--replace",
        action="store_true",
        help="predict everything again where settings differ from the output's",
    )
    run.add_argument(
        "--profile",
        action="store_true",
        help="write when each step ran to profile.json beside the run's log, for ui.perfetto.dev",
    )
    run.set_defaults(function=_run)

    plan = commands.add_parser(
        "plan", parents=[job], help="show what a run would do, and write nothing", allow_abbrev=False
    )
    plan.set_defaults(function=_plan)

    output = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    output.add_argument("output", metavar="OUTPUT", help="the job's output, or the job file")

    status = commands.add_parser(
        "status", parents=[output], help="show what an output holds", allow_abbrev=False
    )
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(function=_status)

    verify = commands.add_parser(
        "verify",
        parents=[output],
        help="compare every file and table row of an output with its ledger",
        description="Exit code 0: all is as recorded. 3: something is missing or differs.",
        allow_abbrev=False,
    )
    verify.add_argument("--quick", action="store_true", help="compare sizes and rows, not checksums")
    verify.set_defaults(function=_verify)

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
    export.set_defaults(function=_export)

    retry = commands.add_parser(
        "retry", parents=[output], help="let the next run try quarantined sources again", allow_abbrev=False
    )
    retry.add_argument("sources", nargs="*", metavar="SOURCE", help="source ids; all if none is named")
    retry.set_defaults(function=_retry)

    prune = commands.add_parser(
        "prune",
        parents=[output],
        help="remove the results of sources that the last run did not find any more",
        allow_abbrev=False,
    )
    prune.add_argument("--dry-run", action="store_true", help="say what would be removed")
    prune.add_argument("--all", action="store_true", help="prune even if the last run found no source at all")
    prune.set_defaults(function=_prune)
    add_photo_commands(commands, output, _output)
    add_model_commands(commands, job)
    return parser


def _model(arguments: argparse.Namespace, streams: Streams) -> int:
    streams.take()
    lines = arguments.lines(arguments, lambda line: _say(line, streams.err))
    streams.give_back()
    for line in lines:
        _say(line, sys.stdout)
    return EXIT_OK


def _load(arguments: argparse.Namespace) -> JobConfig:
    overrides = list(arguments.overrides)
    for key in ("executor", "ray_address", "deadline"):
        value = getattr(arguments, key, None)
        if value is not None:
            overrides.append(f"{key}={json.dumps(value)}")
    return load_job(arguments.job, overrides)


def _run(arguments: argparse.Namespace, streams: Streams) -> int:
    config = _load(arguments)
    stop = stop_reasons(config.deadline)
    streams.take()
    with begin(config) as begun:
        streams.send_chatter_to(begun.chatter)
        report = _run_begun(config, begun, arguments, streams.err, stop)
    streams.give_back()
    if report.refused or not arguments.quiet:
        _print_report(report, begun.run_id, sys.stdout, quiet=arguments.quiet)
    return EXIT_QUARANTINED if report.refused else EXIT_OK


def _run_begun(
    config: JobConfig, begun: Begun, arguments: argparse.Namespace, err: TextIO, stop: Stop
) -> Report:
    from batchseg.cli.progress import PlainProgress, TerminalProgress, is_terminal
    from batchseg.driver.job import run_job
    from batchseg.driver.progress import Sums

    sums = Sums()
    progress: TerminalProgress | PlainProgress | None = None
    if not arguments.quiet:
        progress = (
            TerminalProgress(sums, err)
            if is_terminal(err)
            else PlainProgress(sums, lambda line: _say(line, err))
        )
    listeners = [sums, *([progress] if progress else [])]
    try:
        return run_job(
            config,
            begun,
            listeners=listeners,
            stop=stop,
            replace=arguments.replace,
            profile=arguments.profile,
        )
    finally:
        if progress:
            progress.close()


def _print_report(report: Report, run_id: str, out: TextIO, *, quiet: bool) -> None:
    from batchseg.driver.bottleneck import diagnose
    from batchseg.driver.progress import describe_damage, duration

    tally, sums = report.tally, report.sums
    if not quiet:
        what = "scenes" if report.verdicts is None else "photographs"
        counts = [f"{tally.done} {what} done"]
        counts += [f"{report.copied} of them known by content"] if report.copied else []
        counts += [f"{report.rejudged} judged again"] if report.rejudged else []
        counts += [f"{report.skipped} done before"] if report.skipped else []
        counts += [f"{report.still_quarantined} quarantined before"] if report.still_quarantined else []
        counts += [f"{report.young} too young"] if report.young else []
        _say(f"run {run_id}: {', '.join(counts)}", out)
        if report.verdicts:
            verdicts = _verdict_words(report.verdicts)
            _say(f"  verdicts of all: {verdicts}   batchseg summary {report.output}", out)
        if sums.tiles:
            _say(f"  {sums.tiles} tiles in {duration(sums.elapsed)}: {sums.rates()}", out)
            usage = sums.usage()
            found = diagnose(usage)
            what = f"bound by {found.bound}: " if found.bound else ""
            _say(f"  predictors: {usage.in_words}", out)
            _say(f"  {what}{found.advice}", out)
            proof = f" ({report.choice.proof})" if report.choice.proof else ""
            _say(f"  engine: {report.choice.summary}{proof}", out)
        _say(f"  masks: {report.masks}   table: {report.items}", out)
        _say(f"  log:   {report.log}", out)
        if report.damaged:
            _say(f"{len(report.damaged)} scenes done with damaged blocks (nodata in the mask):", out)
            _say_some([f"  {r.source_id}: {describe_damage(r)}" for r in report.damaged], report, out)
    for kind in ("quarantined", "failed"):
        records = [record for record in report.refused if record.status == kind]
        if records:
            note = "until the file changes" if kind == "quarantined" else "the next run tries again"
            _say(f"{len(records)} sources {kind} ({note}):", out)
            _say_some([f"  {record.source_id}: {record.error}" for record in records], report, out)


def _verdict_words(verdicts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())


def _say_some(lines: Sequence[str], report: Report, out: TextIO) -> None:
    for line in lines[:REFUSALS_SHOWN]:
        _say(line, out)
    if len(lines) > REFUSALS_SHOWN:
        more = len(lines) - REFUSALS_SHOWN
        _say(f"  and {more} more: batchseg status {report.output}", out)


def _plan(arguments: argparse.Namespace, streams: Streams) -> int:
    from batchseg.cli.words import planned_lines

    config = _load(arguments)
    streams.take()
    lines = planned_lines(config, lambda line: _say(line, streams.err))
    streams.give_back()
    _say("\n".join(lines), sys.stdout)
    return EXIT_OK


def _status(arguments: argparse.Namespace, streams: Streams) -> int:
    from batchseg.tools.status import read_status

    status = read_status(_output(arguments))
    if arguments.json:
        _say(json.dumps(dataclasses.asdict(status), indent=1), sys.stdout)
    else:
        _print_status(status, sys.stdout)
    return EXIT_OK


def _output(arguments: argparse.Namespace) -> str:
    """An output, given as such or by its job file, which knows the storage's options."""
    given: str = arguments.output
    if given.endswith((".yaml", ".yml")) and Path(given).is_file():
        config = load_job(Path(given))
        storage.configure(config.storage)
        return config.output
    return given.rstrip("/") if "://" in given else str(Path(given).resolve())


def _print_status(status: Status, out: TextIO) -> None:
    from batchseg.driver.bottleneck import share_words

    what = "scenes" if status.verdicts is None else "photographs"
    _say(f"{status.output}: {status.done} {what} done, {status.pixels_done / 1e6:.1f} Mpx", out)
    if status.verdicts:
        _say(f"verdicts: {_verdict_words(status.verdicts)}   batchseg summary {status.output}", out)
    _say(f"running now: {status.running or 'nothing'}", out)
    for scene in status.unfinished:
        what = f"{scene.shards_done} shards, {scene.pixels_done / 1e6:.1f} Mpx recorded"
        _say(f"  begun: {scene.source_id}: {what}", out)
    for damaged in status.damaged:
        _say(f"  damaged: {damaged.source_id}: {damaged.bad_share:.2%} of it cannot be decoded", out)
    if (last := status.last_run) is not None:
        bound = f"bound by {last.bound_by}: " if last.bound_by else ""
        _say(f"last run: {share_words(last.shares)}; {bound}{last.advice}", out)
    if status.gone:
        _say(f"{len(status.gone)} sources are gone from the inputs, until `batchseg prune`", out)
    for source in status.refused:
        _say(f"  {source.status}: {source.source_id}: {source.error}", out)


def _verify(arguments: argparse.Namespace, streams: Streams) -> int:
    from batchseg.cli.words import human
    from batchseg.tools.verify import verify

    found = verify(_output(arguments), quick=arguments.quick, say=lambda line: _say(line, streams.err))
    for problem in found.problems[:PROBLEMS_SHOWN]:
        _say(problem, sys.stdout)
    if len(found.problems) > PROBLEMS_SHOWN:
        _say(f"and {len(found.problems) - PROBLEMS_SHOWN} more", sys.stdout)
    verdict = f"{len(found.problems)} problems" if found.problems else "all as recorded"
    counts = f"{found.sources} sources, {found.files} files, {human(found.nbytes)}, {found.rows} regions"
    _say(f"{counts}: {verdict}", sys.stdout)
    for path in found.unrecorded:
        _say(f"not recorded, left alone: {path}", sys.stdout)
    return EXIT_QUARANTINED if found.problems else EXIT_OK


def _export(arguments: argparse.Namespace, streams: Streams) -> int:
    from batchseg.cli.photo import coco_lines
    from batchseg.tools.export import export

    output, target, classes = _output(arguments), arguments.file, tuple(arguments.classes)
    if target.suffix.lower() == ".json":
        for line in coco_lines(output, target, classes=classes, crs=arguments.crs):
            _say(line, sys.stdout)
        return EXIT_OK
    done = export(output, target, crs=arguments.crs, classes=classes)
    for layer, count in done.layers:
        _say(f"{done.path}: layer {layer!r}, {count} regions", sys.stdout)
    return EXIT_OK


def _retry(arguments: argparse.Namespace, streams: Streams) -> int:
    from batchseg.tools.maintain import retry

    chosen = retry(_output(arguments), new_run_id(), arguments.sources)
    _say(f"{len(chosen)} sources will be tried by the next run", sys.stdout)
    for source_id in chosen:
        _say(f"  {source_id}", sys.stdout)
    return EXIT_OK


def _prune(arguments: argparse.Namespace, streams: Streams) -> int:
    from batchseg.cli.words import human
    from batchseg.tools.maintain import prune

    output = _output(arguments)
    pruned = prune(output, new_run_id(), dry_run=arguments.dry_run, everything=arguments.all)
    done = "would remove" if arguments.dry_run else "removed"
    what = f"{len(pruned.sources)} sources with {pruned.files} files, {human(pruned.nbytes)}"
    _say(f"{done} {what}", sys.stdout)
    for source_id in pruned.sources:
        _say(f"  {source_id}", sys.stdout)
    return EXIT_OK
