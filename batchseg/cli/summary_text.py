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

from batchseg.cli.terminal import json_lines
from batchseg.system.escape import shown
from batchseg.tools.outlines import cut
from batchseg.tools.summary import (
    ClassCounts,
    ImageCounts,
    Summary,
    describe_counts,
    describe_period,
    local_time,
)

COLUMNS = 100
"""Width of what is printed, in characters."""

GROUPS = 30
"""Lines, or values of another attribute, that are printed; --json has all."""


def as_json(found: Summary) -> list[str]:
    """All of a summary, in lines; times in ISO 8601."""

    def plain(value: Any) -> Any:
        if isinstance(value, dt.datetime):
            return value.isoformat()
        raise TypeError(type(value))

    return json_lines(dataclasses.asdict(found), default=plain)


def summary_lines(found: Summary) -> list[str]:
    """A summary as people read it, at most COLUMNS wide."""
    running = [f"running now: {found.running}; what it does is counted when it ends"] if found.running else []
    if not found.total.images:
        return [*_nothing(found), *running]
    lines = [f"{found.output}: {describe_period(found)}", f"  {describe_counts(found.total)}", *running]
    lines += ["", *_group_lines(found)]
    if found.classes:
        lines += ["", *_class_lines(found.classes)]
    if found.worst:
        lines += ["", *_worst_lines(found)]
    if found.uninspected:
        lines += ["", *_uninspected_lines(found)]
    if found.unread:
        lines += ["", *_unread_lines(found)]
    return lines


def _nothing(found: Summary) -> list[str]:
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


def _uninspected_lines(found: Summary) -> list[str]:
    count = found.total.uninspected
    title = _first(f"too little data in {count:,}", found.uninspected, count)
    rows = [[_cut(source_id, 34), _cut(reason, 62)] for source_id, reason in found.uninspected]
    return _table([title, "why"], rows, left=2)


def _unread_lines(found: Summary) -> list[str]:
    count = found.total.quarantined + found.total.failed
    title = _first(f"no result of {count:,}", found.unread, count)
    rows = [[_cut(u.source_id, 34), u.status, _cut(u.error, 50)] for u in found.unread]
    return _table([title, "", "why"], rows, left=3)


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
