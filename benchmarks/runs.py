"""Runs of the console script: job files, what a run says of itself, and its CPU seconds seen from outside."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from batchseg.driver.executors.processes.child import TITLE

INSIDE = Path(__file__).parent / "inside"

TICK = os.sysconf("SC_CLK_TCK")

SAMPLE_SECONDS = 0.1

ProcessKind = Literal["driver", "workers", "ray"]
"""The process that was started, predictors and Ray's workers, and all others below it: Ray's own."""

STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One use of a network: seconds of the epoch, and CPU seconds of its process."""

    process: int
    began: float
    ended: float
    cpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One step on one thread of a run that was profiled; seconds of the epoch."""

    step: str
    role: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that ended well."""

    command: float
    """Seconds of the epoch at which it was started."""
    seconds: float
    """From command to exit."""
    summary: Mapping[str, Any]
    work_began: float
    """Seconds of the epoch: predictors were ready, the first lease went out."""
    calls: tuple[Call, ...]
    """Uses of the network after that, in the order of their ends; none unless they were noted."""
    bars: tuple[Bar, ...] = ()
    """Of its profile, in the order of their beginnings; none unless noted."""
    meter: "CpuMeter | None" = None
    """CPU seconds of its processes; None unless noted."""

    @property
    def work_seconds(self) -> float:
        """After start-up, the tail included; Ray's shutdown is not."""
        return float(self.summary["seconds_after_start"])

    @property
    def work_ended(self) -> float:
        """Seconds of the epoch: the last mask and table are in their places."""
        return self.work_began + self.work_seconds

    @property
    def cpu(self) -> float:
        """CPU seconds of all its processes from `work_began` to `work_ended`; 0 unless noted."""
        return self.meter.between(self.work_began, self.work_ended) if self.meter else 0.0

    @property
    def predictors_cpu(self) -> float:
        return sum(call.cpu for call in self.calls)

    @property
    def seconds_to_first_tile(self) -> float:
        """From the command to the network's first answer that belongs to the run's own work."""
        return self.calls[0].ended - self.command


class EndedError(RuntimeError):
    """A run that did not end well, and its exit code."""

    def __init__(self, command: Sequence[str], code: int) -> None:
        super().__init__(f"{' '.join(command)} ended with {code}")
        self.code = code


NO_TRIALS = {"budget": 0}
"""`gate` of jobs whose speed has nothing to do with the network's."""


def write_job(path: Path, **settings: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


def batchseg(
    job: Path, output: Path | str, *options: str, noted: bool = True, environment: Mapping[str, str] = {}
) -> Run:
    """`batchseg run JOB` into a new output.

    Args:
        job: the job file.
        output: a folder that is not there, or a bucket's.
        options: more of the command line.
        noted: whether uses of the network are noted, a profile is written and CPU seconds are read.
        environment: more variables.

    Raises:
        EndedError: the run did not end well.
    """
    notes = job.with_name(f"{job.stem}.calls")
    notes.unlink(missing_ok=True)
    inside = {
        "BENCHMARK_SESSIONS": str(notes),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(INSIDE), os.environ.get("PYTHONPATH", "")])),
    }
    script = str(Path(sys.executable).with_name("batchseg"))
    command = [script, "run", str(job), "--quiet", "--set", f"output={output}", *options]
    command += ["--profile"] * noted
    began = time.time()
    process = subprocess.Popen(command, env={**os.environ, **(inside if noted else {}), **environment})
    meter = CpuMeter(process.pid) if noted else None
    if process.wait() != 0:
        raise EndedError(command, process.returncode)
    ended = time.time()
    if meter:
        meter.end()
    folder = _run_folder(str(output), job)
    summary, log = json.loads(_read(folder, "summary.json")), _read(folder, "log.txt").decode()
    work_began = plan_moment(log)
    calls = tuple(call for call in read_calls(notes) if call.began >= work_began)
    return Run(
        command=began,
        seconds=ended - began,
        summary=summary,
        work_began=work_began,
        calls=calls,
        bars=read_bars(json.loads(_read(folder, "profile.json")), began) if noted else (),
        meter=meter,
    )


def run_afresh(job: Path, *options: str, **more: Any) -> Run:
    """A run into an empty folder beside the job, which is removed after it."""
    output = job.parent / "results"
    shutil.rmtree(output, ignore_errors=True)
    try:
        return batchseg(job, output, *options, **more)
    finally:
        shutil.rmtree(output, ignore_errors=True)


