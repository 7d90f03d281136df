"""Runs that meet on one output, and outputs that somebody changed: what the campaign does often, once."""

import signal
import time

import pytest

from faults.commands import run, said, start, wait_for
from faults.context import Context
from faults.rivals import LIMIT_SECONDS, STALE, Bench, _state, _workload
from faults.workload import place


@pytest.mark.slow
def test_a_sleeper_whose_scratch_is_gone_says_who_took_over(tmp_path, models):
    """Stopped before its first mask: its successor removes what it was making, and does the work."""
    (tmp_path / "rivals").mkdir()
    (tmp_path / "rivals" / "models").symlink_to(models)
    context = Context(work=tmp_path)
    workload = _workload(context, "disk")
    job = workload.job("out", inputs=str(workload.folder / "in" / "scene-00.tif"), regions=False)
    with place() as first, place() as second:
        sleeper = start(first, "run", job, "--quiet", stale=STALE, stop="masks/:1")
        assert wait_for(lambda: _state(sleeper.pid) in "TZ", LIMIT_SECONDS)
        time.sleep(STALE + 1)
        assert run(second, "run", job, "--quiet", stale=STALE) == 0
        done = workload.outcome("out")
        sleeper.send_signal(signal.SIGCONT)
        assert sleeper.wait(LIMIT_SECONDS) == 5
        assert "another run took" in said(first)
        assert workload.outcome("out") == done


@pytest.mark.slow
@pytest.mark.parametrize("part", ["together", "suspended", "stale", "changed", "damaged"])
def test_nothing_is_lost_between_rivals(tmp_path, part):
    for trial in getattr(Bench(Context(work=tmp_path, times=1), "disk"), part)():
        assert trial.kept_promises, str(trial)
