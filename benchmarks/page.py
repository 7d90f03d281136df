"""The tables of docs/benchmarks.md, from the JSON files beside it: `python -m benchmarks.page`."""

import textwrap
from collections.abc import Iterable
from pathlib import Path

from benchmarks.record import RECORDS, Case, Figure, load

PAGE = RECORDS.with_suffix(".md")
BEGIN, END = "<!-- tables: made by `make bench` -->", "<!-- end of the tables -->"

HEAD = "| what | median | spread | rounds | at least | aim | reached | measured |"


def tables(cases: Iterable[Case]) -> str:
    """One table per case, one line per figure."""
    return "\n\n".join(table(case) for case in cases)


def table(case: Case) -> str:
    lines = [_line(figure) for figure in case.figures]
    notes = sorted({figure.note for figure in case.figures if figure.note})
    parts = [f"### {case.name}: {case.title}", "", _when(case), "", HEAD, "|" + "---|" * 8, *lines]
    notes += case.extra.get("left_out", ())
    return "\n".join([*parts, *(["", wrapped("; ".join(notes) + ".")] if notes else [])])


def _line(figure: Figure) -> str:
    rounds = figure.rounds
    limit = "" if figure.at_least is None else short(figure.at_least)
    if figure.at_most is not None:
        limit = f"at most {short(figure.at_most)}"
    cells = (
        figure.what,
        f"**{short(figure.value)}**{'' if figure.below else f' {figure.above_unit}'}",
        f"{short(min(rounds))} to {short(max(rounds))}" if len(rounds) > 1 else "",
        str(len(rounds)),
        limit,
        "" if figure.aim is None else short(figure.aim),
        {True: "yes", False: "no", None: ""}[figure.is_reached],
        _measured(figure),
    )
    return "| " + " | ".join(cells) + " |"


def _measured(figure: Figure) -> str:
    """Medians of both sides."""
    if not figure.below:
        return ""
    above, below = (Figure(what="", above=side).value for side in (figure.above, figure.below))
    return f"{short(above)} {figure.above_unit} / {short(below)} {figure.below_unit}".strip()


def short(number: float) -> str:
    """
    >>> short(0.9234), short(12.345), short(3088.2), short(18), short(0.00421)
    ('0.92', '12.3', '3,088', '18', '0.0042')
    """
    if number == round(number) and abs(number) < 1e4:
        return str(round(number))
    if abs(number) >= 100:
        return f"{number:,.0f}"
    if abs(number) >= 10:
        return f"{number:.1f}"
    return f"{number:.2f}" if abs(number) >= 0.1 else f"{number:.2g}"


def _when(case: Case) -> str:
    machine, quiet = case.machine, case.quiet
    versions = ", ".join(
        f"{name} {text}" for name, text in machine.items() if name not in ("cpu", "cores", "memory")
    )
    return wrapped(
        f"{case.date} UTC, {case.seconds / 60:.0f} min; {machine['cores']} cores {machine['cpu']}, "
        f"{machine['memory']}; {versions}; commit {case.commit}. Load average {quiet['load_start']} at the "
        f"start, {quiet['load_end']} at the end; {quiet['busy_before']:.0%} of the cores busy in the second "
        f"before; {quiet['stolen']:.0%} of the time taken by the hypervisor."
    )


def wrapped(text: str) -> str:
    return textwrap.fill(text, 110)


def update(folder: Path) -> Path:
    """Put the tables of a folder's cases into the page beside it, or into a file of their own.

    Args:
        folder: of JSON files, one per case; FOLDER.md is the page, if it has the markers.
    """
    page, text = folder.with_suffix(".md"), tables(load(folder))
    if page.exists() and BEGIN in (before := page.read_text()):
        head, rest = before.split(BEGIN)
        page.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")
        return page
    page = folder / "table.md"
    page.write_text(text + "\n")
    return page


if __name__ == "__main__":
    print(update(RECORDS))
