"""A summary in lines for people, and in JSON for programs."""

import dataclasses
import datetime as dt
import io
from collections.abc import Callable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchseg.cli.run import broken_lines
from batchseg.cli.terminal import json_lines
from batchseg.system.escape import shown
from batchseg.tools.outlines import cut
from batchseg.tools.scene_summary import SceneClass, SceneSummary
from batchseg.tools.since import local_time
from batchseg.tools.summary import (
    ClassCounts,
    ImageCounts,
    Summary,
    describe_counts,
    describe_period,
)

COLUMNS = 100
"""Width of what is printed, in characters."""

GROUPS = 30
"""Lines, or values of another attribute, that are printed; --json has all."""


def as_json(found: Summary | SceneSummary) -> list[str]:
    """All of a summary, in lines; times in ISO 8601."""

    def plain(value: Any) -> Any:
        if isinstance(value, dt.datetime):
            return value.isoformat()
        raise TypeError(type(value))

    return json_lines(dataclasses.asdict(found), default=plain)


def summary_lines(found: Summary) -> list[str]:
    """A summary as people read it, at most COLUMNS wide but for paths and reasons."""
    running = [f"running now: {found.running}; what it does is counted when it ends"] if found.running else []
    if not found.total.images:
        return [*_nothing(found), *running, *broken_lines(found.broken_rows)]
    lines = [f"{found.output}: {describe_period(found)}", f"  {describe_counts(found.total)}", *running]
    lines += ["", *_group_lines(found)]
    if found.classes:
        lines += ["", *_class_lines(found.classes)]
    if found.worst:
        lines += ["", *_worst_lines(found)]
    if found.uninspected:
        lines += [
            "",
            *_reviewed_lines(found, "too little data in", found.uninspected, found.total.uninspected),
        ]
    if found.unlike:
        lines += ["", *_reviewed_lines(found, "other values or bands in", found.unlike, found.total.unlike)]
    if found.unread:
        lines += ["", *_unread_lines(found, found.total.quarantined + found.total.failed)]
    return lines + _broken_lines(found)


def scene_lines(found: SceneSummary) -> list[str]:
    """A summary of scenes as people read it, at most COLUMNS wide but for paths and reasons."""
    aside = [f"running now: {found.running}; it goes on counting"] if found.running else []
    if found.begun:
        aside.append(f"begun and not finished, whenever: {found.begun:,}; `batchseg status` names them")
    if found.since is not None and found.without_time:
        number = f"{found.without_time:,} were recorded by a version that kept no time"
        aside.append(f"{number}, and are not counted: --since all counts them")
    if found.gone:
        aside.append(f"of them {found.gone:,} gone from the inputs: counted until `batchseg prune`")
    if not (found.done or found.unread):
        return [*_nothing(found), *aside, *broken_lines(found.broken_rows)]
    scenes = found.done + found.quarantined + found.failed
    plural = "s" * (scenes != 1)
    period = "in all" if found.since is None else f"recorded since {local_time(found.since)}"
    states = {"done": found.done, "quarantined": found.quarantined, "failed": found.failed}
    counts = ", ".join(f"{count:,} {state}" for state, count in states.items() if count)
    lines = [f"{found.output}: {scenes:,} scene{plural} {period}: {counts}", *aside]
    if found.done:
        lines += [*_totals(found), "", *_scene_class_lines(found), "", *_scene_row_lines(found)]
    if found.unread:
        lines += ["", *_unread_lines(found, found.quarantined + found.failed)]
    return lines + _broken_lines(found)


def _broken_lines(found: Summary | SceneSummary) -> list[str]:
    lines = broken_lines(found.broken_rows)
    return ["", *lines] if lines else []


def _totals(found: SceneSummary) -> list[str]:
    size = max(found.pixels, 1)
    damaged = f", of it {found.bad_pixels / size:.2%} in damaged blocks" if found.bad_pixels else ""
    nodata = f"{(found.pixels - found.valid_pixels) / size:.2%} nodata{damaged}"
    place = f", {_area(found.area_m2)}" if found.area_m2 is not None else ""
    if 0 < found.placed < found.done:
        place += f" (of the {found.placed:,} that have a CRS)"
    return [
        f"  {found.pixels:,} px, {nodata}",
        f"  valid: {found.valid_pixels:,} px{place}; {found.regions:,} regions",
    ]


def _scene_class_lines(found: SceneSummary) -> list[str]:
    with_area = found.area_m2 is not None
    headers = ["id", "class", "scenes", "regions", "px", "share", *(["area"] if with_area else [])]
    rows = [
        [
            str(c.class_id),
            _cut(c.name, 30),
            f"{c.scenes:,}",
            _regions(c),
            f"{c.pixels:,}",
            f"{c.share:.2%}",
        ]
        + ([_area(c.area_m2)] if with_area else [])
        for c in found.classes
    ]
    return _table(headers, rows, left=2)


def _regions(found: SceneClass) -> str:
    """Class 0 has regions only where the job says so."""
    return f"{found.regions:,}" if found.class_id or found.regions else ""


