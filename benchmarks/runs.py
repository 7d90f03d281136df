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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

INSIDE = Path(__file__).parent / "inside"

TICK = os.sysconf("SC_CLK_TCK")

SAMPLE_SECONDS = 0.1

STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One use of a network: seconds of the epoch, and CPU seconds of its process."""

    process: int
    began: float
    ended: float
    cpu: float


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
    cpu: float
    """CPU seconds of all its processes from `work_began` to the last mask and table in their places; 0 unless
    noted."""

    @property
    def work_seconds(self) -> float:
        """After start-up, the tail included; Ray's shutdown is not."""
        return float(self.summary["seconds_after_start"])

    @property
    def predictors_cpu(self) -> float:
        return sum(call.cpu for call in self.calls)


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
        noted: whether uses of the network are noted and CPU seconds read, which takes 5 % of a core.
        environment: more variables.
    """
    notes = job.with_name(f"{job.stem}.calls")
    notes.unlink(missing_ok=True)
    inside = {
        "BENCHMARK_SESSIONS": str(notes),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(INSIDE), os.environ.get("PYTHONPATH", "")])),
    }
    script = str(Path(sys.executable).with_name("batchseg"))
    command = [script, "run", str(job), "--quiet", "--set", f"output={output}", *options]
    began = time.time()
    process = subprocess.Popen(command, env={**os.environ, **(inside if noted else {}), **environment})
    meter = CpuMeter(process.pid) if noted else None
    if process.wait() != 0:
        msg = f"{' '.join(command)} ended with {process.returncode}"
        raise RuntimeError(msg)
    ended = time.time()
    if meter:
        meter.end()
    summary, log = _documents(str(output), job)
    work_began = plan_moment(log)
    calls = tuple(call for call in read_calls(notes) if call.began >= work_began)
    return Run(
        command=began,
        seconds=ended - began,
        summary=summary,
        work_began=work_began,
        calls=calls,
        cpu=meter.between(work_began, work_began + summary["seconds_after_start"]) if meter else 0.0,
    )


def run_afresh(job: Path, *options: str, **more: Any) -> Run:
    """A run into an empty folder beside the job, which is removed after it."""
    output = job.parent / "results"
    shutil.rmtree(output, ignore_errors=True)
    try:
        return batchseg(job, output, *options, **more)
    finally:
        shutil.rmtree(output, ignore_errors=True)


def _documents(output: str, job: Path) -> tuple[Mapping[str, Any], str]:
    """Summary and log of the one run of an output."""
    from batchseg.system import fetch, listing
    from batchseg.system.location import join

    folder = join(output if "://" in output else str(job.parent / output), "_batchseg", "runs")
    (summary,) = (info.uri for info in listing.list_below(folder) if info.uri.endswith("/summary.json"))
    log = join(summary.rpartition("/")[0], "log.txt")
    return json.loads(fetch.read_bytes(summary)), fetch.read_bytes(log).decode()


def plan_moment(log: str) -> float:
    """Seconds of the epoch of the line that says how much there is to do: from here a run counts its work.

    >>> plan_moment("1970-01-02 00:00:00,250 r INFO x\\n1970-01-02 00:00:01,500 r INFO 1 scenes, 2 tiles, "
    ...     "0.5 Mpx to do") - datetime(1970, 1, 2).timestamp()
    1.5
    """
    line = next(line for line in log.splitlines() if re.search(r"(scenes, .*Mpx|photographs) to do", line))
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
    """CPU seconds of a process and all that descend from it, sampled; processes that ended keep theirs."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._known: dict[tuple[int, str], float] = {}
        self._family, self._ended = {process}, threading.Event()
        self._moments: list[float] = [time.time()]
        self._totals: list[float] = [0.0]
        self.start()

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            for process, parent, born, seconds in _processes():
                if parent in self._family:
                    self._family.add(process)
                if process in self._family:
                    self._known[process, born] = seconds
            self._moments.append(time.time())
            self._totals.append(sum(self._known.values()))

    def end(self) -> None:
        self._ended.set()
        self.join()

    def between(self, first: float, last: float) -> float:
        """CPU seconds between two moments, seconds of the epoch; read off the line between samples."""
        return self._at(last) - self._at(first)

    def _at(self, moment: float) -> float:
        after = min(max(bisect_left(self._moments, moment), 1), len(self._moments) - 1)
        left, right = self._moments[after - 1], self._moments[after]
        share = min(max((moment - left) / (right - left), 0.0), 1.0) if right > left else 1.0
        return self._totals[after - 1] + share * (self._totals[after] - self._totals[after - 1])


def _processes() -> Iterator[tuple[int, int, str, float]]:
    """Id, parent's id, when it was started, and CPU seconds of every process, parents before children."""
    for entry in sorted((e for e in os.scandir("/proc") if e.name.isdigit()), key=lambda e: int(e.name)):
        try:
            text = Path(entry.path, "stat").read_text()
        except OSError:
            continue
        words = text.rpartition(")")[2].split()
        yield int(entry.name), int(words[1]), words[19], (int(words[11]) + int(words[12])) / TICK
