"""The table of docs/reliability.md, from the campaign's records: `python -m faults.page`."""

import statistics
import textwrap
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from faults.record import RECORDS, REPOSITORY, Trial, read

PAGE = REPOSITORY / "docs" / "reliability.md"
BEGIN, END = "<!-- table: made by `make reliability` -->", "<!-- end of the table -->"

TITLES = {
    "kills": "SIGKILL",
    "hosts": "A cluster of three hosts",
    "proxied": "Storage: S3 through a proxy",
    "disks": "Disks",
    "processes": "Processes that misbehave",
    "hostile": "Hostile input",
    "rivals": "Two runs, clocks, changes between runs",
    "soak": "Time",
    "secrecy": "Secrets",
}
HEAD = "| fault | trials | faults | runs | ended right | identical | repeated | worst cost | kept |"


def table(trials: Iterable[Trial]) -> str:
    """One table per section, one line per fault."""
    sections: dict[str, dict[str, list[Trial]]] = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        sections[trial.section][trial.fault].append(trial)
    parts = []
    for section, title in TITLES.items():
        if faults := sections.get(section):
            lines = [_line(fault, of_it) for fault, of_it in faults.items()]
            parts.append("\n".join([f"### {title}", "", _when(faults), "", HEAD, "|" + "---|" * 9, *lines]))
    return "\n\n".join(parts)


def _line(fault: str, trials: list[Trial]) -> str:
    compared = [trial.identical for trial in trials if trial.identical is not None]
    predicted, repeated = sum(t.predicted for t in trials), sum(t.repeated for t in trials)
    worst = max(trials, key=lambda trial: trial.cost_s)
    cells = (
        fault,
        str(len(trials)),
        str(sum(trial.times for trial in trials)),
        str(sum(trial.runs for trial in trials)),
        str(sum(trial.ended_right for trial in trials)),
        f"{sum(compared)} of {len(compared)}" if compared else "",
        f"{100 * repeated / predicted:.1f} %" if predicted else "",
        f"{worst.cost_s:.1f} s{f' ({worst.cost})' if worst.cost else ''}",
        f"{sum(trial.kept_promises for trial in trials)} of {len(trials)}",
    )
    return "| " + " | ".join(cells) + " |"


def _when(faults: dict[str, list[Trial]]) -> str:
    trials = [trial for of_it in faults.values() for trial in of_it]
    dates = sorted(trial.date for trial in trials)
    commits = sorted({trial.commit for trial in trials})
    machine = statistics.mode(trial.machine for trial in trials)
    text = f"{dates[0]} to {dates[-1]} UTC, {machine}; commits {', '.join(commits)}."
    return textwrap.fill(text, 110)


def main(records: Path = RECORDS, page: Path = PAGE) -> None:
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table(read(records))}\n{END}{after}")


if __name__ == "__main__":
    main()
