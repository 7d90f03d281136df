"""When steps ran."""

import threading
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.system.timing import Span, Stopwatch, host_clock, thinned


def spans_of(seconds: list[tuple[str, float, float]]) -> list[Span]:
    """One after the other, each after a pause."""
    at, spans = 100.0, []
    for step, pause, length in seconds:
        spans.append(Span(step=step, started=at + pause, seconds=length, cpu_seconds=length / 2))
        at += pause + length
    return spans


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2), st.floats(0, 5)), max_size=80),
    st.integers(3, 30),
)
def test_thinned_spans_keep_order_and_sums(seconds, most):
    spans = spans_of(seconds)
    fewer = thinned(spans, most)
    assert len(fewer) <= max(most, 3)
    for one, other in pairwise(fewer):
        assert one.ended <= other.started + 1e-9
    for step in "abc":
        for what in ("seconds", "cpu_seconds"):
            sums = [sum(getattr(s, what) for s in part if s.step == step) for part in (spans, fewer)]
            assert sums[0] == pytest.approx(sums[1])
    if spans:
        assert fewer[0].started == spans[0].started
        assert fewer[-1].ended <= spans[-1].ended + 1e-9


def test_a_watch_tells_steps_apart_only_where_it_is_asked() -> None:
    for profiled in (False, True):
        watch = Stopwatch("reader", profiled=profiled)
        took = {"one": 0.0, "two": 0.0}
        for step in ("one", "two", "one"):
            began = time.monotonic()
            with watch.step(step):
                time.sleep(0.001)
            took[step] += time.monotonic() - began
        assert all(0.0009 < watch.seconds[step] <= took[step] for step in took)
        stint = watch.stint("whole")
        assert [span.step for span in stint.spans] == (["one", "two", "one"] if profiled else ["whole"])
        assert (stint.thread, stint.host) == (threading.get_native_id(), host_clock()[0])


def test_cpu_is_that_of_the_thread_while_it_works() -> None:
    watch = Stopwatch("reader", profiled=True)
    with watch.step("sleeps"):
        time.sleep(0.05)
    with watch.step("works"):
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass
    sleeps, works = watch.stint("").spans
    assert sleeps.cpu_seconds < 0.01 < 0.02 <= works.cpu_seconds <= works.seconds + 0.01


def test_times_of_another_host_are_shifted_by_its_clock() -> None:
    host, clock = host_clock()
    stint = Stopwatch("writer").stint("write")
    assert stint.shift(host, clock + 5) == 0.0
    assert replace(stint, host="other", clock=clock + 30).shift(host, clock) == pytest.approx(30.0)