def own_cache(folder: Path) -> dict[str, str]:
    """Variables by which runs keep what they make and learn of models in a folder's own, empty cache."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    return {"BATCHSEG_MODEL_CACHE": str(folder / "cache")}


def _run_folder(output: str, job: Path) -> str:
    """Of the one run of an output."""
    from batchseg.system import listing
    from batchseg.system.location import join

    folder = join(output if "://" in output else str(job.parent / output), "_batchseg", "runs")
    (summary,) = (info.uri for info in listing.list_below(folder) if info.uri.endswith("/summary.json"))
    return summary.rpartition("/")[0]


def _read(folder: str, name: str) -> bytes:
    from batchseg.system import fetch
    from batchseg.system.location import join

    return fetch.read_bytes(join(folder, name))


def read_bars(events: Sequence[Mapping[str, Any]], command: float) -> tuple[Bar, ...]:
    """Bars of a profile's document, whose times count from a `command`, seconds of the epoch."""
    bars = (
        Bar(
            step=event["name"],
            role=event["cat"],
            began=command + event["ts"] / 1e6,
            ended=command + (event["ts"] + event["dur"]) / 1e6,
        )
        for event in events
        if event["ph"] == "X"
    )
    return tuple(sorted(bars, key=lambda bar: bar.began))


def plan_moment(log: str) -> float:
    """Seconds of the epoch of the line that says how much there is to do: from here a run counts its work.

    >>> plan_moment("1970-01-02 00:00:00,250 r INFO x\\n1970-01-02 00:00:01,500 r INFO 1 scenes, 2 tiles, "
    ...     "0.5 Mpx to do") - datetime(1970, 1, 2).timestamp()
    1.5
    """
    line = next(line for line in log.splitlines() if re.search(r"(scenes?, .*px|photographs?) to do", line))
    if (stamp := STAMP.match(line)) is None:
        msg = f"expected a log's line that begins with its time, found {line!r}"
        raise ValueError(msg)
    return datetime.strptime(stamp[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()


def read_calls(path: Path) -> list[Call]:
    if not path.exists():
        return []
    rows = (line.split() for line in path.read_text().splitlines())
    calls = [Call(process=int(p), began=float(b), ended=float(e), cpu=float(c)) for p, b, e, c in rows]
    return sorted(calls, key=lambda call: call.ended)


class CpuMeter(threading.Thread):
    """CPU seconds of a process and all that descend from it, sampled; processes that ended keep theirs.

    A sample reads the family and what is new: 1 % of a core. What a process does after its last sample is not
    seen, nor one that lives for less than `SAMPLE_SECONDS`.
    """

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._root = process
        self._known: dict[tuple[int, str], float] = {}
        """By id and start: of a new process that has another's id too."""
        self._kinds: dict[tuple[int, str], ProcessKind] = {}
        """As they were seen last: a worker has its name some time after its start."""
        self._family, self._strangers, self._ended = {process}, set[int](), threading.Event()
        self._moments: list[float] = [time.time()]
        self._samples: list[dict[tuple[int, str], float]] = [{}]
        self.start()

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            for process, state in self._look().items():
                self._known[process, state.born] = state.cpu
                self._kinds[process, state.born] = self._kind(process, state.name)
            self._moments.append(time.time())
            self._samples.append(dict(self._known))

    def end(self) -> None:
        self._ended.set()
        self.join()

    def between(self, first: float, last: float, kind: ProcessKind | None = None) -> float:
        """CPU seconds between two moments, seconds of the epoch; read off the line between samples."""
        return self._at(last, kind) - self._at(first, kind)

    def _at(self, moment: float, kind: ProcessKind | None) -> float:
        after = min(max(bisect_left(self._moments, moment), 1), len(self._moments) - 1)
        left, right = self._moments[after - 1], self._moments[after]
        share = min(max((moment - left) / (right - left), 0.0), 1.0) if right > left else 1.0
        before, behind = (
            sum(cpu for key, cpu in self._samples[number].items() if kind in (None, self._kinds[key]))
            for number in (after - 1, after)
        )
        return before + share * (behind - before)

    def _look(self) -> dict[int, "_State"]:
        """The family's processes that live."""
        living = {int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()}
        self._strangers &= living  # a new process may have an old one's id
        states = {pid: state for pid in living - self._strangers if (state := _state_of(pid)) is not None}
        grown = True
        while grown:
            more = {pid for pid, state in states.items() if state.parent in self._family} - self._family
            self._family |= more
            grown = bool(more)
        self._strangers |= states.keys() - self._family
        return {pid: state for pid, state in states.items() if pid in self._family}

    def _kind(self, process: int, name: str) -> ProcessKind:
        if process == self._root:
            return "driver"
        return "workers" if name.startswith(("ray::", TITLE)) else "ray"


@dataclass(frozen=True, slots=True)
class _State:
    """Of /proc/PID/stat."""

    name: str
    parent: int
    born: str
    cpu: float


def _state_of(process: int) -> _State | None:
    """None: it has ended."""
    try:
        before, _, behind = Path("/proc", str(process), "stat").read_text().rpartition(")")
    except OSError:
        return None
    words = behind.split()
    cpu = (int(words[11]) + int(words[12])) / TICK
    return _State(name=before.partition("(")[2], parent=int(words[1]), born=words[19], cpu=cpu)
