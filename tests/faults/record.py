"""What the campaign keeps of a trial: one line of JSON, by which docs/reliability.md is written."""

import dataclasses
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
RECORDS = REPOSITORY / "docs" / "reliability"
"""A file of lines per section of the campaign, committed beside the page that is made of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Faults of one kind put into one job, and what became of it after the last resume."""

    section: str
    """Module of the campaign: kills, hosts, proxied, disks, processes, hostile, rivals, soak, secrecy."""
    fault: str
    """One row of the page's table, in the words of a reader."""
    seed: int
    """Replays the trial: `make faults ARGS="SECTION --only FAULT --seed SEED"`."""
    times: int = 1
    """Faults that were injected."""
    runs: int = 1
    """Runs of `batchseg` that the faults met, resumes included."""
    ended_right: int
    """Of these, those that ended by themselves with the exit code that docs/operating.md promises.
    A run that was itself killed counts as ended right where the next one went on."""
    identical: bool | None = None
    """Masks and regions byte by byte, and rows but for times, are those of an undisturbed run; or None."""
    predicted: int = 0
    """Tiles that an undisturbed run predicts."""
    repeated: int = 0
    """Tiles predicted more than once."""
    unaccounted: int = 0
    """Of these, tiles that were recorded before they were predicted again: promised to be 0."""
    cost_s: float = 0.0
    """Seconds that the faults cost: all runs together less the undisturbed one; or as `cost` says."""
    cost: str = ""
    """What `cost_s` measures, where it is not the above."""
    left: tuple[str, ...] = ()
    """Files, processes and shared memory that batchseg itself did not clean."""
    found: str = ""
    """What went wrong, in a sentence; empty where all is as promised."""
    note: str = ""
    commit: str = field(default_factory=lambda: _commit())
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M"))
    machine: str = field(default_factory=lambda: _machine())

    @property
    def kept_promises(self) -> bool:
        as_before = self.identical is not False and not self.unaccounted
        return self.ended_right == self.runs and as_before and not self.left and not self.found


def append(trials: Iterable[Trial], folder: Path = RECORDS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for trial in trials:
        with (folder / f"{trial.section}.jsonl").open("a") as file:
            file.write(json.dumps(dataclasses.asdict(trial), ensure_ascii=False) + "\n")


def read(folder: Path = RECORDS) -> Iterator[Trial]:
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            values = json.loads(line)
            yield Trial(**(values | {"left": tuple(values["left"])}))


@cache
def _commit() -> str:
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@cache
def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores {cpu or platform.machine()}, Python {platform.python_version()}"
