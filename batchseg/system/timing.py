"""When a step ran, on which process: what a profile is drawn from, and what bounded a run."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Role = Literal["driver", "predictor", "reader", "writer", "finisher"]

MOST_SPANS = 24
"""Of one lease in a profile: a night of 2 s leases is 50 MB per predictor then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One step, once. Times of time.monotonic(), which all processes of a Linux host share."""

    step: str
    started: float
    seconds: float
    cpu_seconds: float = 0.0
    """Of the thread that did it; 0 where no profile was asked for."""

    @property
    def ended(self) -> float:
        return self.started + self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Stint:
    """What one thread did of a lease, a group or a finish: spans in their order, which do not overlap."""

    role: Role
    host: str
    pid: int
    thread: int
    """The system's number, unique on the host."""
    clock: float
    """time.time() less time.monotonic() there: what makes times of several hosts comparable."""
    spans: tuple[Span, ...]

    def shift(self, host: str, clock: float) -> float:
        """Seconds to add to its times to have them by the time.monotonic() of another host."""
        return 0.0 if self.host == host else self.clock - clock

    @property
    def started(self) -> float:
        return min(span.started for span in self.spans)

    @property
    def ended(self) -> float:
        return max(span.ended for span in self.spans)


def host_clock() -> tuple[str, float]:
    """This host, and its clock as in `Stint`."""
    return socket.gethostname(), time.time() - time.monotonic()


class Stopwatch:
    """Times the steps of one thread.

    Args:
        role: of the process.
        profiled: keep a span of each step with its CPU time; else there is one, from the first to the last.
        cpu: seconds of CPU so far; of the process, where a step's work is done by threads of a library.
    """

    def __init__(
        self, role: Role, *, profiled: bool = False, cpu: Callable[[], float] = time.thread_time
    ) -> None:
        self._role, self._profiled, self._cpu = role, profiled, cpu
        self._began = time.monotonic()
        self._spans: list[Span] = []
        self.seconds: dict[str, float] = {}
        """Per step, summed."""

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        cpu = self._cpu() if self._profiled else 0.0
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        if self._profiled:
            used = self._cpu() - cpu
            self._spans.append(Span(step=name, started=started, seconds=seconds, cpu_seconds=used))

    def stint(self, whole: str) -> Stint:
        """All of it. `whole` names the one span of a stint that is not profiled."""
        now = time.monotonic()
        spans: Sequence[Span] = self._spans
        if not spans:
            spans = (Span(step=whole, started=self._began, seconds=now - self._began),)
        host, clock = host_clock()
        return Stint(
            role=self._role,
            host=host,
            pid=os.getpid(),
            thread=threading.get_native_id(),
            clock=clock,
            spans=thinned(spans),
        )


def thinned(spans: Sequence[Span], most: int = MOST_SPANS) -> tuple[Span, ...]:
    """At most about `most` spans with the same sums.

    Neighbours are put together, step by step: a bar is then as long as its step took among them, and stands
    at most their time from where it was.
    """
    if len(spans) <= most:
        return tuple(spans)
    steps = len({span.step for span in spans})
    parts = max(1, most // steps)
    bounds = [len(spans) * part // parts for part in range(parts + 1)]
    return tuple(span for first, last in pairwise(bounds) for span in _together(spans[first:last]))


def _together(spans: Sequence[Span]) -> Iterator[Span]:
    at = spans[0].started
    for step in dict.fromkeys(span.step for span in spans):
        same = [span for span in spans if span.step == step]
        seconds = sum(span.seconds for span in same)
        yield Span(step=step, started=at, seconds=seconds, cpu_seconds=sum(span.cpu_seconds for span in same))
        at += seconds
