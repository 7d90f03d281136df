"""Commands for outputs of photographs: `summary`, and `export` to COCO. Returns lines; cli.py prints them.

Commands import what they need when they are called: see cli.py.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from batchseg.errors import ConfigError

Say = Callable[[str], None]

LISTED = 20
"""Images that a summary names, unless --images says how many."""

MOST_IMAGES = 500
"""On a contact sheet."""


def add_photo_commands(
    commands: Any, output: argparse.ArgumentParser, resolve: Callable[[argparse.Namespace], str]
) -> None:
    """Add `summary`; it sets `lines`, a function of (arguments, say).

    Args:
        commands: of the whole program.
        output: the parser of the argument OUTPUT.
        resolve: that argument to an output's root.
    """
    summary = commands.add_parser(
        "summary",
        parents=[output],
        help="show what was found in photographs lately: verdicts, lines, classes, the worst images",
        allow_abbrev=False,
    )
    summary.add_argument(
        "--since",
        default="24h",  # not `run`: a night may take two, and the last may have found nothing to do
        metavar="WHEN",
        help="24h (the default), 7d, today, yesterday, 2026-11-19, 2026-11-19T22:00, run (the last run's "
        "start) or all",
    )
    summary.add_argument(
        "--by",
        metavar="NAME",
        help="count by this column of the manifest, or by `folder`; else by its `line`",
    )
    summary.add_argument("--json", action="store_true", help="print JSON")
    summary.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="draw the worst images, their defects outlined"
    )
    summary.add_argument(
        "--images",
        type=int,
        default=LISTED,
        metavar="N",
        help=f"name and draw so many of the worst, {LISTED} by default",
    )
    summary.set_defaults(lines=partial(_summary, resolve))


def coco_lines(output: str, target: Path, *, classes: tuple[str, ...], crs: str | None) -> list[str]:
    """Export to COCO. Raises ConfigError or OutputError."""
    from batchseg.tools.export_coco import export_coco

    if crs is not None:
        msg = f"--crs {crs}: photographs have no place; COCO is in pixels"
        raise ConfigError(msg)
    done = export_coco(output, target, classes=classes)
    return [f"{done.path}: {done.images:,} images, {done.annotations:,} annotations"]


def _summary(
    resolve: Callable[[argparse.Namespace], str], arguments: argparse.Namespace, say: Say
) -> Sequence[str]:
    from batchseg.cli.summary_text import as_json, summary_lines
    from batchseg.tools.sheet import write_sheet
    from batchseg.tools.summary import summarize

    if not 1 <= arguments.images <= MOST_IMAGES:
        msg = f"--images {arguments.images}: expected 1 to {MOST_IMAGES}"
        raise ConfigError(msg)
    found = summarize(resolve(arguments), since=arguments.since, by=arguments.by, worst=arguments.images)
    lines = [as_json(found)] if arguments.json else summary_lines(found)
    if arguments.sheet is not None:
        sheet = write_sheet(found, arguments.sheet)
        hidden = f", {len(sheet.absent)} of them cannot be shown" if sheet.absent else ""
        note = f"{sheet.path}: {sheet.images} images{hidden}"
        if arguments.json:
            say(note)
        else:
            lines += ["", note]
    return lines
