"""A profile of a run: every step on its process's row, in the Chrome trace-event format, and CPU per step.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: an array of events, here one
per line, so that the file of a run that was killed can still be read (the closing bracket may be missing).
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from batchseg.driver.events import (
    Committed,
    Event,
    GroupDone,
    PhaseStarted,
    PlanReady,
    SceneDone,
    ShardsDone,
    WorkEnded,
)
from batchseg.output.publish import output_errors
from batchseg.system.machine import cpu_seconds_of_tree, process_began
from batchseg.system.timing import Span, Stint, host_clock


class Timeline:
    """Writes events' spans as they come. A full disk costs bars, never the run.

    Args:
        path: of the file, on this machine.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._host, self._clock = host_clock()
        self._began = process_began()
        self._rows: dict[tuple[Any, ...], tuple[int, int]] = {}
        self._hosts: dict[str, int] = {}
        self._phase: tuple[str, float] = ("starting Python", self._began)
        self._cpu: dict[str, float] = {}
        self._tree: list[float] = []
        """CPU seconds of all processes at the first lease and at the end of the work."""
        with output_errors("write", str(path)):
            path.write_text("[\n", encoding="utf-8")

    def __call__(self, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            self._end_phase(event.text)
        elif isinstance(event, PlanReady):
            self._end_phase("")
            self._tree.append(cpu_seconds_of_tree())
        elif isinstance(event, ShardsDone):
            shards = " ".join(f"{row},{col}" for row, col in event.windows)
            self._add(event.stints, {"scene": event.source_id, "shards": shards, "lease": event.lease})
        elif isinstance(event, GroupDone):
            self._add(event.stints, {"photographs": event.images})
        elif isinstance(event, SceneDone):
            self._add(event.stints, {"scene": event.source_id})
        elif isinstance(event, Committed):
            self._add((event.stint,), {"records": event.records})
        elif isinstance(event, WorkEnded):
            self._tree.append(cpu_seconds_of_tree())
            self._end_phase("ending")

    def close(self) -> None:
        """End the file."""
        self._end_phase("")
        end = {"name": "end", "ph": "i", "s": "g", "pid": 1, "tid": 0}
        self._write([{**end, "ts": self._microseconds(time.monotonic())}])
        with contextlib.suppress(OSError), self._path.open("rb+") as f:
            f.seek(-2, 2)  # the last comma
            f.write(b"\n]\n")

    @property
    def cpu_seconds(self) -> Mapping[str, float]:
        """Per step, of the threads that did it; `all_processes`: of this one and those that it started, from
        the first lease to the end of the work, whatever they did. Other hosts' are not among them."""
        steps = {step: seconds for step, seconds in self._cpu.items() if seconds}
        if len(self._tree) == 2:
            steps["all_processes"] = self._tree[1] - self._tree[0]
        return steps

    def _end_phase(self, following: str) -> None:
        text, since = self._phase
        now = time.monotonic()
        if text:
            span = Span(step=text, started=since, seconds=now - since)
            self._add((self._own(span),), {})
        self._phase = (following, now)

    def _own(self, span: Span) -> Stint:
        """Of this thread: the driver's, which also commits."""
        return Stint(
            role="driver",
            host=self._host,
            pid=0,
            thread=threading.get_native_id(),
            clock=self._clock,
            spans=(span,),
        )

    def _add(self, stints: Iterable[Stint], about: Mapping[str, Any]) -> None:
        entries: list[dict[str, Any]] = []
        for stint in stints:
            pid, tid = self._row(stint, entries)
            shift = stint.shift(self._host, self._clock)
            for span in stint.spans:
                begun = self._microseconds(span.started + shift)
                used = {"cpu_ms": round(1e3 * span.cpu_seconds, 3)} if span.cpu_seconds else {}
                self._cpu[span.step] = self._cpu.get(span.step, 0.0) + span.cpu_seconds
                entries.append(
                    {
                        "name": span.step,
                        "cat": stint.role,
                        "ph": "X",
                        "pid": pid,
                        "tid": tid,
                        "ts": begun,
                        "dur": self._microseconds(span.ended + shift) - begun,
                        "args": {**about, **used},
                    }
                )
        self._write(entries)

    def _row(self, stint: Stint, entries: list[dict[str, Any]]) -> tuple[int, int]:
        """Process and thread number of the format: here the host, and a thread with its role."""
        key = (stint.host, stint.thread, stint.role)
        if key not in self._rows:
            if stint.host not in self._hosts:
                self._hosts[stint.host] = len(self._hosts) + 1
                entries.append(_named("process_name", self._hosts[stint.host], 0, stint.host))
            self._rows[key] = (self._hosts[stint.host], len(self._rows) + 1)
            name = stint.role if stint.role == "driver" else f"{stint.role} {stint.pid}"
            entries.append(_named("thread_name", *self._rows[key], name))
        return self._rows[key]

    def _microseconds(self, at: float) -> int:
        """Since the command was given."""
        return int(1e6 * (at - self._began))

    def _write(self, entries: Iterable[Mapping[str, Any]]) -> None:
        lines = "".join(json.dumps(entry) + ",\n" for entry in entries)
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as f:
            f.write(lines)


def _named(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}