def _scene_row_lines(found: SceneSummary) -> list[str]:
    more = f"most nodata, first {len(found.scenes)}" if found.done > len(found.scenes) else "scene"
    headers = [more, "mostly", "px", "nodata", "regions"]
    rows = [
        [
            _cut(row.source_id, 36),
            f"{_cut(row.largest_class, 12)} {row.largest_share:.0%}" if row.largest_class else "",
            f"{row.pixels:,}",
            f"{row.nodata_share:.1%}",
            f"{row.regions:,}",
        ]
        for row in found.scenes
    ]
    return _table(headers, rows, left=2)


def _nothing(found: Summary | SceneSummary) -> list[str]:
    if found.since is None or found.last is None:
        return [f"{found.output}: nothing recorded yet"]
    return [
        f"{found.output}: nothing recorded since {local_time(found.since)}, last at {local_time(found.last)}",
        "  all there is: --since all",
    ]


def _group_lines(found: Summary) -> list[str]:
    columns: dict[str, Callable[[ImageCounts], str]] = {
        found.by: lambda c: _cut(c.name or "(none)", 40),
        "images": lambda c: f"{c.images:,}",
    }
    if found.total.fail_share is not None:
        columns |= {
            "FAIL": lambda c: f"{c.fail:,}",
            "REVIEW": lambda c: f"{c.review:,}",
            "PASS": lambda c: f"{c.passed:,}",
            "FAIL %": lambda c: "" if c.fail_share is None else f"{c.fail_share:.2%}"[:-1],
        }
    if found.total.quarantined:
        columns["quarantined"] = lambda c: f"{c.quarantined:,}"
    if found.total.failed:
        columns["failed"] = lambda c: f"{c.failed:,}"
    shown = found.groups[:GROUPS]
    rows = [[cell(group) for cell in columns.values()] for group in shown]
    lines = _table([*columns], rows, left=1)
    if len(found.groups) > GROUPS:
        rest = found.groups[GROUPS:]
        images, fails = sum(c.images for c in rest), sum(c.fail for c in rest)
        lines.append(f"and {len(rest):,} more with {images:,} images, {fails:,} FAIL: --json has all")
    return lines


def _class_lines(classes: Sequence[ClassCounts]) -> list[str]:
    with_area = any(c.area_m2 is not None for c in classes)
    headers = ["class", "images", "regions", "px", *(["area"] if with_area else [])]
    rows = [
        [_cut(c.name, 40), f"{c.images:,}", f"{c.regions:,}", f"{c.pixels:,}"]
        + ([_area(c.area_m2)] if with_area else [])
        for c in classes
    ]
    return _table(headers, rows, left=1)


def _area(m2: float | None) -> str:
    if m2 is None:
        return ""
    if m2 >= 1e6:
        return f"{m2 / 1e6:,.2f} km2"
    return f"{m2 * 1e6:,.1f} mm2" if m2 < 1 else f"{m2:,.1f} m2"


def _worst_lines(found: Summary) -> list[str]:
    headers = [f"worst {len(found.worst)}", "verdict", "rule", "class", "largest px", "regions", "sure"]
    rows = [
        [
            _cut(suspect.source_id, 27),
            suspect.verdict,
            _cut(suspect.rule, 20),
            _cut(suspect.rule_class, 12),
            f"{suspect.rule_px:,}",
            f"{suspect.region_count:,}",
            "" if suspect.confidence is None else f"{suspect.confidence:.2f}",
        ]
        for suspect in found.worst
    ]
    return _table(headers, rows, left=4)


def _reviewed_lines(found: Summary, title: str, reviewed: Sequence[tuple[str, str]], count: int) -> list[str]:
    title = _first(f"{title} {count:,}", reviewed, count)
    lines = [title, *(f"  {source_id}: {reason}" for source_id, reason in reviewed)]
    if count > len(reviewed):
        more = count - len(reviewed)
        lines.append(f"  and {more:,} more: column review_reason of {found.table}")
    return lines


def _unread_lines(found: Summary | SceneSummary, count: int) -> list[str]:
    """Ids and reasons are whole, in whatever width: who searches them in a file or a pipe must find them."""
    title = _first(f"no result of {count:,}", found.unread, count)
    lines = [title, *(f"  {u.source_id}: {u.status}: {u.error}" for u in found.unread)]
    if count > len(found.unread):
        lines.append(f"  and {count - len(found.unread):,} more: batchseg status {found.output}")
    return lines


def _first(title: str, listed: Sequence[object], count: int) -> str:
    """With how many are listed, where that is not all."""
    return f"{title}, first {len(listed)}" if count > len(listed) else title


def _cut(text: str, width: int) -> str:
    return cut(shown(text), width, cell_len)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Aligned lines; the first `left` columns to the left, numbers to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    for number, header in enumerate(headers):
        table.add_column(Text(shown(header)), justify="left" if number < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    page = io.StringIO()
    Console(file=page, width=COLUMNS, color_system=None, force_terminal=False, force_jupyter=False).print(
        table
    )
    return [line.rstrip() for line in page.getvalue().splitlines()]
