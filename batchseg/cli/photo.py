"""`batchseg summary`: what was found lately, in photographs or in scenes."""

import argparse
from pathlib import Path
from typing import Any

from batchseg.cli.outputs import root_of
from batchseg.cli.terminal import Answer, Say, Streams
from batchseg.errors import ConfigError
from batchseg.system.amounts import counted

LISTED = 20
"""Images that a summary names, unless --images says how many."""

MOST_IMAGES = 500
"""On a contact sheet."""


def add_photo_commands(commands: Any, output: argparse.ArgumentParser) -> None:
    """Add `summary`.

    Args:
        commands: of the whole program.
        output: the parser of the argument OUTPUT.
    """
    summary = commands.add_parser(
        "summary",
        parents=[output],
        help="show what was found lately: classes, areas, regions; verdicts and the worst of photographs",
        allow_abbrev=False,
    )
    summary.add_argument(
        "--since",
        metavar="WHEN",
        help="24h (the default), 7d, today, yesterday, 2026-11-19, 2026-11-19T22:00, run (the last run's "
        "start) or all",
    )
    summary.add_argument(
        "--by",
        metavar="NAME",
        help="count photographs by this column of their manifest, or by `folder`; else by its `line`",
    )
    summary.add_argument("--json", action="store_true", help="print JSON")
    summary.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="draw the worst photographs, their defects outlined"
    )
    summary.add_argument(
        "--images",
        type=int,
        default=LISTED,
        metavar="N",
        help=f"name so many of the worst photographs, and draw them, or so many scenes; {LISTED} by default",
    )
    summary.set_defaults(action=_summary)


def _summary(arguments: argparse.Namespace, streams: Streams, say: Say) -> Answer:
    from batchseg.cli.summary_text import as_json, scene_lines, summary_lines
    from batchseg.tools.scene_summary import is_of_scenes, summarize_scenes
    from batchseg.tools.sheet import write_sheet
    from batchseg.tools.summary import summarize

    streams.take()
    if not 1 <= arguments.images <= MOST_IMAGES:
        msg = f"--images {arguments.images}: expected 1 to {MOST_IMAGES}"
        raise ConfigError(msg)
    output = root_of(arguments.output)
    if is_of_scenes(output):
        _refuse_for_scenes(arguments, output)
        scenes = summarize_scenes(output, since=arguments.since, scenes=arguments.images)
        return Answer(as_json(scenes) if arguments.json else scene_lines(scenes))
    found = summarize(output, since=arguments.since, by=arguments.by, worst=arguments.images)
    lines = as_json(found) if arguments.json else summary_lines(found)
    if arguments.sheet is not None:
        sheet = write_sheet(found, arguments.sheet)
        hidden = f", {len(sheet.absent)} of them cannot be shown" if sheet.absent else ""
        note = f"{sheet.path}: {counted(sheet.images, 'image')}{hidden}"
        if arguments.json:
            say(note)
        else:
            lines += ["", note]
    return Answer(lines)


def _refuse_for_scenes(arguments: argparse.Namespace, output: str) -> None:
    if arguments.sheet is not None:
        msg = (
            f"--sheet draws photographs, and {output} holds scenes; leave it out, and open the masks in "
            f"QGIS: they have overviews, colours and class names"
        )
        raise ConfigError(msg)
    if arguments.by is not None:
        msg = f"--by counts photographs, and {output} holds scenes; leave it out"
        raise ConfigError(msg)
