"""`batchseg run` and `batchseg plan`: their arguments, what they do, and their words."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import batchseg
from batchseg.api.own_process import lent, send_chatter_to
from batchseg.api.stopping import stop_signals
from batchseg.cli.terminal import Answer, Say, Streams
from batchseg.errors import EXIT_OK, EXIT_QUARANTINED, DeadlineError, StoppedError
from batchseg.system.amounts import counted

if TYPE_CHECKING:
    from batchseg.driver.report import Report

EXIT_CODES = """\
exit codes:
  0  all done, or nothing to do
  1  a defect of batchseg
  2  wrong configuration or inputs; nothing was started
  3  finished; some sources newly quarantined or failed, or rows of lists left out because they are broken
  4  the model cannot be used
  5  stopped in time or by the environment (signal, deadline, output failing); the same command resumes
  6  another run holds this output
"""

REFUSALS_SHOWN = 100


def add_run_commands(commands: Any, job: argparse.ArgumentParser) -> None:
    """Add `run` and `plan`.

    Args:
        commands: of the whole program.
        job: the parser of the arguments that name a job.
    """
    run = commands.add_parser(
        "run",
        parents=[job],
        help="do what is left of a job",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    run.add_argument("--quiet", action="store_true", help="print nothing at all when all is well")
    run.add_argument(
        "--executor", choices=("auto", "processes", "ray", "inline"), help="override the job's `executor`"
    )
    run.add_argument("--ray-address", metavar="ADDRESS", help="use this Ray cluster instead of a local one")
    run.add_argument(
        "--deadline", metavar="TIME", help="stop at a time or after a while: 06:00, 7.5h or 90m; exit code 5"
    )
    run.add_argument(
        "--deadline-exit-code",
        type=_exit_code,
        default=StoppedError.exit_code,
        metavar="CODE",
        help="of a run that its deadline ended, in place of 5, for schedulers that tell codes apart",
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
    run.set_defaults(action=_run)

    plan = commands.add_parser(
        "plan", parents=[job], help="show what a run would do, and write nothing", allow_abbrev=False
    )
    plan.set_defaults(action=_plan, only_looks=True)


def _run(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    overrides = list(arguments.overrides)
    for key in ("executor", "ray_address", "deadline"):
        value = getattr(arguments, key)
        if value is not None:
            overrides.append(f"{key}={json.dumps(value)}")
    job = batchseg.load_job(arguments.job, overrides=overrides)
    stop = stop_signals()
    streams.take()
    try:
        with lent(stop=stop, chatter=send_chatter_to):
            report = batchseg.run(
                job,
                progress=False if arguments.quiet else streams.err,
                replace=arguments.replace,
                profile=arguments.profile,
            )
    except DeadlineError as e:
        e.exit_code = arguments.deadline_exit_code
        raise
    code = EXIT_QUARANTINED if report.refused or report.broken_rows else EXIT_OK
    return Answer(report_lines(report, quiet=arguments.quiet), code)


def _exit_code(text: str) -> int:
    code = int(text)
    if not 0 <= code <= 255:
        raise ValueError(text)
    return code


def _plan(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    job = batchseg.load_job(arguments.job, overrides=arguments.overrides)
    streams.take()
    return Answer(str(batchseg.plan(job, say=say)).split("\n"))


def report_lines(report: "Report", *, quiet: bool) -> list[str]:
    """What a run did. `quiet`: only what was refused, and what is odd."""
    from batchseg.driver.progress import describe_damage

    lines = []
    if not quiet:
        lines += [f"run {report.run_id}: {_counts(report)}"]
        if report.verdicts:
            verdicts = verdict_words(report.verdicts)
            lines += [f"  verdicts of all: {verdicts}   batchseg summary {report.output}"]
        if report.uninspected:
            lines += [f"  {report.uninspected} of these are REVIEW because too little has data (min_valid)"]
        if report.unlike:
            lines += [f"  {report.unlike} of these are REVIEW for their values or bands (check_values)"]
        lines += _classes(report)
        lines += _speed(report)
        lines += [f"  {report.rasters}: {report.masks}   table: {report.items}"]
        lines += [f"  log:   {report.log}"]
        lines += [f"warning: {line}" for line in report.warnings]
        lines += [f"  {line}" for line in report.left_out if line not in report.broken_rows]
        if report.damaged:
            lines += [
                f"{counted(len(report.damaged), 'scene')} done with damaged blocks (nodata in the mask):"
            ]
            lines += _first([f"  {r.source_id}: {describe_damage(r)}" for r in report.damaged], report)
    elif report.classes.warning:
        lines += [f"warning: {report.classes.warning}"]
    for kind in ("quarantined", "failed"):
        records = [record for record in report.refused if record.status == kind]
        if records:
            note = "until the file changes" if kind == "quarantined" else "the next run tries again"
            lines += [f"{counted(len(records), 'source')} {kind} ({note}):"]
            lines += _first([f"  {record.source_id}: {record.error}" for record in records], report)
    return lines + broken_lines(report.broken_rows)


def broken_lines(rows: Sequence[str]) -> list[str]:
    """What is said of rows of lists that are broken."""
    return ["rows of lists are not done (until the list is mended):", *(f"  {row}" for row in rows)] * bool(
        rows
    )


def _counts(report: "Report") -> str:
    what = "scene" if report.verdicts is None else "photograph"
    counts = [f"{counted(report.tally.done, what)} done"]
    counts += [f"{report.copied} of them known by content"] if report.copied else []
    counts += [f"{report.rejudged} judged again"] if report.rejudged else []
    counts += [f"{report.skipped} done before"] if report.skipped else []
    counts += [f"{report.still_quarantined} quarantined before"] if report.still_quarantined else []
    counts += [f"{report.young} too young"] if report.young else []
    return ", ".join(counts)


def _classes(report: "Report") -> list[str]:
    """What the pixels of this run are."""
    tiles = report.seams.in_words
    places = [f"  places of tiles: {tiles}"] if tiles else []
    if not report.classes.shares:
        return places
    doubt = ""
    if report.classes.only_class is not None and not report.classes.warning:
        doubt = " (if that cannot be, `batchseg plan` shows what the network gets)"
    return [f"  classes: {report.classes.in_words}{doubt}", *places]


def _speed(report: "Report") -> list[str]:
    """How fast it was, and what would make it faster."""
    from batchseg.driver.bottleneck import bound_words, diagnose
    from batchseg.driver.progress import duration

    sums = report.sums
    if not sums.tiles:
        return []
    usage = sums.usage()
    found = diagnose(usage)
    bound = bound_words(found.bound)
    proof = f" ({report.choice.proof})" if report.choice.proof else ""
    seams = [f"  seams: {report.choice.seams}"] if report.choice.seams and not report.choice.narrow else []
    return [
        f"  {counted(sums.tiles, 'tile')} in {duration(sums.elapsed)}: {sums.rates()}",
        f"  predictors: {usage.in_words}",
        f"  {bound}{found.advice}",
        f"  engine: {report.choice.summary}{proof}",
        *seams,
    ]


def verdict_words(verdicts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())


def _first(lines: Sequence[str], report: "Report") -> list[str]:
    more = len(lines) - REFUSALS_SHOWN
    rest = [f"  and {more} more: batchseg status {report.output}"] if more > 0 else []
    return [*lines[:REFUSALS_SHOWN], *rest]
