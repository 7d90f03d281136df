"""What a benchmark keeps: each round's figures, their ratios, and the machine. A JSON file per case."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
RECORDS = REPOSITORY / "docs" / "benchmarks"

LOOK_SECONDS = 1.0
"""How long the cores are looked at before a case."""

LIBRARIES = ("paddlepaddle", "onnxruntime", "openvino", "ray", "rasterio", "numpy", "s3fs")


class SkippedError(Exception):
    """A case that cannot be measured here, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table: a ratio of two sides measured in turn, or one side alone."""

    what: str
    above: tuple[float, ...]
    """The numerator, or the figure itself, by round."""
    below: tuple[float, ...] = ()
    """The denominator, by round; empty: `above` is no ratio."""
    above_unit: str = ""
    below_unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    aim: float | None = None
    note: str = ""

    @property
    def rounds(self) -> tuple[float, ...]:
        """Each round's ratio, or figure: a machine's slow minute hits both sides of a ratio.

        >>> Figure(what="", above=(2.0, 9.0), below=(4.0, 10.0)).rounds
        (0.5, 0.9)
        """
        if not self.below:
            return self.above
        return tuple(a / b for a, b in zip(self.above, self.below, strict=True))

    @property
    def value(self) -> float:
        return statistics.median(self.rounds)

    @property
    def is_reached(self) -> bool | None:
        """Whether the limit is kept; None: there is none."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The figures of one case, and when and where they were taken."""

    name: str
    """A letter."""
    title: str
    figures: tuple[Figure, ...]
    date: str
    seconds: float
    commit: str
    machine: Mapping[str, str]
    quiet: Mapping[str, float]
    """How quiet the machine was, see `Watch`."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """What a reader may want to look up: step seconds, sizes."""


class Watch:
    """Date, load and time that the hypervisor took, from its making to `end`.

    `busy_before` is the share of all cores that others kept busy in the second before; the load at the end
    includes the benchmark's own.
    """

    def __init__(self) -> None:
        before = _cpu_times()
        time.sleep(LOOK_SECONDS)
        self._times = _cpu_times()
        self._busy = 1 - _share(before, self._times, ("idle", "iowait"))
        self._load, self._began = os.getloadavg()[0], time.monotonic()
        self.date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")

    def end(self) -> tuple[float, dict[str, float]]:
        """Seconds, and how quiet it was."""
        stolen = _share(self._times, _cpu_times(), ("steal",))
        quiet = {
            "busy_before": round(self._busy, 3),
            "load_start": round(self._load, 2),
            "load_end": round(os.getloadavg()[0], 2),
            "stolen": round(stolen, 3),
        }
        return time.monotonic() - self._began, quiet


def in_turn(
    rounds: int, sides: Mapping[str, Callable[[], float]], say: Callable[[str], None] = lambda text: None
) -> dict[str, tuple[float, ...]]:
    """Measure each side once per round, every other round in the opposite order."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            found[name].append(sides[name]())
            say(f"round {number + 1}: {name} {found[name][-1]:.4g}")
    return {name: tuple(values) for name, values in found.items()}


def measured(
    name: str, title: str, measure: Callable[[], tuple[Sequence[Figure], Mapping[str, object]]]
) -> Case:
    """Run a case. Raises SkippedError."""
    watch = Watch()
    figures, extra = measure()
    seconds, quiet = watch.end()
    return Case(
        name=name,
        title=title,
        figures=tuple(figures),
        date=watch.date,
        seconds=round(seconds, 1),
        commit=commit(),
        machine=machine(),
        quiet=quiet,
        extra=extra,
    )


def save(case: Case, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case.name}.json"
    path.write_text(json.dumps(dataclasses.asdict(case), indent=1, ensure_ascii=False) + "\n")
    return path


def load(folder: Path) -> list[Case]:
    return [_case(json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]


def _case(values: dict) -> Case:
    figures = tuple(
        Figure(**(figure | {side: tuple(figure[side]) for side in ("above", "below")}))
        for figure in values["figures"]
    )
    return Case(**(values | {"figures": figures}))


def commit() -> str:
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def machine() -> dict[str, str]:
    """CPU, cores, memory, and versions of what matters."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {
        "cpu": cpu or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "python": platform.python_version(),
    }
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_times() -> dict[str, int]:
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    words = Path("/proc/stat").read_text().split(maxsplit=len(names) + 1)
    return dict(zip(names, map(int, words[1 : len(names) + 1]), strict=True))


def _share(before: dict[str, int], after: dict[str, int], names: Sequence[str]) -> float:
    total = sum(after.values()) - sum(before.values())
    return sum(after[name] - before[name] for name in names) / max(total, 1)
