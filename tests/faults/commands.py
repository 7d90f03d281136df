"""The console script in processes of their own, what they start, and what they leave behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchseg.driver.executors.processes.child import TITLE

BATCHSEG = str(Path(sys.executable).with_name("batchseg"))
INJECT = Path(__file__).parent / "inject"
REPOSITORY = Path(__file__).parents[2]

ROLES = {
    "driver": ("bin/batchseg",),
    "predictor": ("ray::PredictorActor", TITLE),
    "finisher": ("ray::finish",),
    "raylet": ("raylet/raylet",),
    "head": ("gcs_server",),
}
"""Processes of a run by a part of their command line, or by their title. Ray names a worker after what it
does just now, and `ray::IDLE` between two tasks."""


def marked(mark: str, *parts: str) -> list[int]:
    """All living processes with FAULT_MARK in their environment whose command line or title has one of the
    parts, if there are any."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            is_marked = f"FAULT_MARK={mark}".encode() in (entry / "environ").read_bytes()
            called = (entry / "cmdline").read_bytes().replace(b"\0", b" ") + (entry / "comm").read_bytes()
            if is_marked and any(part.encode() in called for part in parts or ("",)):
                found.append(int(entry.name))
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trial's runs have their temporary files, and the mark by which their processes are found."""

    folder: Path
    """At most 20 characters, or Ray's sockets go elsewhere."""
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def environment(self, **settings: object) -> dict[str, str]:
        """Of a run: faults of inject/sitecustomize.py by name, `count` being on already."""
        named = {f"FAULT_{key.upper()}": str(value) for key, value in settings.items()}
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(INJECT), str(REPOSITORY))),
            "TMPDIR": str(self.folder),
            "BATCHSEG_MODEL_CACHE": os.environ.get("BATCHSEG_MODEL_CACHE", "/tmp/batchseg-faults-cache"),
            "FAULT_COUNT": str(self.count_path),
            "FAULT_MARK": self.mark,
            **named,
        }

    @property
    def count_path(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-count")

    def predicted(self) -> Counter[str]:
        """How often each tile was predicted: `row col source id`."""
        path = self.count_path
        return Counter(path.read_text().splitlines()) if path.exists() else Counter()

    def processes(self, *parts: str) -> list[int]:
        """As `marked`, of this trial."""
        return marked(self.mark, *parts)

    def left_files(self) -> list[str]:
        """What lies in the temporary folder, and open or dead shared memory."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.iterdir())


def start(
    place: Place, *arguments: object, within: Sequence[str] = (), **faults: object
) -> subprocess.Popen[str]:
    """`batchseg ARGUMENTS`, run by the command `within`; both streams go to one file, which `said` reads."""
    log = place.folder.with_name(f"{place.folder.name}-log")
    with log.open("a") as file:
        return subprocess.Popen(
            [*within, BATCHSEG, *map(str, arguments)],
            env=place.environment(**faults),
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def said(place: Place) -> str:
    """All that the trial's commands printed."""
    path = place.folder.with_name(f"{place.folder.name}-log")
    return path.read_text() if path.exists() else ""


def run(place: Place, *arguments: object, timeout: float = 600, **faults: object) -> int:
    """The exit code; -9 and an end by force where it did not end in time, which no run may need."""
    process = start(place, *arguments, **faults)
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        kill(place.processes())
        process.wait()
        return -int(signal.SIGKILL)


def kill(pids: list[int], how: int = signal.SIGKILL) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
